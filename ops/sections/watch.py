"""Settings of what is told: logs, audit, metrics, webhooks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from ops.sections.base import Seconds, Section


class LogSettings(Section):
    """Logs go to standard error, one JSON object a line."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is written.")
    format: Literal["json", "console"] = Field("json", description="json for machines, console for a terminal.")
    capture_content: Literal[False] = Field(False, description="Content is never logged; the switch states it.")


class AuditSettings(Section):
    """Who did what, without content."""

    enabled: bool = Field(True, description="One record for every request and admin act.")
    flush_ms: int = Field(200, ge=10, le=5000, description="Request records are written in batches this often.")
    queue: int = Field(20_000, ge=100, description="Records waiting at most.")
    on_full: Literal["drop", "refuse"] = Field(
        "drop", description="When the queue is full: drop and count, or refuse requests with 503."
    )


class MetricsSettings(Section):
    """Prometheus."""

    enabled: bool = Field(True, description="Serve /metrics.")
    require_key: bool = Field(False, description="Ask for a client key with scope metrics or admin.")
    port: int | None = Field(None, ge=1, le=65_535, description="Serve /metrics on this port and host alone.")


class WebhookSettings(Section):
    """Signed messages to your own systems about what needs a person: an account that needs a login, a task's end."""

    urls: tuple[str, ...] = Field((), description="Where they go: https URLs; none by default.")
    secret: SecretStr | None = Field(None, description="Signs every message (HMAC-SHA256); at least 32 bytes.")
    timeout_s: Seconds = Field(5.0, description="Deadline of one delivery.")
    give_up_s: Seconds = Field(86_400.0, description="A message is tried again for this long, with growing pauses.")
    allow_private: tuple[str, ...] = Field(
        (), description="Networks that a target may lie in although they are private, such as 10.1.0.0/16."
    )
