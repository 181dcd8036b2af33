"""``codex-relay codex`` with the real Codex CLI: no configuration, no file left, no other host, one line when wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.real.cloud_stub import DIFF, KEY, CloudStub, cloud_stub
from tests.real.command import Command, command_of
from tests.real.conftest import CodexCli
from tests.real.house import House, house

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(120)]

AGENT = ("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
FOREIGN = "sk-somebody-elses"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, accounts=2) as running:
        yield running


@pytest.fixture
def command(codex_cli: CodexCli, tmp_path: Path) -> Command:
    return command_of(codex_cli, tmp_path)


async def test_it_works_with_no_configuration_and_leaves_nothing_behind(home: House, command: Command) -> None:
    done = await command.run(
        "codex", "--", "exec", *AGENT, "sim:edit-file hello.txt", key=home.key, url=home.gateway.url
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.of_type("error") == []
    assert (command.cli.workdir / "hello.txt").read_text() == "made by the simulator\n"
    assert len(home.posts()) == 3
    assert home.answered("responses", 426) == 1, "the gateway's own answer to the WebSocket"
    assert list(command.temp.iterdir()) == []
    left = {path.name for path in command.cli.home.iterdir()}
    assert left.isdisjoint({"auth.json", "config.toml"}), "the CLI keeps its sessions there as always, and no login"
    written = b"".join(path.read_bytes() for path in command.cli.home.rglob("*") if path.is_file())
    assert home.key.encode() not in written


async def test_a_login_and_a_provider_of_the_users_own_stay_out_of_it(home: House, command: Command) -> None:
    """auth.json, config.toml, CODEX_API_KEY and NO_PROXY all point elsewhere; the gateway serves, they are not sent."""
    command.cli.sign_in({"auth_mode": "apikey", "OPENAI_API_KEY": FOREIGN})
    command.cli.configure(
        'model = "gpt-5.5"\nmodel_provider = "other"\nchatgpt_base_url = "https://elsewhere.invalid/backend-api"\n'
        'openai_base_url = "https://elsewhere.invalid/v1"\n'
        '[model_providers.other]\nname = "other"\nbase_url = "http://127.0.0.1:9/v1"\nwire_api = "responses"\n'
    )
    before = {path.name: path.read_bytes() for path in command.cli.home.iterdir()}
    done = await command.run(
        *("codex", "--", "exec", *AGENT, "say hi"),
        key=home.key,
        url=home.gateway.url,
        CODEX_API_KEY=FOREIGN,
        NO_PROXY="chatgpt.com,.openai.com",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(home.posts()) == 1
    assert {line["status"] for line in home.lines("responses")} == {426, 200}
    assert {name: (command.cli.home / name).read_bytes() for name in before} == before


async def test_the_models_commands_get_neither_the_proxy_nor_the_token(
    home: House, command: Command, tmp_path: Path
) -> None:
    """BASH_ENV is read by the shell that runs the model's command: what stands in its environment is written down."""
    spy, seen = tmp_path / "spy.sh", tmp_path / "seen"
    spy.write_text(f"env > {seen}\n")
    done = await command.run(
        *("codex", "--", "exec", *AGENT, "sim:edit-file hello.txt"),
        key=home.key,
        url=home.gateway.url,
        BASH_ENV=str(spy),
        HTTPS_PROXY="http://corp.invalid:3128",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.partition("=")[::2] for line in seen.read_text().splitlines())
    assert lines["HTTPS_PROXY"] == lines["https_proxy"] == "http://corp.invalid:3128"
    assert lines["CODEX_ACCESS_TOKEN"] == ""
    assert home.key not in seen.read_text()


async def test_a_wrong_key_is_one_line(home: House, command: Command) -> None:
    wrong = home.key[:-1] + ("a" if home.key[-1] != "a" else "b")
    done = await command.run("codex", "--", "exec", *AGENT, "hi", key=wrong, url=home.gateway.url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "401" in done.stderr
    assert "codex-relay keys create" in done.stderr
    assert wrong not in done.stderr


async def test_the_exit_code_of_the_cli_is_ours(home: House, command: Command) -> None:
    done = await command.run("codex", "--", "exec", "--no-such-flag", key=home.key, url=home.gateway.url)
    assert done.returncode == 2
    for account_id in home.accounts:
        home.simulator.state.exhaust(account_id)
    done = await command.run("codex", "--", "exec", *AGENT, "hi", key=home.key, url=home.gateway.url)
    assert done.returncode == 1
    assert "usage limit" in done.stdout.lower()


async def test_it_says_that_somebody_is_signed_in_and_offers_no_login(home: House, command: Command) -> None:
    done = await command.run("codex", "--", "login", "status", key=home.key, url=home.gateway.url)
    assert (done.returncode, "personal access token" in done.stdout + done.stderr) == (0, True)
    done = await command.run("codex", "--", "login", "--device-auth", key=home.key, url=home.gateway.url)
    assert done.returncode != 0
    assert not (command.cli.home / "auth.json").exists()


@pytest.fixture
def cloud() -> Iterator[CloudStub]:
    with cloud_stub() as running:
        yield running


async def test_cloud_lists_with_links_to_the_gateway(cloud: CloudStub, command: Command) -> None:
    done = await command.run("cloud", "--", "list", "--json", key=KEY, url=cloud.url)
    assert done.returncode == 0, done.stderr
    (task,) = json.loads(done.stdout)["tasks"]
    assert (task["id"], task["status"]) == ("task_e_1", "ready")
    assert task["url"] == f"{cloud.url}/console/tasks/task_e_1"
    assert cloud.bearers == {f"Bearer {KEY}"}


async def test_cloud_makes_a_task_and_prints_where_it_is(cloud: CloudStub, command: Command) -> None:
    done = await command.run(
        "cloud", "--", "exec", "--env", "env_1", "--attempts", "2", "do it", key=KEY, url=cloud.url
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{cloud.url}/console/tasks/task_e_new"
    (body,) = cloud.bodies
    assert body["metadata"] == {"best_of_n": 2}


async def test_cloud_takes_our_link_for_an_id_and_a_diff_is_left_as_it_is(cloud: CloudStub, command: Command) -> None:
    link = f"{cloud.url}/console/tasks/task_e_1"
    assert (await command.run("cloud", "--", "status", link, key=KEY, url=cloud.url)).returncode == 0
    done = await command.run("cloud", "--", "diff", link, key=KEY, url=cloud.url)
    assert done.stdout.rstrip("\n") == DIFF.rstrip("\n")


@pytest.mark.parametrize("arguments", [("cloud", "--", "apply"), ("codex", "--", "apply")])
async def test_a_diff_is_applied_by_the_cli(cloud: CloudStub, command: Command, arguments: tuple[str, ...]) -> None:
    work = command.cli.workdir
    (work / "a.txt").write_text("old\n")
    subprocess.run(["git", "init", "-q"], cwd=work, check=True)
    subprocess.run(["git", "add", "a.txt"], cwd=work, check=True)
    done = await command.run(*arguments, "task_e_1", key=KEY, url=cloud.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / "a.txt").read_text() == "https://chatgpt.com/codex/tasks/x\n"
