"""A faithful stand-in for the Codex backend and its OAuth issuer."""
