"""Who may call, and with what credential we call."""
