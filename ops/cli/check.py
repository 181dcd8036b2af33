"""``doctor`` and ``config``: is it set up well, before anything is started."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import click

from ops.cli.options import common, config_option
from ops.cli.output import data, fail, say, table
from ops.cli.session import settings_of
from ops.clock import SystemClock
from ops.house_store import keys_of
from ops.settings import config_path
from store.errors import StoreError


@click.command()
@common
def doctor(config: Path | None, *, as_json: bool) -> None:
    """Check configuration, key, store, accounts, network and machine; name the fix."""
    from ops.doctor import examine  # httpx and x509 are for this command alone
    from ops.findings import Status

    settings = settings_of(config)
    try:
        keys = keys_of(settings)
    except StoreError as error:
        fail(str(error))
    findings = asyncio.run(examine(settings, keys, SystemClock()))
    if as_json:
        data([asdict(finding) for finding in findings])
    else:
        rows = [(one.status.value, one.name, one.message) for one in findings]
        table(("", "check", "finding"), rows, widest=160)
        for finding in findings:
            if finding.fix:
                say(f"{finding.name}: {finding.fix}")
    failed = sum(finding.status is Status.FAIL for finding in findings)
    if failed:
        sys.exit(1)


@click.group()
def config() -> None:
    """The configuration file."""


@config.command("check")
@config_option
def check(config: Path | None) -> None:
    """Read the file and the environment as the gateway would, and say what is wrong."""
    settings_of(config)
    found = config_path(config)
    say(f"{found or 'built-in defaults'}: fine")


@config.command("example")
def example() -> None:
    """Print config.example.toml: every setting with its default."""
    from ops.config_docs import example_toml

    click.echo(example_toml(), nl=False)
