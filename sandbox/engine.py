"""What must a container engine be able to do? The seam between tasks and Docker (or Podman's socket).

Rules that hold for every driver, proven by one contract suite on a real engine:

* a container is made from a ContainerSpec alone: no field means "unlimited", network is none in every phase, new
  privileges are never gained, and the required runtime is there or the call fails (fail closed);
* inputs are put before the start, results are collected after the end, both as tar streams;
* ``follow`` replays everything that the container said from its start and ends when it does, however often it is
  called: that is how a restarted worker adopts a running container;
* names and labels tell whose a container is; ``remove`` leaves no volume behind;
* every method raises EngineUnavailable when the engine does not answer, ContainerGone when the container is not
  there, EngineError for the rest. Cancel: the engine may finish what it began; nothing is retried here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sandbox.types import Limits, Phase

LABEL_TASK = "codex-relay.task"
LABEL_ATTEMPT = "codex-relay.attempt"
LABEL_PHASE = "codex-relay.phase"
LABEL_OWNER = "codex-relay.owner"
LABEL_DEADLINE = "codex-relay.deadline"


class EngineError(Exception):
    """The engine refused; str() is one line with the cause and the next step."""


class EngineUnavailable(EngineError):
    """The engine does not answer."""


class ContainerGone(EngineError):
    """There is no such container (any more)."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container. ``argv`` runs under an init. ``environment`` holds nothing secret: it can be inspected.

    ``socket_folder`` is mounted read-only at /run/gw (None: not at all). ``volumes`` are anonymous, made with the
    container and removed with it, owned by the image's folder of that path. ``read_only_workspace``: /workspace
    cannot be written (it is filled from ``workspace_volume`` then).
    """

    name: str
    image: str
    phase: Phase
    argv: tuple[str, ...]
    limits: Limits
    labels: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...] = ()
    socket_folder: Path | None = None
    volumes: tuple[str, ...] = ("/workspace", "/task", "/out", "/home/agent")
    as_root: bool = False
    read_only_root: bool = True
    runtime: str | None = None
    workspace_volume: str | None = None
    read_only_workspace: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. ``oom``: the kernel killed something in it for memory."""

    code: int
    oom: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A container that is there."""

    id: str
    name: str
    running: bool
    labels: dict[str, str]
    created_at_s: float


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What answers at the socket."""

    name: str
    version: str
    runtimes: frozenset[str]
    rootless: bool


class ContainerEngine(Protocol):
    """One engine. See the module for what holds for every method."""

    async def info(self) -> EngineInfo: ...

    async def create(self, spec: ContainerSpec) -> str:
        """The id of the new container, not started."""

    async def put(self, container_id: str, path: str, tar: bytes | AsyncIterator[bytes]) -> None:
        """Unpacks a tar stream below ``path``, which must be one of the volumes. Before the start."""

    async def start(self, container_id: str) -> None: ...

    def follow(self, container_id: str) -> AsyncIterator[bytes]:
        """Lines of standard output without their end, from the first one; ends with the container."""

    async def wait(self, container_id: str) -> Exit: ...

    async def stop(self, container_id: str, grace_s: float) -> None:
        """TERM, and KILL after ``grace_s``; returns when it has ended. Nothing happens when it is not running."""

    async def kill(self, container_id: str) -> None: ...

    def collect(self, container_id: str, path: str, max_bytes: int) -> AsyncIterator[bytes]:
        """The tar stream of ``path``; raises EngineError beyond ``max_bytes``."""

    async def written_bytes(self, container_id: str) -> int:
        """What it has written so far to its root and volumes, for the disk watcher."""

    async def commit(self, container_id: str, tag: str, labels: tuple[tuple[str, str], ...]) -> str:
        """The root of a stopped container as an image ``tag``, without its environment and volumes; its id."""

    async def has_image(self, tag: str) -> bool: ...

    async def remove_image(self, tag: str) -> None: ...

    async def images(self, label: str) -> dict[str, float]:
        """Tags with this label -> when they were made (Unix seconds)."""

    async def remove(self, container_id: str) -> None:
        """Kills and removes it with its volumes; nothing happens when it is gone."""

    async def containers(self, label: str, value: str | None = None) -> tuple[Found, ...]: ...

    async def close(self) -> None: ...
