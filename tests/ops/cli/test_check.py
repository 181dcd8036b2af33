"""``doctor`` and ``config`` as a user runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ops.config_docs import example_toml
from ops.simulator import running_simulator
from tests.ops.cli.conftest import Cli


def test_the_example_is_printed_as_generated(cli: Cli) -> None:
    assert cli.run("config", "example").stdout == example_toml()


def test_a_wrong_setting_is_one_line_that_names_it_and_the_fix(cli: Cli) -> None:
    file = cli.folder / "config.toml"
    for text, name in (
        ("[server]\nport = 'x'\n", "server.port"),
        ("[server]\nprot = 1\n", "server.prot"),
        ("[nowhere]\na = 1\n", "nowhere"),
        ("not toml", "config.toml"),
    ):
        file.write_text(text)
        for command in (("config", "check"), ("accounts", "list"), ("doctor",), ("serve",)):
            error = cli.run(*command, "--config", str(file), code=1).stderr
            assert name in error
            assert "config.example.toml" in error
            assert error.count("\n") == 1
    file.write_text("[server]\nport = 1234\n")
    assert "fine" in cli.run("config", "check", "--config", str(file)).stderr


def test_an_unknown_variable_with_our_prefix_is_refused(cli: Cli) -> None:
    cli.environment["CODEX_RELAY_SERVER__PROT"] = "1"
    assert "CODEX_RELAY_SERVER__PROT" in cli.run("config", "check", code=1).stderr


async def test_the_doctor_ends_with_1_until_all_is_well(make_cli: Callable[..., Cli]) -> None:
    async with running_simulator() as sim:
        cli = make_cli(
            CODEX_RELAY_UPSTREAM__BASE_URL=sim.base_url,
            CODEX_RELAY_OAUTH__ISSUER=sim.issuer,
            CODEX_RELAY_SERVER__PORT="0",
        )
        first = await asyncio.to_thread(cli.run, "doctor", code=1)
        assert "accounts: codex-relay accounts import" in first.stderr
        assert "fail  accounts" in first.stdout
        findings = await asyncio.to_thread(cli.json, "doctor", code=1)
        assert {one["name"] for one in findings if one["status"] == "fail"} == {"accounts", "client keys"}


def test_the_doctor_itself_changes_nothing(cli: Cli) -> None:
    cli.environment["CODEX_RELAY_UPSTREAM__BASE_URL"] = "http://127.0.0.1:9"
    cli.environment["CODEX_RELAY_OAUTH__ISSUER"] = "http://127.0.0.1:9"
    cli.run("doctor", code=1)
    assert list(cli.folder.iterdir()) == []
