"""Agentic tasks: the real Codex CLI in containers, as a client of the relay like any other.

A stranger to router and upstream: a task's model traffic comes back through the front door with a short-lived key.
"""
