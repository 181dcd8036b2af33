"""The tree of commands, put together from one file per noun."""

from __future__ import annotations

import sys
from typing import Any

import click
import structlog

from ops.cli.accounts import accounts
from ops.cli.admins import admins
from ops.cli.audit import audit
from ops.cli.backup import backup, restore
from ops.cli.check import config, doctor
from ops.cli.codex import cloud, codex
from ops.cli.envs import envs
from ops.cli.keys import keys
from ops.cli.run import demo, serve, simulator
from ops.cli.sandbox import sandbox
from ops.cli.tasks import tasks
from ops.cli.tenants import tenants
from ops.cli.vault import vault
from ops.cli.worker import worker
from ops.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="codex-relay")
def root() -> None:
    """One door for many Codex accounts."""
    if not structlog.is_configured():  # a gateway configures its own; a command's standard output is for data alone
        structlog.configure(logger_factory=_to_standard_error)


def _to_standard_error(*_: Any) -> structlog.PrintLogger:
    return structlog.PrintLogger(sys.stderr)


_PROCESSES = (serve, demo, simulator, doctor, config, sandbox, worker)
_RECORDS = (accounts, tenants, keys, admins, audit, vault, backup, restore)
_REMOTE = (codex, cloud, tasks, envs)
for _command in (*_PROCESSES, *_RECORDS, *_REMOTE):
    root.add_command(_command)
