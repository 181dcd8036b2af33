"""Which containers does an attempt need, with what in them? Pure: records in, specs and inputs out.

    checkout    root, agent image              the repository by git, its token; only the repository's host;
                                               or a repository made of the upload, when no script follows
    setup       root, agent image              the set-up script, the environment's secrets, its allow-list
    maintain    root, the kept image           the maintenance script, likewise
    agent       uid 10001, prepared image      the task's key; no secrets (a synchronous run: as sandbox.modes says)
    judge       uid 10001, prepared image      the environment's test command; no key, no socket

Checkout, set-up and maintenance are all of Phase.SETUP. They are containers of their own so that the token that reads
a repository never meets a script, and so that lock files are known before an image is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sandbox.bodies import AttemptBody
from sandbox.engine import (
    LABEL_ATTEMPT,
    LABEL_DEADLINE,
    LABEL_OWNER,
    LABEL_PHASE,
    LABEL_TASK,
    ContainerSpec,
)
from sandbox.modes import ContainerMode, container_of
from sandbox.types import EnvironmentSpec, GitSource, NetworkPolicy, Phase, RunMode, TaskSpec
from store.records import Secret
from store.task_records import AttemptRecord

LABEL_ENVIRONMENT: Final = "codex-relay.environment"
LABEL_STEP: Final = "codex-relay.step"
RUNNER: Final = ("python3", "-I", "/opt/agent/runner")
CHECKOUT: Final = "checkout"
SETUP: Final = "setup"
MAINTAIN: Final = "maintain"
AGENT: Final = "agent"
JUDGE: Final = "judge"


@dataclass(frozen=True, slots=True)
class Step:
    """One container of an attempt. ``network`` None: it has no egress of its own (the gateway's relay at most)."""

    name: str
    phase: Phase
    image: str
    commands: tuple[tuple[str, str], ...] = ()
    git: GitSource | None = None
    secrets: tuple[tuple[str, Secret], ...] = ()
    network: NetworkPolicy | None = None
    with_key: bool = False
    held: ContainerMode | None = None
    """Of an agent: what its container may do; None: as its phase says."""


def environment_image(cache_key: str) -> str:
    """The tag under which a set-up's result is kept."""
    return f"codex-relay/env:{cache_key}"


def checkout(source: GitSource, image: str) -> Step:
    """The repository alone."""
    host = urlsplit(source.url).hostname or ""
    return Step(CHECKOUT, Phase.SETUP, image, git=source, network=NetworkPolicy((host,), frozenset()))


def adopt_tree(image: str) -> Step:
    """Makes a repository of what was uploaded (or of nothing), so that a diff can be made; no network."""
    return Step(CHECKOUT, Phase.SETUP, image)


def set_up(environment: EnvironmentSpec, image: str, *, kept: bool) -> Step | None:
    """What is to be run before the agent, in ``image``; None when there is nothing to run."""
    name, script = (MAINTAIN, environment.maintenance_script) if kept else (SETUP, environment.setup_script)
    if not script.strip():
        return None
    return Step(
        name,
        Phase.SETUP,
        image,
        commands=((name, script),),
        secrets=environment.secrets,
        network=environment.setup_network,
    )


def agent(environment: EnvironmentSpec, image: str, mode: RunMode | None = None) -> Step:
    held = container_of(mode, environment)
    return Step(
        AGENT, Phase.AGENT, image, network=held.network if held.network.domains else None, with_key=True, held=held
    )


def judge(environment: EnvironmentSpec, image: str) -> Step:
    return Step(JUDGE, Phase.JUDGE, image, commands=(("test", environment.test_command),))


def prompt_of(spec: TaskSpec, body: AttemptBody) -> str:
    """The words of this attempt: a follow-up has its own."""
    return spec.prompt if body.prompt is None else body.prompt


def container_spec(
    step: Step,
    attempt: AttemptRecord,
    environment: EnvironmentSpec,
    *,
    owner: str,
    turn: int,
    deadline_at_s: float,
    socket_folder: Path,
    runtime: str | None,
) -> ContainerSpec:
    """The container of ``step``; ``turn`` counts the tries of one lease, so that a name is never taken twice."""
    root = step.phase is Phase.SETUP
    as_root, read_only_root = (root, not root) if step.held is None else (step.held.as_root, step.held.read_only_root)
    name = f"codex-relay-{attempt.task_id}-{attempt.number}-{step.name}-{attempt.fence}.{turn}"
    fixed = step.held is not None and step.held.read_only_workspace
    return ContainerSpec(
        name=name,
        image=step.image,
        phase=step.phase,
        argv=RUNNER,
        limits=environment.limits,
        labels=(
            (LABEL_TASK, attempt.task_id),
            (LABEL_ATTEMPT, str(attempt.number)),
            (LABEL_PHASE, step.phase.value),
            (LABEL_STEP, step.name),
            (LABEL_OWNER, owner),
            (LABEL_DEADLINE, f"{deadline_at_s:.3f}"),
        ),
        socket_folder=None if step.phase is Phase.JUDGE else socket_folder,
        as_root=as_root,
        read_only_root=read_only_root,
        runtime=runtime,
        workspace_volume=f"{name}-workspace" if fixed else None,
        read_only_workspace=fixed,
    )
