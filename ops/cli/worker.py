"""``worker``: run tasks for a gateway, here or elsewhere.

It needs the gateway's store (its settings) and the engine's socket of this host, and reaches the gateway by
``[sandbox] gateway_url``. SIGTERM drains: no more attempts are taken, those that run may finish within
``[server] drain_s``; what still runs then goes on in its container and is adopted by the next start.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.cli.options import config_option
from ops.cli.session import settings_of


@click.command()
@config_option
@click.option("--name", help="The same at every start on this host; default: made of its name and [sandbox] folder.")
def worker(config: Path | None, name: str | None) -> None:
    """Run tasks in containers until SIGTERM or SIGINT."""
    settings = settings_of(config)
    from ops.house_sandbox import run_worker  # only this command opens the engine
    from ops.stop import Stop

    sys.exit(run_worker(settings, name, Stop.on_signals))
