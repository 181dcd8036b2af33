"""``codex`` and ``cloud``: what is said before anything is started. The runs themselves: tests/real."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.cli.root import root

NOBODY = "http://127.0.0.1:9"


def run(*arguments: str, code: int, **environment: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith("CODEX_")}
    result = CliRunner().invoke(root, list(arguments), env={**clean, **environment})
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "codex"
    path.write_text(f"#!{sys.executable}\nprint('started')\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("command", ["codex", "cloud"])
def test_a_program_that_is_not_there_is_said_with_the_line_that_installs_it(command: str) -> None:
    result = run(command, "--url", NOBODY, "--codex", "nope-codex", "--", "exec", code=1, CODEX_RELAY_KEY="at-cr-a-b")
    assert "npm install -g @openai/codex" in result.stderr


def test_a_gateway_that_is_away_starts_nothing(program: str) -> None:
    result = run("codex", "--url", NOBODY, "--codex", program, "--", "exec", code=1, CODEX_RELAY_KEY="at-cr-a-b")
    assert f"cannot reach the gateway at {NOBODY}" in result.stderr
    assert "started" not in result.output


def test_without_a_key_it_is_said_where_keys_come_from(program: str) -> None:
    result = run("codex", "--url", NOBODY, "--codex", program, "--", "exec", code=1)
    assert "codex-relay keys create" in result.stderr


def test_an_address_that_is_none_is_wrong_use(program: str) -> None:
    for url in ("ftp://x", "relay.example", "http://user:pw@relay.example", "https://"):
        run("codex", "--url", url, "--codex", program, "--", "exec", code=2, CODEX_RELAY_KEY="at-cr-a-b")


def test_its_own_options_stand_before_the_double_dash_and_everything_behind_it_is_the_childs() -> None:
    result = run("codex", "--codex", "nope-codex", "--url", NOBODY, "--", "--help", code=1, CODEX_RELAY_KEY="k")
    assert "there is no program 'nope-codex'" in result.stderr
