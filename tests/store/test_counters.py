"""Workers count together, take several names or none, and lose nothing but counters with the file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from store.counters import (
    CounterFile,
    LocalCounters,
    LocalStreams,
    SharedCounters,
    SharedStreams,
    Streams,
    fresh_counters,
)
from store.errors import StoreCorrupt, StoreUnavailable
from tests.fakes.clock import FakeClock

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "counters.db"


@pytest.fixture
def open_file(path: Path) -> Iterator[Callable[[], CounterFile]]:
    files: list[CounterFile] = []

    def open_one() -> CounterFile:
        files.append(CounterFile(path))
        return files[-1]

    yield open_one
    for file in files:
        file.close()


@pytest.fixture(params=["local", "shared"])
def counters(request: pytest.FixtureRequest, clock: FakeClock, open_file: Callable[[], CounterFile]) -> Storage:
    return LocalCounters(clock) if request.param == "local" else SharedCounters(open_file(), clock)


@pytest.fixture(params=["local", "shared"])
def streams(request: pytest.FixtureRequest, open_file: Callable[[], CounterFile]) -> Streams:
    return LocalStreams("one") if request.param == "local" else SharedStreams(open_file(), "one")


def test_hits_add_up_and_the_window_ends_with_its_first_hit(counters: Storage, clock: FakeClock) -> None:
    assert counters.get("k") == 0
    assert counters.get_expiry("k") == clock.now_s()
    assert [counters.incr("k", 60), counters.incr("k", 60, 3), counters.incr("other", 60)] == [1, 4, 1]
    ends_at_s = clock.now_s() + 60
    clock.advance(59)
    assert counters.incr("k", 60) == 5
    assert counters.get("k") == 5
    assert counters.get_expiry("k") == ends_at_s
    clock.advance(1)
    assert counters.get("k") == 0
    assert counters.get_expiry("k") == clock.now_s()
    assert counters.incr("k", 60) == 1
    assert counters.get_expiry("k") == clock.now_s() + 60


def test_counters_are_cleared_singly_and_together(counters: Storage) -> None:
    assert counters.check() is True
    for key in ("a", "b", "c"):
        counters.incr(key, 60)
    counters.clear("a")
    counters.clear("absent")
    assert [counters.get(key) for key in ("a", "b", "c")] == [0, 1, 1]
    assert counters.reset() == 2
    assert [counters.get(key) for key in ("a", "b", "c")] == [0, 0, 0]


def test_windows_that_are_over_do_not_pile_up(counters: Storage, clock: FakeClock) -> None:
    for number in range(900):
        counters.incr(f"key-{number}", 1)
    clock.advance(2)
    for _ in range(200):
        counters.incr("kept", 60)
    assert counters.reset() == 1


def test_the_fixed_window_limiter_works_on_it(counters: Storage, clock: FakeClock) -> None:
    limiter = FixedWindowRateLimiter(counters)
    limit = RateLimitItemPerMinute(3)
    assert [limiter.hit(limit, "key-1") for _ in range(4)] == [True, True, True, False]
    assert limiter.hit(limit, "key-2")
    assert limiter.test(limit, "key-1") is False
    assert limiter.get_window_stats(limit, "key-1").reset_time == clock.now_s() + 60
    clock.advance(60)
    assert limiter.hit(limit, "key-1")


def test_streams_are_taken_up_to_the_limit_and_given_back(streams: Streams) -> None:
    assert streams.acquire([("k", 2)]) is None
    assert streams.acquire([("k", 2)]) is None
    assert streams.acquire([("k", 2)]) == "k"
    assert streams.running("k") == 2
    streams.release(["k"])
    assert streams.acquire([("k", 2)]) is None


def test_several_names_are_taken_together_or_not_at_all(streams: Streams) -> None:
    assert streams.acquire([("tenant", 1)]) is None
    assert streams.acquire([("key", 5), ("tenant", 1)]) == "tenant"
    assert streams.running("key") == 0
    assert streams.acquire([("key", 0), ("tenant", 9)]) == "key"
    assert streams.running("tenant") == 1
    streams.release(["tenant"])
    assert streams.acquire([("key", 5), ("tenant", 1)]) is None
    assert (streams.running("key"), streams.running("tenant")) == (1, 1)
    streams.release(["key", "tenant"])
    assert (streams.running("key"), streams.running("tenant")) == (0, 0)


def test_giving_back_too_much_gains_nothing(streams: Streams) -> None:
    streams.release(["k"])
    streams.release([])
    assert streams.acquire([]) is None
    assert streams.acquire([("k", 1)]) is None
    assert streams.acquire([("k", 1)]) == "k"


def test_clearing_an_owner_frees_what_it_held_only(streams: Streams) -> None:
    assert streams.acquire([("k", 2)]) is None
    streams.clear_owner("another")
    assert streams.running("k") == 1
    streams.clear_owner("one")
    assert streams.running("k") == 0


def test_two_workers_share_windows_and_streams(open_file: Callable[[], CounterFile], clock: FakeClock) -> None:
    one, two = open_file(), open_file()
    assert SharedCounters(one, clock).incr("k", 60) == 1
    assert SharedCounters(two, clock).incr("k", 60) == 2
    first, second = SharedStreams(one, "one"), SharedStreams(two, "two")
    assert first.acquire([("k", 2)]) is None
    assert second.acquire([("k", 2)]) is None
    assert first.acquire([("k", 2)]) == "k"
    second.release(["k"])
    second.release(["k"])
    assert first.running("k") == 1
    assert second.acquire([("k", 2)]) is None
    first.clear_owner("two")
    assert first.running("k") == 1


def test_a_worker_that_holds_the_lock_is_waited_for_only_so_long(
    open_file: Callable[[], CounterFile], path: Path, clock: FakeClock
) -> None:
    file = open_file()
    counters, streams = SharedCounters(file, clock), SharedStreams(file, "one")
    other = open_file()
    other.begin()
    other.query("INSERT INTO streams (name, owner, running) VALUES ('k', 'two', 1)")
    started_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match="is locked by another process"):
        counters.incr("k", 60)
    with pytest.raises(StoreUnavailable):
        streams.acquire([("k", 5)])
    assert time.monotonic() - started_s < 2.0
    other.undo()
    assert counters.incr("k", 60) == 1
    assert streams.acquire([("k", 1)]) is None


def test_the_file_is_private_and_a_fresh_start_forgets(path: Path, clock: FakeClock) -> None:
    file = CounterFile(path)
    SharedCounters(file, clock).incr("k", 60)
    assert {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()} == {0o600}
    file.close()
    fresh_counters(path)
    file = CounterFile(path)
    assert SharedCounters(file, clock).get("k") == 0
    file.close()


def test_a_damaged_file_is_replaced_by_a_fresh_start(path: Path, clock: FakeClock) -> None:
    path.parent.mkdir()
    path.write_bytes(os.urandom(8192))
    with pytest.raises(StoreCorrupt):
        CounterFile(path)
    fresh_counters(path)
    file = CounterFile(path)
    assert SharedCounters(file, clock).incr("k", 60) == 1
    file.close()


def test_a_table_that_vanished_is_unavailable_not_a_crash(path: Path, clock: FakeClock) -> None:
    file = CounterFile(path)
    counters = SharedCounters(file, clock)
    db = sqlite3.connect(path)
    db.execute("DROP TABLE windows")
    db.close()
    assert counters.check() is False
    with pytest.raises(StoreUnavailable):
        counters.incr("k", 60)
    file.close()


COUNT = """
import sys
from pathlib import Path
from ops.clock import SystemClock
from store.counters import CounterFile, SharedCounters, SharedStreams
file = CounterFile(Path(sys.argv[1]), busy_timeout_s=5.0)
counters, streams = SharedCounters(file, SystemClock()), SharedStreams(file, sys.argv[2])
taken = sum(streams.acquire([("k", 700), ("t", 500)]) is None for _ in range(400))
for _ in range(400):
    counters.incr("k", 3600)
print(taken)
"""


@pytest.mark.slow
def test_processes_at_once_count_exactly(path: Path, clock: FakeClock) -> None:
    fresh_counters(path)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, str(path), f"w{number}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    taken = [int(worker.communicate(timeout=30)[0]) for worker in workers]
    assert sum(taken) == 500
    file = CounterFile(path)
    streams = SharedStreams(file, "supervisor")
    assert (streams.running("k"), streams.running("t")) == (500, 500)
    assert SharedCounters(file, clock).get("k") == 800
    streams.clear_owner("w0")
    assert streams.running("t") == taken[1]
    file.close()
