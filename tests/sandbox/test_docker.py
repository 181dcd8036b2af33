"""The driver against an engine that is away, breaks off, lies, or is another one: a stand-in that says what it is told.

What it does with a good engine is proven on a real one (tests/real/test_engine.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sandbox.check import spec_of
from sandbox.docker import DockerEngine
from sandbox.engine import ContainerGone, EngineError, EngineUnavailable
from sandbox.isolation import create_body
from sandbox.types import Phase
from tests.sandbox.test_isolation import as_inspected

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SPEC = spec_of(Phase.AGENT, "codex-relay/agent:1", None)
LINE = b"\1\0\0\0\0\0\0\4one\n"


class StandIn:
    """An engine's API by table: (method, end of path) -> an answer. ``asked`` keeps what came in."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], Answer | Any] = {
            ("GET", "/version"): {"ApiVersion": "1.41", "Version": "20.10.24", "Components": [{"Name": "Engine"}]},
            ("GET", "/info"): {"Runtimes": {"runc": {}}, "SecurityOptions": ["name=seccomp"]},
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.method, request.path, json.loads(body) if body.startswith(b"{") else body))
        for (method, end), answer in self.answers.items():
            if request.method == method and request.path.endswith(end):
                return await answer(request) if callable(answer) else web.json_response(answer)
        return web.json_response({"message": f"No such container: {request.path}"}, status=404)


@pytest.fixture
async def stand_in(tmp_path: Path) -> AsyncIterator[tuple[StandIn, str]]:
    engine = StandIn()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "d.sock")).start()
    yield engine, f"unix://{tmp_path}/d.sock"
    await runner.cleanup()


@asynccontextmanager
async def opened(address: str, runtime: str | None = None) -> AsyncIterator[DockerEngine]:
    driver = await DockerEngine.open(address, runtime)
    try:
        yield driver
    finally:
        await driver.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:2375", "/var/run/docker.sock", "unix://relative", "", "ssh://h"])
async def test_only_a_unix_socket_will_do(address: str) -> None:
    with pytest.raises(EngineError, match="no Unix socket"):
        await DockerEngine.open(address)


async def test_nobody_at_the_socket_is_unavailable_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"does not answer.*\[sandbox\] engine_url"):
        await DockerEngine.open(f"unix://{tmp_path}/no.sock")


async def test_an_engine_that_goes_away_is_unavailable_from_then_on(
    tmp_path: Path, stand_in: tuple[StandIn, str]
) -> None:
    engine, address = stand_in

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with opened(address) as driver:
        engine.answers = {(method, ""): hang_up for method in ("GET", "POST", "DELETE", "PUT")}
        for act in (
            driver.info(), driver.start("x"), driver.wait("x"), driver.remove("x"), driver.images("l"),
            driver.containers("l"), driver.has_image("a:b"), driver.create(SPEC), driver.kill("x"),
        ):  # fmt: skip
            with pytest.raises(EngineUnavailable):
                await act


async def test_a_log_that_breaks_off_is_no_end(stand_in: tuple[StandIn, str]) -> None:
    """Neither a lost connection nor a clean end of the stream under a container that runs."""
    engine, address = stand_in

    def broken(said: bytes, *, lost: bool) -> Answer:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(said)
            if lost and request.transport is not None:
                request.transport.close()
            return response

        return answer

    engine.answers["GET", "/x/json"] = {"State": {"Running": True}}
    async with opened(address) as driver:
        for said, lost in ((LINE, True), (LINE, False), (LINE + LINE[:5], False)):
            engine.answers["GET", "/x/logs"] = broken(said, lost=lost)
            followed = driver.follow("x")
            assert await anext(followed) == b"one"
            with pytest.raises(EngineUnavailable):
                await anext(followed)
        engine.answers["GET", "/x/json"] = {"State": {"Running": False}}
        engine.answers["GET", "/x/logs"] = broken(LINE, lost=False)
        assert [line async for line in driver.follow("x")] == [b"one"]


async def test_a_container_that_came_out_otherwise_is_removed_and_refused(stand_in: tuple[StandIn, str]) -> None:
    engine, address = stand_in
    made = as_inspected(create_body(SPEC, None))
    made["HostConfig"]["PidsLimit"] = None
    engine.answers["POST", "/containers/create"] = {"Id": "made"}
    engine.answers["GET", "/made/json"] = {**made, "Id": "made"}
    engine.answers["DELETE", "/made"] = {}
    async with opened(address) as driver:
        with pytest.raises(EngineError, match=r"HostConfig\.PidsLimit"):
            await driver.create(SPEC)
    assert engine.asked[-1][:2] == ("DELETE", "/v1.41/containers/made")


async def test_one_that_is_as_asked_is_handed_out(stand_in: tuple[StandIn, str]) -> None:
    engine, address = stand_in
    engine.answers["POST", "/containers/create"] = {"Id": "made"}
    engine.answers["GET", "/made/json"] = {**as_inspected(create_body(SPEC, None)), "Id": "made"}
    async with opened(address) as driver:
        assert await driver.create(SPEC) == "made"
    assert next(body for _, path, body in engine.asked if path.endswith("create")) == create_body(SPEC, None)


async def test_podman_gets_no_log_driver_and_is_compared_loosely(stand_in: tuple[StandIn, str]) -> None:
    engine, address = stand_in
    engine.answers["GET", "/version"] = {
        "ApiVersion": "1.41",
        "Version": "4.3.1",
        "Components": [{"Name": "Podman Engine"}],
    }
    engine.answers["POST", "/containers/create"] = {"Id": "made"}
    made = as_inspected(create_body(SPEC, None))
    made["HostConfig"] |= {"CapDrop": ["CAP_CHOWN"], "MaskedPaths": None, "IpcMode": "shareable", "LogConfig": None}
    engine.answers["GET", "/made/json"] = {**made, "Id": "made"}
    engine.answers["DELETE", "/made"] = {}
    async with opened(address) as driver:
        assert (await driver.info()).name == "podman"
        assert await driver.create(SPEC) == "made"
        made["HostConfig"]["NetworkMode"] = "slirp4netns"
        with pytest.raises(EngineError, match="NetworkMode"):
            await driver.create(SPEC)
    body = next(body for _, path, body in engine.asked if path.endswith("create"))
    assert "LogConfig" not in body["HostConfig"]


async def test_a_runtime_that_is_not_listed_is_never_asked_for(stand_in: tuple[StandIn, str]) -> None:
    engine, address = stand_in
    with pytest.raises(EngineError, match="'runsc' is required"):
        await DockerEngine.open(address, "runsc")
    engine.answers["GET", "/info"] = {"Runtimes": {"runc": {}, "runsc": {}}}
    async with opened(address, "runsc") as driver:
        engine.answers["GET", "/info"] = {"Runtimes": {"runc": {}}}
        with pytest.raises(EngineError, match="'runsc' is required"):
            await driver.create(SPEC)
    assert not [one for one in engine.asked if one[0] == "POST"]


async def test_what_an_engine_says_is_one_line_of_printable_text(stand_in: tuple[StandIn, str]) -> None:
    engine, address = stand_in

    async def refuses(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "bad\n\x1b[31mred" + "x" * 5000}, status=500)

    engine.answers["POST", "/x/start"] = refuses
    async with opened(address) as driver:
        with pytest.raises(EngineError, match="refused with 500") as told:
            await driver.start("x")
        assert str(told.value).isprintable()
        assert len(str(told.value)) < 400
        with pytest.raises(ContainerGone):
            await driver.start("y")


async def test_two_who_ask_what_was_written_ask_one_after_the_other(stand_in: tuple[StandIn, str]) -> None:
    engine, address = stand_in
    at_once, most = 0, 0

    async def usage(_: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        volumes = [{"Name": "v", "UsageData": {"Size": 5}}, {"Name": "w", "UsageData": {"Size": 70}}, {"Name": "u"}]
        return web.json_response({"Volumes": volumes})

    engine.answers["GET", "/system/df"] = usage
    mounts = [{"Type": "volume", "Name": name} for name in "vu"] + [{"Type": "bind"}]
    engine.answers["GET", "/x/json"] = {"SizeRw": 100, "Mounts": mounts}
    async with opened(address) as driver:
        assert await asyncio.gather(*(driver.written_bytes("x") for _ in range(4))) == [105] * 4
    assert most == 1
