"""Does the isolation of this host hold? Containers of every phase try to get out, and limits are run into.

``check`` makes one container per phase from the same create body as a task's, puts sandbox/image/probe.py into it,
listens on the host where the probe will knock, and reads what it says. Rules that hold:

* what is not proven closed is open: an attempt without an answer, a probe that ends early, an engine that refuses;
* set-up may write its own root (apt does) and is otherwise held to the same attempts as the agent;
* whatever happens, containers and volumes are removed at the end.

It needs the engine on this host and an image with python3. It does not test the kernel: an escape by a kernel bug is
what a runtime such as gVisor is for.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import socket
import tarfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from sandbox.engine import (
    LABEL_ATTEMPT,
    LABEL_DEADLINE,
    LABEL_OWNER,
    LABEL_PHASE,
    LABEL_TASK,
    ContainerEngine,
    ContainerSpec,
    EngineError,
)
from sandbox.image.probe import ATTEMPTS
from sandbox.isolation import ROOT_CAPABILITIES
from sandbox.types import Limits, Phase

LIMITS: Final = Limits(cpus=1.0, memory_mib=128, pids=64, disk_mib=64, wall_s=60.0, output_mib=1)
OWNER: Final = "isolation-check"
SETUP_MAY: Final = frozenset({"root files"})
_PROBE: Final = Path(__file__).resolve().parent / "image" / "probe.py"
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
_CAPABILITY_BITS: Final = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_BIND_SERVICE": 10, "SYS_CHROOT": 18, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One attempt in one phase. ``detail`` says what is open, or that it is closed."""

    phase: Phase
    name: str
    passed: bool
    detail: str


async def check(
    engine: ContainerEngine,
    image: str,
    folder: Path,
    now_s: float,
    *,
    runtime: str | None = None,
    phases: Sequence[Phase] = tuple(Phase),
) -> tuple[Finding, ...]:
    """Every attempt in every phase. ``folder`` is an empty folder of this host that the engine can see; the gateway's
    socket stands there meanwhile. ``now_s``: Unix seconds; what an interrupted check leaves is late soon after, and any
    worker's reaper takes it. Raises nothing: an engine that refuses is a finding. Cancel: what runs is removed.
    """
    found: list[Finding] = []
    deadline_at_s = now_s + LIMITS.wall_s * len(phases)
    async with _host(folder) as facts:
        for phase in phases:
            try:
                async with asyncio.timeout(LIMITS.wall_s):
                    found += await _probe(engine, spec_of(phase, image, folder, runtime, deadline_at_s), facts)
            except (EngineError, TimeoutError) as error:
                found.append(Finding(phase, "container", passed=False, detail=str(error) or "it did not end in time"))
    return tuple(found)


def spec_of(
    phase: Phase, image: str, folder: Path | None, runtime: str | None = None, deadline_at_s: float = 0.0
) -> ContainerSpec:
    """A container as a task of this phase gets it, with small limits, that runs the probe."""
    name = f"codex-relay-check-{phase.value}-{secrets.token_hex(4)}"
    labels = (
        (LABEL_TASK, name),
        (LABEL_ATTEMPT, "0"),
        (LABEL_PHASE, phase.value),
        (LABEL_OWNER, OWNER),
        (LABEL_DEADLINE, f"{deadline_at_s:.3f}"),
    )
    return ContainerSpec(
        name=name,
        image=image,
        phase=phase,
        argv=("python3", "/task/probe.py"),
        limits=LIMITS,
        labels=labels,
        socket_folder=folder,
        as_root=phase is Phase.SETUP,
        read_only_root=phase is not Phase.SETUP,
        runtime=runtime,
    )


async def _probe(engine: ContainerEngine, spec: ContainerSpec, facts: dict[str, Any]) -> list[Finding]:
    granted = sum(1 << _CAPABILITY_BITS[name] for name in ROOT_CAPABILITIES) if spec.as_root else 0
    told = {**facts, "capabilities": f"{granted:016x}"}
    container = await engine.create(spec)
    try:
        await engine.put(container, "/task", _inputs(told))
        await engine.start(container)
        said = [line async for line in engine.follow(container)]
        ended = await engine.wait(container)
    finally:
        await engine.remove(container)
    found = judged(spec.phase, said)
    out_of_memory = Finding(
        spec.phase, "memory told", ended.oom, "the engine told of it" if ended.oom else "it was not told"
    )
    return [*found, out_of_memory]


def judged(phase: Phase, said: Sequence[bytes]) -> list[Finding]:
    """What the probe's lines come to. An attempt that is not told of, or is told of in another way, is open."""
    answers: dict[str, tuple[bool, str]] = {}
    for line in said:
        try:
            told = json.loads(line)
            answers[str(told["name"])] = (told["open"] is not False, str(told["detail"])[:300])
        except (ValueError, KeyError, TypeError):
            continue
    found = []
    for name in ATTEMPTS:
        is_open, detail = answers.get(name, (True, "the probe ended before it"))
        if is_open and phase is Phase.SETUP and name in SETUP_MAY:
            is_open, detail = False, f"as it may: {detail}"
        found.append(Finding(phase, name, not is_open, detail))
    return found


def _inputs(facts: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in (("probe.py", _PROBE.read_bytes()), ("facts.json", json.dumps(facts).encode())):
            told = tarfile.TarInfo(name)
            told.size, told.mode = len(content), 0o444
            tar.addfile(told, io.BytesIO(content))
    return file.getvalue()


@asynccontextmanager
async def _host(folder: Path) -> AsyncIterator[dict[str, Any]]:
    """Listens on every address of this host, on an abstract socket, and as the gateway; what the probe has to know."""

    async def told(_: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes = b"host") -> None:
        writer.write(word)
        writer.close()

    async def as_gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await told(reader, writer, b"gateway")

    abstract = f"codex-relay-check-{secrets.token_hex(8)}"
    door = folder / "gw.sock"
    async with AsyncExitStack() as stack:
        everywhere = await asyncio.start_server(told, None, 0, family=socket.AF_INET)
        await stack.enter_async_context(everywhere)
        port = everywhere.sockets[0].getsockname()[1]
        if socket.has_dualstack_ipv6():
            await stack.enter_async_context(await asyncio.start_server(told, "::", port, family=socket.AF_INET6))
        await stack.enter_async_context(await asyncio.start_unix_server(told, "\0" + abstract))
        await stack.enter_async_context(await asyncio.start_unix_server(as_gateway, door))
        os.chmod(door, 0o666)  # noqa: S103 - uid 10001 of a container is another user
        os.chmod(folder, 0o755)  # noqa: S103 - and has to reach the socket
        yield {
            "port": port,
            "abstract": abstract,
            "addresses": host_addresses(),
            "pid": os.getpid(),
            "disk": os.stat("/").st_dev,
            "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES},
            "pids": LIMITS.pids,
            "memory_bytes": LIMITS.memory_mib << 20,
            "disk_bytes": LIMITS.disk_mib << 20,
        }


def host_addresses() -> list[str]:
    """Every address of this host, as its kernel lists them, without loopback."""
    found: set[str] = set()
    table = Path("/proc/net/fib_trie").read_text().splitlines()
    for above, below in pairwise(table):
        if "/32 host LOCAL" in below:
            found.add(above.split()[-1])
    try:
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    except OSError:  # a kernel without IPv6
        pass
    return sorted(one for one in found if not one.startswith("127.") and one != "::1")
