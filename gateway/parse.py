"""From one HTTP request to one RelayRequest: body, headers, who, for which model, bound to what.

The order is the cheap and the certain first: content type, size, content encoding, JSON, then the adaptation. Header
fields go up by an allow-list only, each with printable ASCII and of bearable size; identity headers (originator,
user-agent, version) only of Codex clients. The client's own identifiers never leave as keys of anything: affinity
and ownership are digests keyed by the tenant, so that two tenants can share neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from auth.types import Caller
from gateway.adapt import Adapted, Mode, Terms, adapt
from gateway.decode import decode_body
from gateway.departure import Receive
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.guard import Scope, read_body
from gateway.jsongate import parse_object
from gateway.models import ModelTable
from gateway.types import Dialect, RelayRequest
from upstream.types import RawHeaders

DIGEST_BYTES: Final = 16
_TURN_STATE: Final = b"x-codex-turn-state"
_OWNER: Final = b"owner"
_AFFINITY: Final = b"affinity"

ALLOWED: Final = frozenset(
    {
        b"conversation_id",
        b"session-id",
        b"session_id",
        b"thread-id",
        b"x-client-request-id",
        b"x-codex-beta-features",
        b"x-codex-parent-thread-id",
        b"x-codex-routing-hint",
        b"x-codex-turn-metadata",
        b"x-codex-turn-state",
        b"x-codex-window-id",
        b"x-openai-internal-codex-responses-lite",
        b"x-openai-subagent",
        b"x-responsesapi-include-timing-metrics",
    }
)
"""Fields of every client that go up."""
CODEX_ONLY: Final = frozenset({b"openai-beta", b"originator", b"user-agent", b"version"})
"""Fields that go up for Codex clients only; others get the gateway's own identity."""
_LONG: Final = frozenset({b"x-codex-turn-metadata", b"x-codex-turn-state"})
_MAX_VALUE_BYTES: Final = 512
_MAX_LONG_VALUE_BYTES: Final = 16 * 1024
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_CODEX_MARKS: Final = frozenset({b"x-codex-turn-metadata", b"x-codex-window-id"})
_IDENTITY: Final = frozenset({b"originator", b"user-agent"})
_CODEX_NAMES: Final = frozenset({b"codex_", b"codex-", b"codex ", b"codex/"})
_AFFINITY_HEADERS: Final = (b"thread-id", b"session-id", b"session_id", b"conversation_id")


def owner_digest(tenant_id: str, value: bytes) -> bytes:
    """The tenant's digest of an encrypted part or a turn-state: 16 bytes."""
    return _digest(tenant_id, _OWNER, value)


def affinity_digest(tenant_id: str, value: bytes) -> bytes:
    """The tenant's digest of a conversation's key: 16 bytes."""
    return _digest(tenant_id, _AFFINITY, value)


def _digest(tenant_id: str, person: bytes, value: bytes) -> bytes:
    key = tenant_id.encode()
    if len(key) > 64:
        key = hashlib.blake2b(key, digest_size=64).digest()
    return hashlib.blake2b(value, digest_size=DIGEST_BYTES, key=key, person=person).digest()


def dialect_of(fields: Sequence[tuple[bytes, bytes]]) -> Dialect:
    """Codex when the originator or the user agent says so, or when a field is there that only Codex sends.

    Programs on top of Codex use names of their own as originator; the other fields give them away.
    """
    for name, value in fields:
        if name in _CODEX_MARKS or (name in _IDENTITY and value[:6].lower() in _CODEX_NAMES):
            return Dialect.CODEX
    return Dialect.SDK


def upstream_headers(fields: Sequence[tuple[bytes, bytes]], dialect: Dialect) -> RawHeaders:
    """The client's fields that go up, each name once (the first counts), values that could hurt left out."""
    codex = dialect is Dialect.CODEX
    taken: RawHeaders = []
    seen: set[bytes] = set()
    for name, value in fields:
        if (name not in ALLOWED and not (codex and name in CODEX_ONLY)) or name in seen:
            continue
        longest = _MAX_LONG_VALUE_BYTES if name in _LONG else _MAX_VALUE_BYTES
        if 0 < len(value) <= longest and not value.translate(None, _PRINTABLE):
            seen.add(name)
            taken.append((name, value))
    return taken


def affinity_of(adapted: Adapted, headers: RawHeaders, tenant_id: str) -> bytes | None:
    """What keeps a conversation on one account: prompt_cache_key, else the thread's or session's header."""
    if adapted.prompt_cache_key:
        return affinity_digest(tenant_id, adapted.prompt_cache_key.encode())
    sent = dict(headers)
    for name in _AFFINITY_HEADERS:
        if name in sent:
            return affinity_digest(tenant_id, sent[name])
    return None


class RequestParser:
    """Reads and adapts model calls. One per process; holds no per-request state."""

    def __init__(
        self,
        table: ModelTable,
        known: Callable[[], Collection[str]],
        mode: Mode,
        max_body_bytes: int,
        total_timeout_s: float,
    ) -> None:
        """``known`` gives the backend's model names as discovered so far (empty: not yet)."""
        self._table = table
        self._known = known
        self._mode = mode
        self._terms = Terms(table, (), mode)
        self._max_body_bytes = max_body_bytes
        self._total_timeout_s = total_timeout_s

    async def parse(self, scope: Scope, receive: Receive, exchange: Exchange) -> RelayRequest:
        """Raises GatewayError for every fault of the request, ClientGone when the client left in the middle."""
        fields: list[tuple[bytes, bytes]] = scope["headers"]
        encodings: list[bytes] = []
        for name, value in fields:
            if name == b"content-encoding":
                encodings.append(value)
            elif name == b"content-type":
                _check_content_type(value)
        body = await read_body(receive, self._max_body_bytes)
        if encodings:
            body = decode_body(body, encodings, self._max_body_bytes)
        return self.build(body, fields, exchange)

    def build(self, body: bytes, fields: Sequence[tuple[bytes, bytes]], exchange: Exchange) -> RelayRequest:
        """The request that ``body`` (decoded) and the header ``fields`` make. No I/O. Raises GatewayError."""
        caller = exchange.caller
        assert caller is not None
        tenant_id = caller.tenant_id
        dialect = dialect_of(fields)
        known = self._known()
        if known is not self._terms.known:
            self._terms = Terms(self._table, known, self._mode)
        terms = self._terms
        adapted = adapt(parse_object(body), terms, dialect is Dialect.CODEX, partial(owner_digest, tenant_id))
        _check_model(adapted, caller)
        headers = upstream_headers(fields, dialect)
        return RelayRequest(
            id=exchange.id,
            caller=caller,
            model=adapted.model,
            requested_model=adapted.requested_model,
            adapted=adapted,
            headers=headers,
            affinity=affinity_of(adapted, headers, tenant_id),
            owners=_owners(adapted, headers, tenant_id),
            stream=adapted.stream,
            dialect=dialect,
            deadline_s=exchange.started_s + self._total_timeout_s,
            adaptations=adapted.adaptations,
            echo=adapted.echo,
        )


def _owners(adapted: Adapted, headers: RawHeaders, tenant_id: str) -> tuple[bytes, ...]:
    """Digests of everything that binds the request to an account, newest first."""
    states = [owner_digest(tenant_id, value) for name, value in headers if name == _TURN_STATE]
    return (*states, *(digest for _, digest in reversed(adapted.sealed)))


def _check_content_type(value: bytes) -> None:
    kind = value.partition(b";")[0].strip().lower()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        raise GatewayError(
            "unsupported_media_type", "The body must be JSON: Content-Type: application/json", close=True
        )


def _check_model(adapted: Adapted, caller: Caller) -> None:
    if caller.models and adapted.model not in caller.models and adapted.requested_model not in caller.models:
        raise GatewayError.forbidden("the key is not for this model")
