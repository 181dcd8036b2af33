"""``serve``, ``demo`` and ``simulator``: the commands that stay up."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.cli.options import config_option
from ops.cli.session import settings_of


@click.command()
@config_option
@click.option("--host", help="Instead of [server] host.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Instead of [server] port; 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Instead of [server] workers.")
def serve(config: Path | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    settings = settings_of(config)
    from ops.main import serve as run  # only this command needs the whole house

    sys.exit(run(settings, host, port, workers))


@click.command()
@click.option("--once", is_flag=True, help="Stream one request through and end.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port of the gateway; default: a free one.")
def demo(*, once: bool, port: int) -> None:
    """Simulator, gateway and three simulated accounts; prints base_url and key."""
    from ops.demo import run

    sys.exit(run(once=once, port=port))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=18_100, show_default=True)
@click.option("--tls", is_flag=True, help="Serve https with a certificate made for this run.")
def simulator(host: str, port: int, *, tls: bool) -> None:
    """The stand-in for the Codex backend and its OAuth issuer, alone."""
    from ops.simulator import serve as run

    run(host, port, tls)
