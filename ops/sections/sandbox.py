"""Settings of the sandbox: tasks that the Codex CLI does in containers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from ops.sections.base import Seconds, Section


class SandboxSettings(Section):
    """Tasks in containers; off until it is switched on."""

    enabled: bool = Field(False, description="Take tasks, and run a worker for them beside the gateway.")
    engine_url: str = Field(
        "unix:///var/run/docker.sock", description="The engine's socket; the worker alone opens it."
    )
    image: str = Field("codex-relay/agent:latest", description="The agent image; codex-relay sandbox build makes it.")
    runtime: str | None = Field(
        None, description="Container runtime that must be there, such as runsc; the engine's default when not set."
    )
    gateway_url: str | None = Field(None, description="Where a worker reaches the gateway; this one when not set.")
    folder: Path = Field(Path("data/sandbox"), description="Sockets and local results lie below this folder.")
    model: str = Field("gpt-5.5", description="Model of a task that names none.")
    max_tasks: int = Field(4, ge=1, le=256, description="Attempts that one worker runs at once.")
    tenant_tasks: int = Field(
        4, ge=1, le=1000, description="Attempts of one tenant that run at once, over all workers."
    )
    queue_max: int = Field(200, ge=1, description="Tasks of one tenant that wait at most; more are refused with 429.")
    lease_s: Seconds = Field(30.0, description="A worker that is silent for this long has lost its attempts.")
    cache_s: Seconds = Field(43_200.0, description="A set-up environment is kept this long.")
    retention_s: Seconds = Field(2_592_000.0, description="Tasks and results are kept this long after their end.")
    upload_mib: int = Field(100, ge=1, le=2048, description="Largest uploaded archive, in MiB.")
    two_persons: bool = Field(False, description="A task is approved by two people, neither of them its author alone.")
    cpus: float = Field(2.0, gt=0, le=256, description="Processors of one container, unless its environment says less.")
    memory_mib: int = Field(4096, ge=256, description="Memory of one container in MiB; no swap.")
    pids: int = Field(512, ge=32, description="Processes of one container.")
    disk_mib: int = Field(8192, ge=64, description="What one container may write, in MiB.")
    wall_s: Seconds = Field(3600.0, description="Longest life of one phase.")
    output_mib: int = Field(40, ge=1, le=1024, description="Longest log of one attempt, in MiB; then it is cut.")
    results: Literal["local", "s3"] = Field("local", description="Where results rest.")
    s3_url: str | None = Field(None, description="s3://bucket/prefix for results = s3.")
    s3_endpoint: str | None = Field(None, description="Endpoint of an S3-compatible store that is not AWS.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key: str | None = Field(
        None, description="Access key id; the environment's or the machine's when not set."
    )
    s3_secret_key: SecretStr | None = Field(None, description="Its secret; prefer the machine's own role.")
    synchronous: bool = Field(False, description="Take x_codex.sandbox on /v1/responses.")
    synchronous_max: int = Field(2, ge=1, le=64, description="Synchronous runs at once; more wait.")
    synchronous_queue_s: Seconds = Field(30.0, description="Longest wait for a place.")
    synchronous_run_s: Seconds = Field(600.0, description="Longest synchronous run.")
    full_access: bool = Field(False, description="Let a synchronous run ask for danger-full-access.")
    local_only: bool = Field(False, description="Refuse synchronous runs unless the upstream is on a private address.")
