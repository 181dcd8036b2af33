"""A mode never gives more than its row of the table, nor more than the environment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sandbox.bodies import TaskBody, read_task, write_task
from sandbox.isolation import create_body
from sandbox.modes import NO_INTERNET, ContainerMode, container_of
from sandbox.types import (
    ArchiveSource,
    Ended,
    EnvironmentSpec,
    NetworkPolicy,
    RunLevel,
    RunMode,
    TaskSpec,
)
from tests.fakes.engine import Inside, tar_of
from tests.sandbox.worker_rig import ANN, SPEC, Rig

POLICY = NetworkPolicy(domains=("example.org",))
ENVIRONMENT = EnvironmentSpec("env_1", "t", "one", agent_network=POLICY)


@pytest.mark.parametrize(
    ("level", "network", "expected"),
    [
        (RunLevel.READ_ONLY, True, (False, True, True, NO_INTERNET)),
        (RunLevel.WORKSPACE_WRITE, True, (False, True, False, NO_INTERNET)),
        (RunLevel.FULL_ACCESS, False, (True, False, False, NO_INTERNET)),
        (RunLevel.FULL_ACCESS, True, (True, False, False, POLICY)),
    ],
)
def test_a_run_has_what_its_level_says(
    level: RunLevel, network: bool, expected: tuple[bool, bool, bool, NetworkPolicy]
) -> None:
    limits = replace(ENVIRONMENT.limits, wall_s=60.0)
    assert container_of(RunMode(level, network, 60.0), ENVIRONMENT) == ContainerMode(*expected, limits)


def test_a_task_has_what_its_environment_says() -> None:
    assert container_of(None, ENVIRONMENT) == ContainerMode(False, True, False, POLICY, ENVIRONMENT.limits)


@pytest.mark.parametrize(("wall_s", "expected"), [(10.0, 10.0), (1e9, ENVIRONMENT.limits.wall_s)])
def test_the_shorter_wall_clock_holds(wall_s: float, expected: float) -> None:
    mode = RunMode(RunLevel.READ_ONLY, False, wall_s)
    assert container_of(mode, ENVIRONMENT).limits == replace(ENVIRONMENT.limits, wall_s=expected)


@pytest.mark.parametrize("mode", [None, RunMode(RunLevel.FULL_ACCESS, True, 5.0)])
def test_a_mode_is_written_and_read_with_its_task(mode: RunMode | None) -> None:
    body = TaskBody("t", "me", TaskSpec("do it", "gpt-5.5", "env_1", mode=mode))
    assert read_task(write_task(body)) == body


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    made.environments.known["env_1"] = replace(
        made.environments.known["env_1"], agent_network=POLICY, test_command="make test"
    )
    yield made
    await made.close()


async def worked(rig: Rig, level: RunLevel, *, network: bool) -> list[Inside]:
    """The containers that a worker made for a run over an upload."""
    rig.results.blobs["acme/up/1"] = tar_of({"README": b"hello"})
    rig.begin()
    spec = replace(SPEC, source=ArchiveSource("acme/up/1", "a.zip"), mode=RunMode(level, network, 5.0))
    task = await rig.over(await rig.service.create(ANN, spec))
    result = task.attempts[0].body.result
    assert result is not None
    assert (result.ended, result.tests_passed) == (Ended.DONE, None)
    assert rig.engine.there == {}
    for one in rig.engine.made:
        create_body(one.spec, None)  # the driver would take it
        assert one.spec.limits.wall_s == 5.0
    return rig.engine.made


async def test_a_read_only_workspace_is_filled_by_a_container_that_never_runs(rig: Rig) -> None:
    filler, agent = [one for one in await worked(rig, RunLevel.READ_ONLY, network=True) if one.step == "agent"]
    assert filler.files == {"/workspace/README": b"hello"}
    assert filler.task is None
    assert agent.spec.read_only_workspace
    assert not filler.spec.read_only_workspace
    assert agent.spec.workspace_volume is not None
    assert agent.spec.workspace_volume == filler.spec.workspace_volume
    assert not any(name.startswith("/workspace/") for name in agent.files)
    assert not agent.spec.as_root
    assert rig.egress.ever == []


async def test_a_writable_workspace_has_no_egress(rig: Rig) -> None:
    agent = (await worked(rig, RunLevel.WORKSPACE_WRITE, network=True))[-1]
    assert agent.files["/workspace/README"] == b"hello"
    assert (agent.spec.read_only_workspace, agent.spec.as_root, agent.spec.read_only_root) == (False, False, True)
    assert rig.egress.ever == []


@pytest.mark.parametrize("network", [True, False])
async def test_full_access_is_root_with_the_environments_egress(rig: Rig, network: bool) -> None:
    agent = (await worked(rig, RunLevel.FULL_ACCESS, network=network))[-1]
    assert (agent.spec.read_only_workspace, agent.spec.as_root, agent.spec.read_only_root) == (False, True, False)
    assert [policy for _, policy in rig.egress.ever] == ([POLICY] if network else [])
