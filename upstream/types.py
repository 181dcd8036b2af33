"""What goes to the Codex backend and what comes back. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

RawHeaders = list[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""


class UpstreamRequest(msgspec.Struct, frozen=True):
    """One model call, independent of the account that will carry it. (A Struct: cheap to make, one per attempt.)

    ``body`` is a sequence of buffers whose concatenation is the JSON text; ``{installation}`` has been resolved by
    the caller for the account. ``client_headers`` are the client's fields after the allow-list (names in lower
    case). ``codex_client``: the client is a Codex CLI and keeps its identity headers. ``fresh``: on a new connection,
    because a pooled one was dead.
    """

    body: Sequence[bytes]
    client_headers: RawHeaders = msgspec.field(default_factory=list)
    codex_client: bool = False
    request_id: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one exchange in seconds. ``first_event`` and ``total`` count from the start of the exchange,
    ``idle`` from the last byte."""

    connect_s: float = 5.0
    first_event_s: float = 120.0
    idle_s: float = 300.0
    total_s: float = 3600.0
    write_s: float = 60.0


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one response."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RateLimitWindow:
    """One window as reported by headers, a ``codex.rate_limits`` event or ``/wham/usage``.

    ``name`` is ``primary`` (usually 300 minutes) or ``secondary`` (usually 10,080). ``resets_at_s`` is Unix.
    """

    name: str
    used_percent: float
    window_minutes: int | None
    resets_at_s: float | None


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What ``/wham/usage`` says of an account. ``allowed``: it may be used now; ``limit_reached``: a window is full."""

    plan: str | None
    windows: tuple[RateLimitWindow, ...]
    allowed: bool
    limit_reached: bool


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """One account of ``/wham/accounts/check``. ``workspace_origin`` and ``routing_override``: None is no constraint."""

    account_id: str
    plan: str | None
    workspace_origin: str | None
    routing_override: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we say we are when the client is not a Codex CLI. Header values as they go out."""

    originator: str
    user_agent: str
    client_version: str


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Where the backend is and what we allow it. ``base_url`` carries model traffic, the wham endpoints are under
    ``chatgpt_base_url``; sizes in bytes, of one event and of one whole stream."""

    base_url: str
    chatgpt_base_url: str
    identity: Identity
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_event_bytes: int = 16 * 1024 * 1024
    max_stream_bytes: int = 512 * 1024 * 1024
    json_timeout_s: float = 15.0
