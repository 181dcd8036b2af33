"""The load generator against an upstream that misbehaves: it has to see and count what went wrong."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from typing import Any

import pytest

from benchmarks import bodies
from benchmarks.load import Generator, Load, Row
from benchmarks.machine import placement
from benchmarks.services import Service
from tests.fakes.faulty import RESPONSES, FaultyUpstream, Mode, modes, statuses, streams

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("load")
    return Generator(folder, folder, placement())


async def send(generator: Generator, up: FaultyUpstream, **load: Any) -> Row:
    service = Service("faulty", up.port, os.getpid(), RESPONSES, (("Authorization", "Bearer t-1"),))
    return await asyncio.to_thread(generator.run, service, Load("5k", "1:0:1", **load))


@pytest.mark.parametrize(
    ("mode", "count"),
    [
        (modes.good(), ""),
        (streams.split(), ""),
        (streams.split(own_chunk=True), ""),
        (modes.no_chunks(), ""),
        (modes.trailers(), ""),
        (statuses.bare_429(), "non200"),
        (statuses.server_error(), "non200"),
        (streams.not_completed(), "incomplete"),
        (streams.cut(), "errors"),
        (streams.rst(), "errors"),
        (modes.close_pre(), "errors"),
    ],
    ids=str,
)
async def test_each_kind_of_failure_is_counted_as_what_it_is(generator: Generator, mode: Mode, count: str) -> None:
    async with FaultyUpstream() as up:
        up.default = mode
        row = await send(generator, up, connections=2, requests=6)
        kinds = {name: row.told[name] for name in ("errors", "non200", "incomplete") if row.told[name]}
        assert kinds == ({count: 6} if count else {})
        assert (row.requests, up.requests, row.told["hard_stop"]) == (6, 6, 0)


async def test_events_are_counted_and_the_key_and_body_arrive(generator: Generator) -> None:
    async with FaultyUpstream() as up:
        row = await send(generator, up, connections=1, requests=3)
        assert row.events == 30
        assert up.connections == 1
        assert up.seen[0].token == "t-1"
        assert up.seen[0].body == bodies.body("5k", "1:0:1")


async def test_clients_leave_after_events_or_before_the_answer(generator: Generator) -> None:
    async with FaultyUpstream() as up:
        up.default = streams.idle(after=4)
        row = await send(generator, up, connections=2, requests=4, leave_after=3)
        await up.until(lambda: up.aborted == 4)
        assert (row.told["aborted"], row.failures) == (4, 0)
        up.default = modes.hang_pre()
        row = await send(generator, up, connections=2, requests=4, leave_after=0)
        assert (row.told["aborted"], row.failures) == (4, 0)


@pytest.mark.parametrize("size", sorted(bodies.SIZES))
def test_bodies_are_json_of_about_the_size_and_the_same_each_time(size: str) -> None:
    made = bodies.body(size, "7:8:9")
    assert made == bodies.body(size, "7:8:9")
    assert json.loads(made)["instructions"].startswith("mock:7:8:9 ")
    assert 0.95 * bodies.SIZES[size] < len(made) < 1.3 * bodies.SIZES[size]
