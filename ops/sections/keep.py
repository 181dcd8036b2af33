"""Settings of what is kept: the stores and the key that seals."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from ops.sections.base import Seconds, Section


class StoreSettings(Section):
    """Where records rest."""

    url: str = Field(
        "sqlite:///data/relay.db", description="Durable records: sqlite:///PATH, redis://HOST:PORT/DB or memory://."
    )
    hot_url: str | None = Field(None, description="Shared hot state, redis://...; the durable store when not set.")
    redis_timeout_ms: int = Field(100, ge=10, le=5000, description="Longest wait for one answer of the hot store.")
    redis_prefix: str = Field("codex-relay", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="First part of Redis keys.")
    busy_timeout_s: Seconds = Field(2.0, description="Longest wait for a locked database.")


class VaultSettings(Section):
    """The key that seals the accounts' tokens."""

    provider: Literal["file", "env"] = Field("file", description="Where the 32-byte key comes from.")
    key: SecretStr | None = Field(None, description="base64 key for provider env; prefer the file.")
    key_file: Path = Field(Path("data/vault.key"), description="base64 key, mode 0600; made on first start.")
