"""The agent image on a real engine, and a driver of that engine that leaves nothing behind.

The base (a Debian with git and Python) is made once per machine; the image is built once per session, in some seconds,
with the real Codex CLI of package-lock.json and without network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.build import build, find_codex
from sandbox.docker import DockerEngine
from tests.real.docker_engine import Docker, base_tarball, engine, unavailable

BASE = "codex-relay-test-agent-base"
TAG = "codex-relay-test-agent:1"


@dataclass(frozen=True, slots=True)
class AgentImage:
    """``tag`` at the engine behind ``socket_url``; ``docker`` is the command against the same engine."""

    docker: Docker
    socket_url: str
    tag: str


@pytest.fixture(scope="session")
def agent_image(codex_binary: Path) -> Iterator[AgentImage]:
    from tests.real.conftest import missing

    reason = unavailable()
    if reason is not None:
        missing(reason)
    with engine() as docker:
        socket_url = docker.host or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if docker.run("image", "inspect", BASE, check=False) != "0":
            base = base_tarball("agent-base", "python3,git,ca-certificates")
            docker.run("import", "-", BASE, stdin=base, timeout_s=300)
        said: list[str] = []
        asyncio.run(build(socket_url, find_codex(codex_binary), TAG, base=BASE, say=said.append))
        try:
            yield AgentImage(docker, socket_url, TAG)
        finally:
            docker.run("rmi", "-f", TAG, BASE, check=False)


@pytest.fixture
async def agent_engine(agent_image: AgentImage) -> AsyncIterator[DockerEngine]:
    """A driver; what a test leaves at the engine fails it."""
    before = left(agent_image.docker)
    driver = await DockerEngine.open(agent_image.socket_url)
    yield driver
    await driver.close()
    assert left(agent_image.docker) == before


def left(docker: Docker) -> tuple[set[str], set[str]]:
    """Containers and volumes that are there."""
    return (
        set(docker.run("ps", "-aq", "--no-trunc").split()),
        set(docker.run("volume", "ls", "-q").split()),
    )
