"""With which privileges does the agent's container of a task or of a synchronous run go?

    mode                  user   root of the container   /workspace   internet
    none (a task)         agent  read-only               writable     the environment's policy for agents
    read-only             agent  read-only               read-only    none
    workspace-write       agent  read-only               writable     none
    danger-full-access    root   writable                writable     the environment's policy, unless it is refused

Rules that hold: nothing here widens what the environment allows; a run lives no longer than its own wall clock and
the environment's, whichever is shorter; the network of the container itself is none in every row. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sandbox.types import EnvironmentSpec, Limits, NetworkPolicy, RunLevel, RunMode

NO_INTERNET: Final = NetworkPolicy()


@dataclass(frozen=True, slots=True)
class ContainerMode:
    """The parts of a ContainerSpec that a mode decides, the policy for the proxy, and the limits that hold for every
    container of the attempt."""

    as_root: bool
    read_only_root: bool
    read_only_workspace: bool
    network: NetworkPolicy
    limits: Limits


def container_of(mode: RunMode | None, environment: EnvironmentSpec) -> ContainerMode:
    """See the table."""
    limits = environment.limits
    if mode is None:
        return ContainerMode(
            as_root=False,
            read_only_root=True,
            read_only_workspace=False,
            network=environment.agent_network,
            limits=limits,
        )
    full = mode.level is RunLevel.FULL_ACCESS
    return ContainerMode(
        as_root=full,
        read_only_root=not full,
        read_only_workspace=mode.level is RunLevel.READ_ONLY,
        network=environment.agent_network if full and mode.network else NO_INTERNET,
        limits=replace(limits, wall_s=min(limits.wall_s, mode.wall_s)),
    )
