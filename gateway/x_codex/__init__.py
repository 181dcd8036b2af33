"""Synchronous runs: one call of the Responses API that the Codex CLI answers from a container."""
