"""Which header fields go up, and which come down?

Rules that hold:

* every request's head is built from nothing: no field of the client passes unless it is named here, so hop-by-hop
  fields, cookies, the client's own authorization, account id and host cannot;
* a value with CR, LF, NUL or another control character is not sent (a client's field is dropped, a credential that
  holds one is an error), so that no value can start a second field;
* Codex clients keep their identity; everybody else gets the configured one;
* downwards an allow-list, too: nothing the upstream invents reaches a client.

The part of a head that depends on the account alone is prepared once and kept as bytes. Pure; field names and
meanings as recorded from the Codex CLI.
"""

from __future__ import annotations

import re
from typing import Final

from store.records import Account, Credential
from upstream.errors import FaultKind, UpstreamError
from upstream.types import Identity, RawHeaders, UpstreamRequest

IDENTITY_FIELDS: Final = frozenset({b"originator", b"user-agent", b"version"})
SESSION_FIELDS: Final = frozenset(
    {
        b"session-id", b"thread-id", b"session_id", b"conversation_id", b"x-client-request-id", b"x-codex-turn-state",
        b"x-codex-window-id", b"x-codex-turn-metadata", b"x-codex-beta-features", b"x-codex-parent-thread-id",
        b"x-openai-subagent", b"x-openai-internal-codex-responses-lite", b"x-responsesapi-include-timing-metrics",
    }
)  # fmt: skip
"""What any client may say of its session."""
CODEX_FIELDS: Final = SESSION_FIELDS | {
    b"openai-beta", b"x-codex-routing-hint", b"x-openai-internal-codex-residency", b"traceparent",
}  # fmt: skip
"""What a Codex CLI may say besides its identity."""

_DOWN: Final = frozenset({b"retry-after", b"x-models-etag", b"openai-model", b"x-reasoning-included"})
_DOWN_LEAD: Final = b"x-codex-"
_VALUE: Final = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]{1,128}")
_MAX_VALUE: Final = 16_384
_MAX_ACCOUNTS: Final = 4096

_STATIC: Final = (
    (b"accept", b"text/event-stream"),
    (b"accept-encoding", b"identity"),
    (b"content-type", b"application/json"),
)


def valid_value(value: bytes) -> bool:
    """True for a non-empty header value without control characters and of at most 16 KiB."""
    return len(value) <= _MAX_VALUE and _VALUE.fullmatch(value) is not None


def encode_fields(fields: RawHeaders) -> bytes:
    """Fields as they stand in an HTTP/1.1 head. The caller has validated them."""
    return b"".join([piece for name, value in fields for piece in (name, b": ", value, b"\r\n")])


def safe_response_headers(headers: RawHeaders) -> RawHeaders:
    """What of the upstream's header a client may see; broken values are left out."""
    return [
        (name, value)
        for name, value in headers
        if (name in _DOWN or name.startswith(_DOWN_LEAD)) and _NAME.fullmatch(name) and valid_value(value)
    ]


def account_fields(account: Account, access_token: str) -> RawHeaders:
    """The fields by which the backend knows the account.

    Raises UpstreamError(AUTH), nothing sent, when the credential cannot stand in a header.
    """
    fields = [
        (b"authorization", b"Bearer " + _ascii(access_token)),
        (b"chatgpt-account-id", _ascii(account.chatgpt_account_id)),
    ]
    if account.routing_override:
        fields.append((b"x-openai-account-routing-override", _ascii(account.routing_override)))
    if account.fedramp:
        fields.append((b"x-openai-fedramp", b"true"))
    if not all(valid_value(value) for _, value in fields):
        raise UpstreamError(FaultKind.AUTH, "the credential does not fit into a header", sent=False)
    return fields


def _ascii(value: str) -> bytes:
    return value.encode("ascii", errors="replace")


class _Prepared:
    """The account's part of a head, and what it was made from. Never shown."""

    __slots__ = ("account", "fields", "token", "wire")

    def __init__(self, account: Account, token: str, fields: RawHeaders) -> None:
        self.account = account
        self.token = token
        self.fields = fields
        self.wire = encode_fields(fields)


class HeaderBuilder:
    """Builds the head of a model call; keeps the account's part of up to 4,096 accounts.

    Raises ValueError when the identity cannot stand in a header.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity: RawHeaders = [
            (b"originator", identity.originator.encode("ascii")),
            (b"user-agent", identity.user_agent.encode("ascii")),
            (b"version", identity.client_version.encode("ascii")),
        ]
        for name, value in self.identity:
            if not valid_value(value):
                raise ValueError(f"the configured {name.decode()} does not fit into a header")
        self._identity_wire = encode_fields(self.identity)
        self._prepared: dict[str, _Prepared] = {}

    def wire(self, request: UpstreamRequest, account: Account, credential: Credential) -> bytes:
        """The head's fields as bytes, without request line, host, content-length and the closing line."""
        prepared = self._prepare(account, credential)
        if request.codex_client:
            return prepared.wire + encode_fields(self._told(request))
        return prepared.wire + self._identity_wire + encode_fields(_session_fields(request))

    def fields(self, request: UpstreamRequest, account: Account, credential: Credential) -> RawHeaders:
        """The same fields as a list, for HTTP/2."""
        prepared = self._prepare(account, credential)
        if request.codex_client:
            return [*prepared.fields, *self._told(request)]
        return [*prepared.fields, *self.identity, *_session_fields(request)]

    def account(self, account: Account, credential: Credential) -> RawHeaders:
        """Identity and account, for the small JSON calls."""
        return [*account_fields(account, credential.access_token.reveal()), *self.identity]

    def _told(self, request: UpstreamRequest) -> RawHeaders:
        """A Codex client's own fields; the configured identity stands in for a part that it did not send."""
        told = [f for f in request.client_headers if f[0] in CODEX_FIELDS or f[0] in IDENTITY_FIELDS]
        kept = [field for field in told if valid_value(field[1])]
        names = {name for name, _ in kept}
        return kept + [field for field in self.identity if field[0] not in names]

    def _prepare(self, account: Account, credential: Credential) -> _Prepared:
        token = credential.access_token.reveal()
        prepared = self._prepared.get(account.id)
        if (
            prepared is None
            or prepared.token != token
            or (prepared.account is not account and prepared.account != account)
        ):
            if len(self._prepared) >= _MAX_ACCOUNTS:
                self._prepared.clear()
            prepared = _Prepared(account, token, [*account_fields(account, token), *_STATIC])
            self._prepared[account.id] = prepared
        return prepared


def _session_fields(request: UpstreamRequest) -> RawHeaders:
    fields = [f for f in request.client_headers if f[0] in SESSION_FIELDS and valid_value(f[1])]
    if request.request_id and not any(name == b"x-client-request-id" for name, _ in fields):
        fields.append((b"x-client-request-id", _ascii(request.request_id)))
    return fields
