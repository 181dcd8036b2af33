"""The real Codex CLI through the gateway to the simulated backend, while accounts change under its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ops.simulator import SimulatorConfig
from tests.real.conftest import CodexCli, CodexRun
from tests.real.house import House, house

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(120)]

QUICK = "request_max_retries = 1\nstream_max_retries = 2\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, accounts=3) as running:
        yield running


def provider(home: House, more: str = QUICK, model: str = "gpt-5.5") -> str:
    """A custom provider, as the README has it."""
    return (
        f'model = "{model}"\nmodel_provider = "relay"\n[model_providers.relay]\nname = "relay"\n'
        f'base_url = "{home.base_url}"\nenv_key = "RELAY_KEY"\nwire_api = "responses"\n{more}'
    )


def built_in(home: House, more: str = "", model: str = "gpt-5.5") -> str:
    """The CLI's own provider at another address; it asks for a WebSocket first."""
    return f'model = "{model}"\nopenai_base_url = "{home.base_url}"\n{more}'


WAYS: dict[str, tuple[Callable[..., str], str]] = {
    "custom provider": (provider, "RELAY_KEY"),
    "openai_base_url": (built_in, "CODEX_API_KEY"),
}
by_way = pytest.mark.parametrize("way", WAYS)


async def run(home: House, cli: CodexCli, way: str, prompt: str, **options: str) -> CodexRun:
    configure, variable = WAYS[way]
    cli.configure(configure(home, **options))
    return await cli.exec(prompt, env={variable: home.key}, timeout_s=80)


def undisturbed(done: CodexRun) -> None:
    """Exit 0, and not a word of errors or reconnecting."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.of_type("error") == []
    assert done.items("error") == []
    assert "Reconnecting" not in done.stdout + done.stderr


@by_way
async def test_a_tool_loop_edits_a_file(home: House, codex_cli: CodexCli, way: str) -> None:
    """Several turns of one conversation on one account: the file is written and read back."""
    done = await run(home, codex_cli, way, "Please do it. sim:edit-file hello.txt")
    undisturbed(done)
    assert (codex_cli.workdir / "hello.txt").read_text() == "made by the simulator\n"
    assert [one["exit_code"] for one in done.items("command_execution")] == [0, 0]
    assert len(home.posts()) == 3
    assert len(set(home.posts())) == 1
    assert home.simulator.state.counts["foreign_content"] == 0
    assert (home.answered("responses", 426) > 0) == (way == "openai_base_url")


@by_way
async def test_the_account_that_served_hits_its_limit_between_turns(home: House, codex_cli: CodexCli, way: str) -> None:
    """The second turn meets 429 on the conversation's account: another one takes over, the CLI notices nothing."""
    state = home.simulator.state
    for account_id in home.accounts:
        state.script(account_id, ["", "http=usage_limit_reached,resets_in_s=900"])
    undisturbed(await run(home, codex_cli, way, "Please do it. sim:edit-file hello.txt"))
    assert (codex_cli.workdir / "hello.txt").read_text() == "made by the simulator\n"
    assert len(set(home.posts())) >= 2
    assert state.counts["foreign_content"] == 0
    assert home.moved >= 1


@by_way
async def test_the_operator_disables_the_account_in_the_middle(home: House, codex_cli: CodexCli, way: str) -> None:
    """``accounts disable`` while the CLI runs its command: the next turn goes to another account."""
    state = home.simulator.state
    for account_id in home.accounts:
        state.script(account_id, ["", "gate=second,at=-1", ""])
    running = asyncio.create_task(run(home, codex_cli, way, "Please do it. sim:edit-file hello.txt"))
    await state.until(lambda: len(home.posts()) == 2, timeout_s=40)
    await home.disable(home.posts()[0])
    state.open_gate("second")
    undisturbed(await running)
    assert (codex_cli.workdir / "hello.txt").read_text() == "made by the simulator\n"
    assert home.posts()[0] == home.posts()[1]
    assert home.posts()[2] != home.posts()[1]
    assert home.moved == 1


@by_way
async def test_every_account_out_is_one_friendly_message_after_one_request(
    home: House, codex_cli: CodexCli, way: str
) -> None:
    for account_id in home.accounts:
        home.simulator.state.exhaust(account_id)
    done = await run(home, codex_cli, way, "hi", **({} if way == "openai_base_url" else {"more": ""}))
    assert done.returncode == 1
    (failed,) = done.of_type("turn.failed")
    assert "usage limit" in failed["error"]["message"].lower()
    assert "Reconnecting" not in done.stdout
    assert len(home.posts()) == 3, "each account was asked once"
    assert home.answered("responses", 429) == 1


@by_way
async def test_a_stream_that_is_cut_is_tried_again_by_the_cli(home: House, codex_cli: CodexCli, way: str) -> None:
    """After the commit the gateway cannot repeat; its ``response.failed`` makes the CLI do it, and that succeeds."""
    for account_id in home.accounts:
        home.simulator.state.script(account_id, ["cut=rst,at=3,delay_ms=60", "text=whole"])
    done = await run(home, codex_cli, way, "hi")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.last_message() == "whole"
    assert len(home.posts()) == 2
    assert [line["end"] for line in home.lines("responses") if line["status"] == 200] == ["truncated", "completed"]


async def test_heartbeats_keep_the_cli_through_a_long_silence(tmp_path: Path, codex_cli: CodexCli) -> None:
    """Five seconds without an event, with a CLI that gives up after two: data events of ours keep it there."""
    async with house(
        tmp_path,
        config=SimulatorConfig(plan="events=3,first_ms=100"),
        server={"heartbeat_s": 1.0},
        upstream={"idle_timeout_s": 30, "first_event_timeout_s": 30},
    ) as home:
        codex_cli.configure(provider(home, "stream_idle_timeout_ms = 2000\nstream_max_retries = 0\n"))
        done = await codex_cli.exec("sim:events=2,delay_ms=5000", env={"RELAY_KEY": home.key}, timeout_s=60)
        undisturbed(done)
        assert len(home.posts()) == 1


async def test_a_revoked_key_is_said_plainly(home: House, codex_cli: CodexCli) -> None:
    codex_cli.configure(provider(home, "request_max_retries = 0\nstream_max_retries = 0\n"))
    done = await codex_cli.exec("hi", env={"RELAY_KEY": home.key[:-1] + ("a" if home.key[-1] != "a" else "b")})
    assert done.returncode == 1
    assert "401" in done.stdout
    assert home.posts() == []


def native(home: House, model: str = "gpt-5.5") -> str:
    """The gateway as the CLI's whole backend; two names of one loopback, as plain http needs it."""
    return (
        f'model = "{model}"\n'
        f'chatgpt_base_url = "http://localhost:{home.port}/backend-api"\n'
        f'openai_base_url = "http://127.0.0.1:{home.port}/backend-api/codex"\n'
    )


@pytest.mark.parametrize("model", ["gpt-5.5", "gpt-6-sol"])
async def test_the_key_as_a_personal_access_token(home: House, codex_cli: CodexCli, model: str) -> None:
    """CODEX_ACCESS_TOKEN=<gateway key>: whoami, workspace routing, zstd bodies, the tool loop; a file is made."""
    codex_cli.configure(native(home, model))
    done = await codex_cli.exec(
        "Please do it. sim:edit-file hello.txt",
        env={"CODEX_ACCESS_TOKEN": home.key, "CODEX_AUTHAPI_BASE_URL": f"{home.gateway.url}/api/accounts"},
        timeout_s=80,
    )
    undisturbed(done)
    assert (codex_cli.workdir / "hello.txt").read_text() == "made by the simulator\n"
    assert home.answered("whoami", 200) >= 1
    assert home.answered("wham", 200) >= 1
    assert len(set(home.posts())) == 1
