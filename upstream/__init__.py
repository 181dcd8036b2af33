"""How to speak to the Codex backend. Knows no account policy."""
