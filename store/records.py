"""The records that travel between the store and the rest: plain, frozen, and safe to print.

Rules that hold:

* every record is a frozen dataclass; a change is a new record with a higher ``version``;
* a secret is a :class:`Secret`: its repr and str are masked, and it refuses pickling, so that it cannot
  reach a log, an error or a child process by accident;
* times named ``*_at_s`` are Unix seconds as the store saw them.

This module does no I/O and imports nothing of the project.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NoReturn

import msgspec

MASK: Final = "[secret]"


class Secret:
    """A string that does not show itself. ``reveal()`` is the only way to the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Call it where the value leaves for its destination, nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never serialised")


class AccountStatus(StrEnum):
    """What only an administrator or the issuer can change; health that passes by itself is a HealthRecord."""

    ACTIVE = "active"
    NEEDS_REAUTH = "needs_reauth"  # the issuer refused the refresh token for good


@dataclass(frozen=True, slots=True)
class Account:
    """One authorised ChatGPT/Codex account, without its secrets.

    ``chatgpt_account_id`` is unique over the store. ``workspace_origin`` is an https origin that replaces the
    configured upstream's (None: no constraint); ``routing_override`` is sent as a header (None: no constraint).
    ``installation_id`` is a UUID made at import and never changed.
    """

    id: str
    chatgpt_account_id: str
    label: str
    email: str | None = None
    plan: str | None = None
    pool: str = "default"
    weight: int = 1
    enabled: bool = True
    status: AccountStatus = AccountStatus.ACTIVE
    status_reason: str | None = None
    workspace_origin: str | None = None
    routing_override: str | None = None
    fedramp: bool = False
    installation_id: str = ""
    created_at_s: float = 0.0
    version: int = 1


class RefreshState(StrEnum):
    """Where the account's refresh token stands (RELIABILITY: a refresh token works once)."""

    READY = "ready"  # the stored refresh token has never been sent, as far as we know
    UNCERTAIN = "uncertain"  # it was sent and no answer came: it may be spent
    SPENT = "spent"  # the issuer said so: only a new login helps


@dataclass(frozen=True, slots=True)
class Credential:
    """The tokens of one account. ``version`` rises by one with each compare-and-put that wins."""

    account_id: str
    access_token: Secret
    refresh_token: Secret | None
    id_token: Secret | None
    expires_at_s: float
    refreshed_at_s: float
    refresh_state: RefreshState = RefreshState.READY
    version: int = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on ``scope`` in the durable store, judged by the store's own clock.

    ``fence`` rises with every claim of the scope; a write that carries an older fence is refused.
    """

    scope: str
    holder: str
    fence: int
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class RefreshIntent:
    """The durable note "this refresh token is about to be sent", written before it is sent.

    It stays when the process dies, and tells the next one that the outcome is unknown. ``token_digest`` is the
    hex SHA-256 of the refresh token; ``replays`` counts how often a token of unknown outcome was sent again.
    """

    account_id: str
    token_digest: str
    fence: int
    started_at_s: float
    replays: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key or a tenant may do; None means no limit of its own."""

    requests_per_minute: int | None = None
    concurrent_streams: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A group of keys with limits of its own. ``pools`` empty: every pool."""

    id: str
    name: str
    limits: Limits = field(default_factory=Limits)
    pools: tuple[str, ...] = ()
    enabled: bool = True
    created_at_s: float = 0.0
    version: int = 1


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One client key as stored: a keyed hash, never the key. ``models`` empty: every model."""

    id: str
    tenant_id: str
    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str] = frozenset({"relay"})
    models: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    created_at_s: float = 0.0
    version: int = 1


ROUTE: Final = "*"
"""``HealthRecord.account_id`` of what blocks the route itself and no account."""


@dataclass(frozen=True, slots=True)
class HealthRecord:
    """Why an account (or one model of it, or the whole route) is out for now: typed evidence, shared by all workers.

    ``scope`` is ``account`` or ``model:<slug>``; ``kind`` is ``cooldown`` or ``breaker``. ``cause`` is a word of a
    closed set (router.types.Cause). ``evidence`` is a short redacted text that a person can check. One record per
    (account_id, scope, kind); the one with the later ``updated_at_s`` wins. ``until_s`` at or before now: healthy.
    ``owner`` is the worker that may probe first.
    """

    account_id: str
    scope: str
    kind: str
    cause: str
    evidence: str
    since_s: float
    until_s: float
    next_probe_s: float | None
    level: int
    state: str
    owner: str
    updated_at_s: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Which account a key belongs to. ``kind`` is ``affinity`` (a wish) or ``owner`` (a constraint).

    ``digest`` is a tenant-salted hash; neither content nor a client's own identifier is kept.
    """

    kind: str
    digest: bytes
    account_id: str
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """One rate-limit window of an account as last reported (``name``: primary or secondary)."""

    account_id: str
    name: str
    used_percent: float
    window_minutes: int | None
    resets_at_s: float | None
    seen_at_s: float


@dataclass(frozen=True, slots=True)
class Document:
    """A record of one kind whose shape its owner knows: administrators, console sessions, sign-ins under way, ...

    ``body`` is the owner's JSON; a durable store keeps it sealed. ``id`` is chosen by the owner and is not secret.
    From ``expires_at_s`` on (by the store's clock) the document is absent. ``version`` rises with every
    compare-and-put.
    """

    kind: str
    id: str
    body: bytes = field(repr=False)
    expires_at_s: float | None = None
    version: int = 1


class AuditRecord(msgspec.Struct, frozen=True):
    """One line of the audit log, without content. ``seq``, ``prev_hash`` and ``hash`` are given by the store.
    (A Struct: one is made for every request.)

    ``detail`` holds scalars only (counts, statuses, names), never text that a client wrote.
    """

    at_s: float
    actor: str
    action: str
    outcome: str
    tenant_id: str | None = None
    key_id: str | None = None
    request_id: str | None = None
    target: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    detail: tuple[tuple[str, Any], ...] = ()
    seq: int = 0
    prev_hash: str = ""
    hash: str = ""
