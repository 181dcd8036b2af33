"""Settings of the sandbox: tasks that the Codex CLI does in containers."""

from __future__ import annotations

from pydantic import Field

from ops.sections.base import Section


class SandboxSettings(Section):
    """Tasks in containers; off until it is switched on."""

    enabled: bool = Field(False, description="Take tasks, and run a worker for them beside the gateway.")
