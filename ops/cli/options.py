"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The TOML file (default: $CODEX_RELAY_CONFIG, then ./config.toml if it is there).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def common(function: F) -> F:
    """``--config`` and ``--json``."""
    return config_option(json_option(function))


def confirm(question: str, *, yes: bool) -> None:
    """Asks unless ``yes``; anything but a yes ends the command with exit code 1."""
    if not yes:
        click.confirm(question, abort=True, err=True)
