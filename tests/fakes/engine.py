"""A container engine in memory: each container is a coroutine that a test scripts, with files instead of volumes.

It keeps the promises of sandbox.engine that a worker stands on: inputs before the start, ``follow`` from the first
line however often, ``stop`` asks before it kills, ``remove`` leaves nothing, and it can be away.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ops.clock import Clock
from sandbox.engine import ContainerGone, ContainerSpec, EngineError, EngineInfo, EngineUnavailable, Exit, Found


def tar_of(files: dict[str, bytes], prefix: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tree:
        if prefix:
            folder = tarfile.TarInfo(prefix)
            folder.type = tarfile.DIRTYPE
            tree.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            tree.addfile(info, io.BytesIO(data))
    return out.getvalue()


def files_of(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as tree:
        read = {one.name: tree.extractfile(one) for one in tree if one.isreg()}
    return {name.removeprefix("./"): content.read() for name, content in read.items() if content is not None}


@dataclass(eq=False)
class Inside:
    """What a script sees of its container. ``files`` by absolute path."""

    spec: ContainerSpec
    id: str
    created_at_s: float
    files: dict[str, bytes] = field(default_factory=dict)
    lines: list[bytes] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[int] | None = None
    exit: Exit | None = None
    oom: bool = False
    written: int = 0
    seq: int = 0

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.spec.labels)

    @property
    def step(self) -> str:
        return self.labels["codex-relay.step"]

    @property
    def told(self) -> dict[str, Any]:
        """spec.json and secrets.json together."""
        spec, secrets = (json.loads(self.files[f"/task/{name}.json"]) for name in ("spec", "secrets"))
        found: dict[str, Any] = {**spec, "secrets": secrets}
        return found

    def say(self, kind: str, **data: Any) -> None:
        self.seq += 1
        line = {"seq": self.seq, "t": 1.0, "src": kind.partition(".")[0], "kind": kind, "data": data}
        self.raw(json.dumps(line).encode())

    def raw(self, line: bytes) -> None:
        self.lines.append(line)
        self.more.set()

    def end(self, ended: str = "done", **data: Any) -> int:
        """The runner's last word and its files; the exit code."""
        result = {"ended": ended, "exit_code": 0 if ended == "done" else 1, "message": ended, **data}
        self.files["/out/result.json"] = json.dumps(result).encode()
        self.say("runner.ended", **result)
        return 0 if ended == "done" else 1


Script = Callable[[Inside], Awaitable[int]]


@dataclass(eq=False)
class FakeEngine:
    """``faults``: how often a method fails before it works, by name. ``away``: nobody answers."""

    script: Script
    clock: Clock
    made: list[Inside] = field(default_factory=list)
    there: dict[str, Inside] = field(default_factory=dict)
    tags: dict[str, tuple[dict[str, str], float]] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    back: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.back.set()

    def go_away(self) -> None:
        self.back.clear()
        self.cut.set()
        for one in self.there.values():
            one.more.set()

    def come_back(self) -> None:
        self.cut.clear()
        self.back.set()

    def _ask(self, method: str) -> None:
        if not self.back.is_set():
            raise EngineUnavailable("the engine does not answer")
        if self.faults.get(method, 0) > 0:
            self.faults[method] -= 1
            raise EngineUnavailable(f"{method} got no answer")

    def _one(self, container_id: str) -> Inside:
        if container_id not in self.there:
            raise ContainerGone("there is no such container")
        return self.there[container_id]

    async def info(self) -> EngineInfo:
        self._ask("info")
        return EngineInfo("fake", "1", frozenset(), rootless=False)

    async def create(self, spec: ContainerSpec) -> str:
        self._ask("create")
        if any(one.spec.name == spec.name for one in self.there.values()):
            raise EngineError("the name is taken")
        one = Inside(spec, f"c{len(self.made)}", self.clock.now_s())
        self.made.append(one)
        self.there[one.id] = one
        return one.id

    async def put(self, container_id: str, path: str, tar: bytes | AsyncIterator[bytes]) -> None:
        self._ask("put")
        one = self._one(container_id)
        if path not in one.spec.volumes or one.task is not None:
            raise EngineError("inputs are put into volumes, before the start")
        data = tar if isinstance(tar, bytes) else b"".join([piece async for piece in tar])
        one.files |= {f"{path}/{name}": content for name, content in files_of(data).items()}

    async def start(self, container_id: str) -> None:
        self._ask("start")
        one = self._one(container_id)
        one.task = asyncio.create_task(self._run(one))

    async def _run(self, one: Inside) -> int:
        code = 137
        try:
            code = await self.script(one)
        finally:
            one.exit = Exit(code, one.oom)
            one.more.set()
        return code

    async def follow(self, container_id: str) -> AsyncIterator[bytes]:
        self._ask("follow")
        one, at = self._one(container_id), 0
        while True:
            while at < len(one.lines):
                at += 1
                yield one.lines[at - 1]
            if self.cut.is_set():
                raise EngineUnavailable("the engine went away")
            if one.exit is not None or container_id not in self.there:
                return
            one.more.clear()
            await one.more.wait()

    async def wait(self, container_id: str) -> Exit:
        self._ask("wait")
        one = self._one(container_id)
        if one.task is not None:
            await asyncio.wait([one.task])
        return one.exit or Exit(0, oom=False)

    async def stop(self, container_id: str, grace_s: float) -> None:
        self._ask("stop")
        one = self._one(container_id)
        if one.task is None:
            return
        one.stopping.set()
        nap = asyncio.ensure_future(self.clock.sleep(grace_s))
        await asyncio.wait({one.task, nap}, return_when=asyncio.FIRST_COMPLETED)
        nap.cancel()
        await self.kill(container_id)

    async def kill(self, container_id: str) -> None:
        self._ask("kill")
        await self._end(self._one(container_id))

    async def _end(self, one: Inside) -> None:
        if one.task is not None:
            one.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([one.task])

    async def collect(self, container_id: str, path: str, max_bytes: int) -> AsyncIterator[bytes]:
        self._ask("collect")
        one = self._one(container_id)
        if path in one.files:
            data = tar_of({path.rsplit("/", 1)[1]: one.files[path]})
        else:
            inner = path.endswith("/.")
            root = path.removesuffix(".").rstrip("/") + "/"
            found = {name.removeprefix(root): data for name, data in one.files.items() if name.startswith(root)}
            if root == "/":
                found = {name: data for name, data in found.items() if not name.startswith(("task/", "workspace/"))}
            if not found and not any(root.startswith(volume) for volume in ("/workspace/", "/out/")):
                raise ContainerGone("there is no such path")
            data = tar_of(found, "./" if inner else root.rstrip("/").rsplit("/", 1)[-1] + "/")
        if len(data) > max_bytes:
            raise EngineError(f"more than {max_bytes} bytes")
        for at in range(0, len(data), 4096):
            yield data[at : at + 4096]

    async def written_bytes(self, container_id: str) -> int:
        self._ask("written_bytes")
        return self._one(container_id).written

    async def commit(self, container_id: str, tag: str, labels: tuple[tuple[str, str], ...]) -> str:
        self._ask("commit")
        self._one(container_id)
        self.tags[tag] = (dict(labels), self.clock.now_s())
        return tag

    async def has_image(self, tag: str) -> bool:
        self._ask("has_image")
        return tag in self.tags

    async def remove_image(self, tag: str) -> None:
        self._ask("remove_image")
        self.tags.pop(tag, None)

    async def images(self, label: str) -> dict[str, float]:
        self._ask("images")
        return {tag: made_at_s for tag, (labels, made_at_s) in self.tags.items() if labels.get(label)}

    async def remove(self, container_id: str) -> None:
        self._ask("remove")
        if container_id in self.there:
            await self._end(self.there[container_id])
            self.there.pop(container_id).more.set()

    async def containers(self, label: str, value: str | None = None) -> tuple[Found, ...]:
        self._ask("containers")
        return tuple(
            Found(one.id, one.spec.name, one.task is not None and one.exit is None, one.labels, one.created_at_s)
            for one in self.there.values()
            if label in one.labels and value in (None, one.labels[label])
        )

    async def close(self) -> None:
        for one in list(self.there.values()):
            await self._end(one)
