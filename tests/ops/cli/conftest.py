"""The command line as a user runs it, on a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops.cli.root import root


@dataclass(slots=True)
class Cli:
    """Runs commands with the store and the key below ``folder``."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0, stdin: str | bytes = "") -> Result:
        result = CliRunner().invoke(root, list(arguments), env=self.environment, input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *arguments: str, code: int = 0, stdin: str | bytes = "") -> Any:
        return json.loads(self.run(*arguments, "--json", code=code, stdin=stdin).stdout)


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    def make(**environment: str) -> Cli:
        base = {
            "CODEX_RELAY_STORE__URL": f"sqlite:///{tmp_path}/data/relay.db",
            "CODEX_RELAY_VAULT__KEY_FILE": f"{tmp_path}/data/vault.key",
        }
        return Cli(tmp_path, base | environment)

    return make


@pytest.fixture
def cli(make_cli: Callable[..., Cli]) -> Cli:
    return make_cli()
