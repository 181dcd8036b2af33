"""Killed at any moment, or out of disk, the file stays whole and keeps what was said to be stored."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from store.errors import StoreError
from store.records import Secret
from store.sqlite import SqliteStore
from tests.fakes.records import make_credential
from tests.store.conftest import a_vault

ROOT = Path(__file__).parents[2]


def killed_after(path: Path, run: str, lines: int, delay_s: float) -> list[str]:
    """What the writer said before SIGKILL, which comes ``delay_s`` after its n-th line."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_writer", str(path), run],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(lines)]
        threading.Event().wait(delay_s)  # a random instant inside a write
        process.send_signal(signal.SIGKILL)
        said += [line.strip() for line in process.stdout if line.endswith("\n")]
        process.wait(10)
    return [line for line in said if line]


@pytest.mark.slow
@pytest.mark.fault("B59")
async def test_nothing_that_was_stored_is_lost_to_kill_9(path: Path) -> None:
    chance = random.Random(20261120)
    versions: dict[str, int] = {}
    for run in range(8):
        said = killed_after(path, f"run{run}", lines=chance.randrange(1, 40), delay_s=chance.random() * 0.01)
        for line in said:
            if line.startswith("+"):
                versions[line[1:]] = 1
            else:
                name, _, version = line.partition(" ")
                versions[name] = int(version)
        store = await SqliteStore.open(path, a_vault(), busy_timeout_s=5.0)
        stored = {account.id for account in await store.accounts()}
        assert set(versions) <= stored
        assert len(stored) - len(versions) <= run + 1, "more than the one account under way at each kill"
        for name in stored:
            credential = await store.credential(name)
            assert credential is not None, "an account without its credential"
            assert credential.version >= versions.get(name, 1)
            if credential.version > 1:
                assert credential.access_token == Secret(f"token {credential.version} of {name}")
            else:
                assert credential == make_credential(name)
            versions[name] = credential.version
        seq, fault = await store.verify_audit()
        assert fault is None
        assert seq >= sum(1 for version in versions.values() if version == 3) - (run + 1)
        await store.close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(versions) > 20


@pytest.mark.slow
@pytest.mark.fault("B59")
def test_a_kill_during_the_first_start_leaves_a_whole_database_or_none(tmp_path: Path) -> None:
    chance = random.Random(7)
    for run in range(8):
        path = tmp_path / f"run{run}" / "relay.db"
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store.crash_writer", str(path), "first"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        ) as process:
            while not path.parent.exists() and process.poll() is None:
                threading.Event().wait(0.0005)
            threading.Event().wait(chance.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            process.wait(10)

        async def opens(path: Path = path) -> None:
            await (await SqliteStore.open(path, a_vault(), busy_timeout_s=2.0)).close()

        try:
            asyncio.run(opens())
        except StoreError as error:
            pytest.fail(f"not usable after a kill: {error}")


@pytest.mark.slow
@pytest.mark.fault("B57")
def test_a_full_disk_refuses_writes_keeps_reads_and_recovers_without_a_restart(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.full_disk_writer", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "OK"), done.stderr


@pytest.mark.slow
@pytest.mark.fault("B59")
def test_killed_before_any_statement_a_write_has_happened_or_not(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.killed_at_each_statement", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills = {name: int(count) for name, count in (line.split() for line in done.stdout.splitlines())}
    assert set(kills) == {"import", "claim", "begin", "finish", "mark", "audit", "remove"}
    assert all(count >= 4 for count in kills.values()), kills
