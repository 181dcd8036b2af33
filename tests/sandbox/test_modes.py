"""A mode never gives more than its row of the table, nor more than the environment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.bodies import TaskBody, read_task, write_task
from sandbox.modes import NO_INTERNET, ContainerMode, container_of
from sandbox.types import EnvironmentSpec, NetworkPolicy, RunLevel, RunMode, TaskSpec

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
