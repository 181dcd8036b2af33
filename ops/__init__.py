"""Ground floor (clock, log, redact, metrics, trace, audit) and roof (settings, main, cli, simulator)."""
