"""Every setting of codex-relay: its unit, its default and the reason for it.

One TOML file; every value is also the environment variable ``CODEX_RELAY_<SECTION>__<NAME>``, which wins. Unknown
keys, wrong types and missing secrets refuse the start with one line that names the setting and the fix.
The sections stand in ops/sections. ``config.example.toml`` and ``docs/settings.md`` are generated from them.

Read by the roof only: constructors get values, never this object's getter.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ops.sections.admin import AdminSettings, OidcSettings
from ops.sections.base import Section
from ops.sections.keep import StoreSettings, VaultSettings
from ops.sections.relay import (
    LimitSettings,
    ModelSettings,
    OAuthSettings,
    RouterSettings,
    ServerSettings,
    UpstreamSettings,
)
from ops.sections.sandbox import SandboxSettings
from ops.sections.watch import AuditSettings, LogSettings, MetricsSettings, WebhookSettings

ENV_PREFIX = "CODEX_RELAY_"
CONFIG_ENV = "CODEX_RELAY_CONFIG"
URL_ENV = "CODEX_RELAY_URL"
KEY_ENV = "CODEX_RELAY_KEY"
"""These two are for commands that call a gateway; no setting is read from them."""


class SettingsError(Exception):
    """The configuration cannot be used; str() is one line with the setting, the cause and the fix."""


class Settings(BaseSettings):
    """All sections. Build it with :func:`load`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    oauth: OAuthSettings = OAuthSettings()
    store: StoreSettings = StoreSettings()
    vault: VaultSettings = VaultSettings()
    router: RouterSettings = RouterSettings()
    models: ModelSettings = ModelSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    audit: AuditSettings = AuditSettings()
    metrics: MetricsSettings = MetricsSettings()
    webhooks: WebhookSettings = WebhookSettings()
    admin: AdminSettings = AdminSettings()
    oidc: OidcSettings = OidcSettings()
    sandbox: SandboxSettings = SandboxSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    def whole_json(self) -> bytes:
        """Every value, secrets included: for a pipe to a process of ours, and nothing else."""
        data = self.model_dump(mode="json")
        for name in type(self).model_fields:
            section = getattr(self, name)
            for field in type(section).model_fields:
                value = getattr(section, field)
                if isinstance(value, SecretStr):
                    data[name][field] = value.get_secret_value()
        return msgspec.json.encode(data)


def from_whole_json(text: bytes) -> Settings:
    """What :meth:`Settings.whole_json` wrote, in a process whose environment holds none of our settings."""
    return Settings(**msgspec.json.decode(text))


def config_path(given: Path | None) -> Path | None:
    """``given``, else ``$CODEX_RELAY_CONFIG``, else ``./config.toml`` if it is there, else None."""
    if given is not None:
        return given
    if named := os.environ.get(CONFIG_ENV):
        return Path(named)
    local = Path("config.toml")
    return local if local.is_file() else None


def load(path: Path | None = None) -> Settings:
    """Reads the file (see :func:`config_path`) and the environment.

    Raises SettingsError with one line for the first thing that is wrong. An environment variable of our prefix
    that names no setting is refused too: a typo there must not pass silently.
    """
    found = config_path(path)
    data = _read(found) if found else {}
    _refuse_unknown_environment()
    try:
        return Settings(**data)
    except ValidationError as error:
        raise SettingsError(_one_line(error, found)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a readable file with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML ({error}); compare with config.example.toml") from None


def _refuse_unknown_environment() -> None:
    for name in os.environ:
        if not name.startswith(ENV_PREFIX) or name in {CONFIG_ENV, URL_ENV, KEY_ENV}:
            continue
        section, _, field = name.removeprefix(ENV_PREFIX).lower().partition("__")
        info = Settings.model_fields.get(section)
        known = info is not None and isinstance(info.default, Section) and field in type(info.default).model_fields
        if not known:
            raise SettingsError(f"environment variable {name}: no such setting; see config.example.toml")


def _one_line(error: ValidationError, path: Path | None) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = "no such setting" if first["type"] == "extra_forbidden" else first["msg"]
    source = f"{path} or the environment" if path else "the environment"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"setting {where}: {what}; fix it in {source}, see config.example.toml{more}"
