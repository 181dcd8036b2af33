"""The command line: ``codex-relay``. A file per noun; every command is thin and opens the store only if it needs it.

Exit codes: 0 done, 1 failed (one line with the cause and the next step), 2 used wrongly. Data goes to standard
output (``--json`` for scripts), messages to standard error. No command prints a token, and a client key is printed
once, when it is made.
"""

from __future__ import annotations

from ops.cli.root import root


def main() -> None:
    """The console script."""
    root(prog_name="codex-relay")
