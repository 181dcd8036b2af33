"""Every container is what docs/sandbox-isolation.md says, and nothing gets out of it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli.root import root
from sandbox.check import LIMITS, Finding, check, judged, spec_of
from sandbox.docker import DockerEngine
from sandbox.image.probe import ATTEMPTS
from sandbox.types import Phase
from tests.real.agent_image import AgentImage
from tests.sandbox.isolation_page import differences, table

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(900)]
FOLDER = Path(__file__).resolve().parent.parent.parent / "sandbox" / "image"


@pytest.mark.parametrize("phase", Phase)
async def test_a_created_container_is_the_row_of_its_phase(
    agent_engine: DockerEngine, agent_image: AgentImage, tmp_path: Path, phase: Phase
) -> None:
    container = await agent_engine.create(spec_of(phase, agent_image.tag, tmp_path))
    try:
        inspected = json.loads(agent_image.docker.run("inspect", container))[0]
    finally:
        await agent_engine.remove(container)
    assert differences(table(phase), inspected, LIMITS, tmp_path) == []


async def test_nothing_is_open(agent_engine: DockerEngine, agent_image: AgentImage, tmp_path: Path) -> None:
    found = await check(agent_engine, agent_image.tag, tmp_path, time.time())
    assert [one for one in found if not one.passed] == []
    assert len(found) == len(Phase) * (len(ATTEMPTS) + 1)


def test_the_command_says_so(agent_image: AgentImage, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[sandbox]\nengine_url = "{agent_image.socket_url}"\nimage = "{agent_image.tag}"\n')
    done = CliRunner().invoke(root, ["sandbox", "check", "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert "OPEN" not in done.output
    assert "metadata address" in done.output
    config.write_text(f'[sandbox]\nengine_url = "{agent_image.socket_url}"\nimage = "codex-relay-test-absent"\n')
    done = CliRunner().invoke(root, ["sandbox", "check", "--config", str(config)])
    assert done.exit_code == 1
    assert "No such image" in done.output


def test_the_attempts_get_through_where_the_door_is_open(agent_image: AgentImage) -> None:
    """The control: in a container without walls, with the host's processes, much is open."""
    with subprocess.Popen(["sleep", "60"]) as someone:
        try:
            found = _in_the_open(agent_image, someone.pid)
        finally:
            someone.kill()
    assert {one.name for one in found if not one.passed} >= {
        "raw sockets", "gateway socket", "gateway folder", "namespaces", "privileges", "user namespace",
        "system calls", "host processes", "proc sys", "sysfs", "devices", "root files", "file size", "core dumps",
        "process limit", "memory limit",
    }  # fmt: skip


def _in_the_open(agent_image: AgentImage, pid: int) -> list[Finding]:
    facts = {
        "port": 9, "abstract": "nobody", "addresses": [], "pid": pid, "disk": os.stat("/").st_dev,
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "user")},
        "pids": 16, "memory_bytes": 32 << 20, "disk_bytes": 1 << 20, "capabilities": "0" * 16,
    }  # fmt: skip
    docker = agent_image.docker
    container = docker.run(
        "create", "--network=none", "--pid=host", "--user=0:0", "--security-opt=seccomp=unconfined",
        "--security-opt=systempaths=unconfined", "--device-cgroup-rule=b *:* r", "--device=/dev/kmsg", "--volume=/task",
        *_capabilities(), agent_image.tag, "python3", "/task/probe.py",
    )  # fmt: skip
    try:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in (
                ("probe.py", (FOLDER / "probe.py").read_bytes()),
                ("facts.json", json.dumps(facts).encode()),
            ):
                told = tarfile.TarInfo(name)
                told.size = len(content)
                tar.addfile(told, io.BytesIO(content))
        environment = {**os.environ, **({"DOCKER_HOST": docker.host} if docker.host else {})}
        subprocess.run(
            ["docker", "cp", "-", f"{container}:/task"], input=buffer.getvalue(), env=environment, check=True
        )
        said = docker.run("start", "-a", container, timeout_s=120)
    finally:
        docker.run("rm", "-f", "-v", container)
    return judged(Phase.AGENT, [line.encode() for line in said.splitlines()])


def _capabilities() -> list[str]:
    """Of those that open doors, what this machine has itself."""
    told = re.search(r"^CapBnd:\t(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert told is not None
    return [f"--cap-add={name}" for name, bit in (("SYS_ADMIN", 21), ("SYS_PTRACE", 19)) if int(told[1], 16) >> bit & 1]
