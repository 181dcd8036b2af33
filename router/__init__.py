"""Which account, and is it well. No network."""
