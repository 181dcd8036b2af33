"""The seam of container engines, held against a real one: what sandbox/engine.py promises of every driver."""

from __future__ import annotations

import asyncio
import io
import secrets
import tarfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.docker import DockerEngine
from sandbox.docker_streams import CUT, LINE_MAX_BYTES
from sandbox.engine import LABEL_OWNER, LABEL_PHASE, LABEL_TASK, ContainerGone, ContainerSpec, EngineError
from sandbox.types import Limits, Phase
from tests.real.agent_image import AgentImage, left

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(900)]
LIMITS = Limits(cpus=1.0, memory_mib=128, pids=64, disk_mib=64, wall_s=60.0, output_mib=4)


def spec(agent: AgentImage, script: str, phase: Phase = Phase.AGENT, **changed: Any) -> ContainerSpec:
    """A container that runs a Python script, with the privileges of its phase."""
    name = f"codex-relay-{secrets.token_hex(6)}"
    setup = phase is Phase.SETUP
    values: dict[str, Any] = {
        "name": name, "image": agent.tag, "phase": phase, "argv": ("python3", "-c", script), "limits": LIMITS,
        "labels": ((LABEL_TASK, name), (LABEL_OWNER, "test"), (LABEL_PHASE, phase.value)),
        "as_root": setup, "read_only_root": not setup,
    }  # fmt: skip
    return ContainerSpec(**(values | changed))


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            told = tarfile.TarInfo(name)
            told.size, told.uid, told.gid = len(content), 10001, 10001
            tar.addfile(told, io.BytesIO(content))
    return buffer.getvalue()


async def said_by(engine: DockerEngine, container: str) -> list[bytes]:
    return [line async for line in engine.follow(container)]


async def collected(engine: DockerEngine, container: str, path: str, max_bytes: int = 1 << 20) -> dict[str, bytes]:
    """Regular files below ``path`` by their last name."""
    tar = b"".join([chunk async for chunk in engine.collect(container, path, max_bytes)])
    found = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        for member in files:
            content = files.extractfile(member)
            if content is not None:
                found[member.name.rpartition("/")[2]] = content.read()
    return found


async def test_a_life_from_inputs_to_results(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    script = (
        "import os, sys; text = open('/task/spec.txt').read() + open('/workspace/more').read(); "
        "open('/out/result', 'w').write(text.upper()); print('uid', os.getuid(), os.environ['COLOR']); sys.exit(7)"
    )

    async def pieces() -> AsyncIterator[bytes]:
        tar = tar_of(more=b" and more")
        for start in range(0, len(tar), 1000):
            yield tar[start : start + 1000]

    container = await agent_engine.create(spec(agent_image, script, environment=(("COLOR", "green"),)))
    try:
        await agent_engine.put(container, "/task", tar_of(**{"spec.txt": b"words"}))
        await agent_engine.put(container, "/workspace", pieces())
        await agent_engine.start(container)
        assert await said_by(agent_engine, container) == [b"uid 10001 green"]
        ended = await agent_engine.wait(container)
        assert (ended.code, ended.oom) == (7, False)
        assert await collected(agent_engine, container, "/out") == {"result": b"WORDS AND MORE"}
    finally:
        await agent_engine.remove(container)
    await agent_engine.remove(container)
    with pytest.raises(ContainerGone):
        await agent_engine.start(container)


async def test_it_is_fast(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    """What the driver costs before the first line is heard: the median of a few containers, printed."""
    created, started, heard = [], [], []
    for _ in range(7):
        begun = time.monotonic()
        container = await agent_engine.create(spec(agent_image, "print('here')"))
        try:
            created.append(time.monotonic() - begun)
            await agent_engine.put(container, "/task", tar_of(spec=b"{}"))
            await agent_engine.start(container)
            started.append(time.monotonic() - begun)
            async for _line in agent_engine.follow(container):
                heard.append(time.monotonic() - begun)
        finally:
            await agent_engine.remove(container)
    median = [sorted(times)[3] for times in (created, started, heard)]
    print("create, put and start returned, first line heard (s):", [round(one, 3) for one in median])
    assert median[1] < 3.0


async def test_another_client_adopts_what_runs(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    script = (
        "import os, time; print('one', flush=True)\nwhile not os.path.exists('/tmp/go'): time.sleep(0.02)\nprint('two')"
    )
    first = await DockerEngine.open(agent_image.socket_url)
    mine = spec(agent_image, script)
    container = await first.create(mine)
    try:
        await first.start(container)
        followed = first.follow(container)
        assert await anext(followed) == b"one"
        await followed.aclose()  # type: ignore[attr-defined]
        await first.close()
        found = [one for one in await agent_engine.containers(LABEL_OWNER, "test") if one.id == container]
        assert [(one.name, one.running, one.labels[LABEL_TASK]) for one in found] == [(mine.name, True, mine.name)]
        assert abs(found[0].created_at_s - time.time()) < 60
        assert await agent_engine.containers(LABEL_OWNER, "nobody") == ()
        agent_image.docker.run("exec", container, "touch", "/tmp/go")
        assert await said_by(agent_engine, container) == [b"one", b"two"]
        assert (await agent_engine.wait(container)).code == 0
        assert await said_by(agent_engine, container) == [b"one", b"two"]
    finally:
        await agent_engine.remove(container)


async def test_whatever_it_says_comes_as_lines(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    script = (
        "import sys; o = sys.stdout.buffer; o.write(b'\\xff\\x00\\x1b[31m\\n'); "
        "o.write('é'.encode() * 100000 + b'\\n'); "
        "o.write(b'\\0' * (3 << 20)); o.write(b'\\nlast'); o.flush(); sys.stderr.write('not this')"
    )
    container = await agent_engine.create(spec(agent_image, script, limits=replace(LIMITS, output_mib=40)))
    try:
        await agent_engine.start(container)
        said = await said_by(agent_engine, container)
    finally:
        await agent_engine.remove(container)
    # json-file keeps text: a byte that is none comes back as the sign for it
    assert said[0] in {b"\xff\x00\x1b[31m", "\ufffd\x00\x1b[31m".encode()}
    assert said[1] == "é".encode() * 100000
    assert said[2] == b"\0" * LINE_MAX_BYTES + CUT
    assert said[3:] == [b"last"]


_STUBBORN = (
    "import signal, sys, time\ndef ends(*_): print('bye'); sys.exit(3)\n"
    "signal.signal(signal.SIGTERM, {handler}); print('up', flush=True); time.sleep(60)"
)


@pytest.mark.parametrize(("handler", "code", "last"), [("ends", 3, b"bye"), ("signal.SIG_IGN", 137, b"up")])
async def test_it_is_asked_to_end_and_then_made_to(
    agent_engine: DockerEngine, agent_image: AgentImage, handler: str, code: int, last: bytes
) -> None:
    container = await agent_engine.create(spec(agent_image, _STUBBORN.replace("{handler}", handler)))
    try:
        await agent_engine.start(container)
        followed = agent_engine.follow(container)
        assert await anext(followed) == b"up"
        await followed.aclose()  # type: ignore[attr-defined]
        begun = time.monotonic()
        await agent_engine.stop(container, grace_s=1.0)
        assert time.monotonic() - begun < 10
        assert (await agent_engine.wait(container)).code == code
        assert (await said_by(agent_engine, container))[-1] == last
        await agent_engine.stop(container, grace_s=1.0)
        await agent_engine.kill(container)
    finally:
        await agent_engine.remove(container)


async def test_it_is_killed_and_its_daemons_with_it(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    script = "import os, time; os.fork() or os.setsid(); print('up', flush=True); time.sleep(60)"
    container = await agent_engine.create(spec(agent_image, script))
    try:
        await agent_engine.start(container)
        waiting = asyncio.ensure_future(agent_engine.wait(container))
        async for _line in agent_engine.follow(container):
            await agent_engine.kill(container)
        assert (await waiting).code == 137
    finally:
        await agent_engine.remove(container)


async def test_too_much_memory_is_told(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    container = await agent_engine.create(spec(agent_image, "x = b'1' * (512 << 20)"))
    try:
        await agent_engine.start(container)
        ended = await agent_engine.wait(container)
        assert (ended.code, ended.oom) == (137, True)
    finally:
        await agent_engine.remove(container)


async def test_what_it_writes_is_counted(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    script = (
        "import os; some = os.urandom(3 << 20); "
        "open('/workspace/a', 'wb').write(some); open('/root/b', 'wb').write(some[1 << 20:])"
    )
    container = await agent_engine.create(spec(agent_image, script, Phase.SETUP))
    try:
        before = await agent_engine.written_bytes(container)
        await agent_engine.start(container)
        await agent_engine.wait(container)
        counts = await asyncio.gather(*(agent_engine.written_bytes(container) for _ in range(3)))
        assert before < 1 << 20
        assert all(5 << 20 <= count < 7 << 20 for count in counts)
    finally:
        await agent_engine.remove(container)


async def test_collecting_is_bounded(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    container = await agent_engine.create(spec(agent_image, "open('/out/sparse', 'wb').truncate(50 << 20)"))
    try:
        await agent_engine.start(container)
        await agent_engine.wait(container)
        with pytest.raises(EngineError, match="more than 1048576 bytes"):
            await collected(agent_engine, container, "/out")
        with pytest.raises(EngineError) as told:
            await collected(agent_engine, container, "/nowhere")
        assert not isinstance(told.value, ContainerGone)
    finally:
        await agent_engine.remove(container)


async def test_inputs_go_into_volumes_and_before_the_start(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    container = await agent_engine.create(spec(agent_image, "pass"))
    try:
        for path in ("/etc", "/", "/task/..", "/run/gw"):
            with pytest.raises(EngineError, match="is no volume"):
                await agent_engine.put(container, path, tar_of(a=b""))
        await agent_engine.start(container)
        with pytest.raises(EngineError, match="before that"):
            await agent_engine.put(container, "/task", tar_of(a=b""))
    finally:
        await agent_engine.remove(container)


async def test_inputs_that_are_refused_on_the_way_say_why_themselves(
    agent_engine: DockerEngine, agent_image: AgentImage
) -> None:
    async def bomb() -> AsyncIterator[bytes]:
        yield tar_of(a=b"1" * 100_000)[:60_000]
        raise ValueError("a bomb")

    container = await agent_engine.create(spec(agent_image, "pass"))
    try:
        with pytest.raises(ValueError, match="a bomb"):
            await agent_engine.put(container, "/workspace", bomb())
    finally:
        await agent_engine.remove(container)


async def test_a_shared_workspace_goes_with_its_last_user(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    volume = f"codex-relay-work-{secrets.token_hex(4)}"
    writes = spec(agent_image, "open('/workspace/code', 'w').write('main')", workspace_volume=volume)
    reads = spec(
        agent_image,
        "print(open('/workspace/code').read(), flush=True); open('/workspace/more', 'w')",
        workspace_volume=volume,
        read_only_workspace=True,
    )
    first, second = await agent_engine.create(writes), await agent_engine.create(reads)
    try:
        await agent_engine.start(first)
        assert (await agent_engine.wait(first)).code == 0
        await agent_engine.remove(first)
        await agent_engine.start(second)
        assert await said_by(agent_engine, second) == [b"main"]
        assert (await agent_engine.wait(second)).code == 1
    finally:
        for one in (first, second):
            await agent_engine.remove(one)
    assert volume not in left(agent_image.docker)[1]


async def test_a_runtime_that_is_not_there_is_refused(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    assert "runc" in (await agent_engine.info()).runtimes
    with pytest.raises(EngineError, match="'runsc' is required"):
        await DockerEngine.open(agent_image.socket_url, "runsc")
    with pytest.raises(EngineError, match="'kata' is required"):
        await agent_engine.create(spec(agent_image, "pass", runtime="kata"))
    container = await agent_engine.create(spec(agent_image, "print('fine')", runtime="runc"))
    await agent_engine.remove(container)


async def test_what_is_refused_leaves_nothing(
    agent_engine: DockerEngine, agent_image: AgentImage, tmp_path: Path
) -> None:
    """An image that brings volumes of its own would have writable places that no table knows."""
    (tmp_path / "Dockerfile").write_text(f"FROM {agent_image.tag}\nVOLUME /var/lib/extra\n")
    agent_image.docker.run("build", "-q", "-t", "codex-relay-test-wide", str(tmp_path))
    try:
        with pytest.raises(EngineError, match="/var/lib/extra"):
            await agent_engine.create(spec(agent_image, "pass", image="codex-relay-test-wide"))
    finally:
        agent_image.docker.run("rmi", "-f", "codex-relay-test-wide")
    with pytest.raises(EngineError, match="No such image"):
        await agent_engine.create(spec(agent_image, "pass", image="codex-relay-test-absent"))
    socket = Path(agent_image.socket_url.removeprefix("unix://"))
    with pytest.raises(EngineError, match="own socket"):
        await agent_engine.create(spec(agent_image, "pass", socket_folder=socket.parent))


async def test_a_container_that_is_not_there_is_gone(agent_engine: DockerEngine) -> None:
    async def followed() -> None:
        await said_by(agent_engine, "nope")

    async def fetched() -> None:
        await collected(agent_engine, "nope", "/out")

    for act in (
        followed(), fetched(), agent_engine.wait("nope"), agent_engine.stop("nope", 1.0), agent_engine.kill("nope"),
        agent_engine.written_bytes("nope"), agent_engine.put("nope", "/task", b""), agent_engine.start("nope"),
        agent_engine.commit("nope", "a:b", ()),
    ):  # fmt: skip
        with pytest.raises(ContainerGone):
            await act


async def test_endless_output_stays_bounded_on_the_disk(agent_engine: DockerEngine, agent_image: AgentImage) -> None:
    """Whoever does not read it is not filled up by it, and a reader may leave at any time."""
    script = "import sys\nfor _ in range(40): sys.stdout.write('y' * 1000000 + chr(10))\nprint('end')"
    container = await agent_engine.create(spec(agent_image, script, limits=replace(LIMITS, output_mib=1)))
    try:
        await agent_engine.start(container)
        assert (await agent_engine.wait(container)).code == 0
        said = await said_by(agent_engine, container)
        assert said[-1] == b"end"
        assert sum(map(len, said)) <= 4 << 20
    finally:
        await agent_engine.remove(container)
