"""``sandbox``: what is said when it cannot be done. That it can is proven on a real engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli.root import root


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "config.toml"
    file.write_text(f'[sandbox]\nengine_url = "unix://{tmp_path}/no.sock"\nimage = "codex-relay/agent:1"\n')
    return str(file)


def test_a_check_without_an_engine_says_what_to_do(config: str) -> None:
    done = CliRunner().invoke(root, ["sandbox", "check", "--config", config])
    assert done.exit_code == 1
    assert "does not answer" in done.output
    assert "engine_url" in done.output


def test_a_build_without_a_codex_says_what_to_do(config: str) -> None:
    done = CliRunner().invoke(root, ["sandbox", "build", "--config", config, "--codex", "/etc"])
    assert done.exit_code == 1
    assert "npm install @openai/codex" in done.output


def test_a_codex_that_is_no_path_is_wrong_use(config: str) -> None:
    assert CliRunner().invoke(root, ["sandbox", "build", "--config", config, "--codex", "/no/where"]).exit_code == 2
