"""``accounts import``, ``refresh`` and ``probe`` against the simulated backend and issuer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

from ops.simulator import RunningSimulator, running_simulator
from tests.ops.cli.conftest import Cli
from tests.ops.cli.test_accounts import rest, stored


def cli_for(sim: RunningSimulator, make_cli: Callable[..., Cli]) -> Cli:
    return make_cli(
        CODEX_RELAY_UPSTREAM__BASE_URL=sim.base_url,
        CODEX_RELAY_UPSTREAM__CHATGPT_BASE_URL=sim.chatgpt_base_url,
        CODEX_RELAY_OAUTH__ISSUER=sim.issuer,
        CODEX_RELAY_OAUTH__REFRESH_SPACING_S="0",
    )


def login(sim: RunningSimulator, folder: Path, name: str = "auth.json", **account: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(sim.state.new_account(**account)))  # type: ignore[arg-type]
    path.chmod(0o600)
    return path


def secrets_of(path: Path) -> list[str]:
    tokens = json.loads(path.read_text())["tokens"]
    return [tokens[name] for name in ("access_token", "refresh_token", "id_token")]


async def test_files_a_folder_and_standard_input_become_accounts_once_each(
    make_cli: Callable[..., Cli], tmp_path: Path
) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        one = login(sim, tmp_path)
        folder = tmp_path / "more"
        folder.mkdir()
        two, three = (login(sim, folder, f"{name}.json") for name in ("two", "three"))
        piped = json.dumps(sim.state.new_account(email="piped@example.com"))

        done = await asyncio.to_thread(cli.json, "accounts", "import", str(one), str(folder), "-", stdin=piped)
        assert [entry["outcome"] for entry in done] == ["imported"] * 4
        again = await asyncio.to_thread(cli.json, "accounts", "import", str(one))
        assert [entry["outcome"] for entry in again] == ["unchanged"]

        listed = await asyncio.to_thread(cli.run, "accounts", "list")
        assert "piped@example.com" in listed.stdout
        records = await asyncio.to_thread(cli.json, "audit", "search", "--action", "account.import")
        assert len(records) == 5
        for path in (one, two, three):
            for secret in secrets_of(path):
                assert secret not in json.dumps([done, again, records]) + listed.output


async def test_a_dry_run_changes_nothing(make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        path = login(sim, tmp_path)
        shown = await asyncio.to_thread(cli.run, "accounts", "import", str(path), "--dry-run", "--label", "mine")
        assert "would be imported (mine, new)" in shown.stderr
        assert await asyncio.to_thread(cli.json, "accounts", "list") == []
        assert await asyncio.to_thread(cli.json, "audit", "search") == []


async def test_what_is_refused_is_named_and_the_rest_is_taken(make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        good = login(sim, tmp_path)
        link = tmp_path / "link.json"
        link.symlink_to(good)
        open_to_all = login(sim, tmp_path, "open.json")
        open_to_all.chmod(0o644)
        done = await asyncio.to_thread(
            cli.run, "accounts", "import", str(link), str(tmp_path / "none.json"), str(good), str(open_to_all), code=1
        )
        assert "symbolic link" in done.stderr
        assert "others may read it (mode 0644)" in done.stderr
        assert "2 of 4 refused" in done.stderr.splitlines()[-1]
        assert len(await asyncio.to_thread(cli.json, "accounts", "list")) == 2


async def test_an_import_goes_on_when_the_backend_does_not_answer(make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        path = login(sim, tmp_path)
    done = await asyncio.to_thread(cli.run, "accounts", "import", str(path))
    assert "backend was not asked" in done.stderr


async def test_a_refresh_stores_new_tokens_and_prints_none(make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        path = login(sim, tmp_path, access_token_lifetime_s=60.0)
        await asyncio.to_thread(cli.run, "accounts", "import", str(path), "--label", "mine")
        before = (await asyncio.to_thread(cli.json, "accounts", "show", "mine"))["refreshed_at_s"]
        done = await asyncio.to_thread(cli.run, "accounts", "refresh", "mine")
        after = (await asyncio.to_thread(cli.json, "accounts", "show", "mine"))["refreshed_at_s"]
        assert after > before
        assert sim.state.counts["refreshes"] <= 1
        assert "serves until" in done.stderr
        for token in sim.state.access_tokens:
            assert token not in done.output


async def test_a_probe_reports_the_windows_and_ends_a_rest_without_ground(
    make_cli: Callable[..., Cli], tmp_path: Path
) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        path = login(sim, tmp_path)
        (taken,) = await asyncio.to_thread(cli.json, "accounts", "import", str(path))
        ground = rest(taken["account_id"], updated_at_s=time.time() - 10)
        await asyncio.to_thread(stored, cli, lambda store: store.publish([ground], []))
        assert (await asyncio.to_thread(cli.json, "accounts", "list"))[0]["state"] == "cooling"

        probed = await asyncio.to_thread(cli.json, "accounts", "probe", taken["account_id"])
        assert probed["allowed"] is True
        assert probed["ended_rests"] == ["usage_limit"]
        shown = await asyncio.to_thread(cli.json, "accounts", "show", taken["account_id"])
        assert shown["state"] == "ready"
        assert {window["name"] for window in shown["windows"]} == {"primary", "secondary"}


async def test_a_probe_of_an_exhausted_account_leaves_its_rest(make_cli: Callable[..., Cli], tmp_path: Path) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        path = login(sim, tmp_path, account_id="chatgpt-1")
        (taken,) = await asyncio.to_thread(cli.json, "accounts", "import", str(path))
        ground = rest(taken["account_id"], updated_at_s=time.time() - 10)
        await asyncio.to_thread(stored, cli, lambda store: store.publish([ground], []))
        sim.state.exhaust("chatgpt-1", 3600.0)
        probed = await asyncio.to_thread(cli.run, "accounts", "probe", taken["account_id"])
        assert "may not be used now" in probed.stdout
        assert (await asyncio.to_thread(cli.json, "accounts", "list"))[0]["state"] == "cooling"


async def test_an_upstream_that_does_not_answer_is_one_line_with_the_next_step(
    make_cli: Callable[..., Cli], tmp_path: Path
) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        path = login(sim, tmp_path)
        await asyncio.to_thread(cli.run, "accounts", "import", str(path), "--label", "mine")
    error = (await asyncio.to_thread(cli.run, "accounts", "probe", "mine", code=1)).stderr
    assert error.count("\n") == 1
    assert "accounts why mine" in error
