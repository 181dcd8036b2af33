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
    redis_timeout_ms: int = Field(
        100, ge=10, le=5000, description="Longest that one request waits for the hot store in all."
    )
    redis_prefix: str = Field("codex-relay", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="First part of Redis keys.")
    busy_timeout_s: Seconds = Field(2.0, description="Longest wait for a locked database.")


class VaultSettings(Section):
    """The key that seals the accounts' tokens."""

    provider: Literal["file", "env", "command", "transit", "aws", "gcp"] = Field(
        "file", description="Where the 32-byte key comes from (docs/keys.md)."
    )
    key: SecretStr | None = Field(None, description="base64 key for provider env; prefer the file.")
    key_file: Path = Field(
        Path("data/vault.key"), description="The key, plain or wrapped; mode 0600; made on first start."
    )
    command: tuple[str, ...] = Field((), description="Provider command: a program and its words; prints base64 keys.")
    command_environment: tuple[str, ...] = Field((), description="Variables that the program gets besides PATH, HOME.")
    kms_key: str = Field("", description="Providers transit, aws, gcp: the name of the key that wraps ours.")
    address: str = Field("", description="Provider transit: https://HOST:PORT of Vault or OpenBao.")
    transit_mount: str = Field("transit", description="Provider transit: where the engine is mounted.")
    token_file: Path | None = Field(None, description="Provider transit: the token, mode 0600; read at every call.")
    namespace: str | None = Field(None, description="Provider transit: the namespace, if there are any.")
    ca_file: Path | None = Field(None, description="Provider transit: PEM bundle to trust besides the system's.")
    region: str | None = Field(None, description="Provider aws: the region; the client's own choice when not set.")
    kms_endpoint: str | None = Field(None, description="Providers aws, gcp: another endpoint, such as a private one.")
    timeout_s: Seconds = Field(10.0, description="Longest wait for a program or a key service, per question.")
