"""``python -m ops.cli`` is ``codex-relay``."""

from __future__ import annotations

from ops.cli import main

main()
