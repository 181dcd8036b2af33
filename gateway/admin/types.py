"""What the admin API asks of the rest: one narrow Protocol per seam, and what a handler is given.

Nothing here decides anything. The Protocols name exactly the calls that handlers make, so that a test can stand in
for each, and so that whoever builds the API (ops.house_admin) sees what it takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from auth.authfile import Source
from auth.importer import ImportOptions, ImportResult
from auth.roles import Principal
from auth.sessions import SessionView
from auth.types import Caller
from store.records import Account, Credential, Secret
from upstream.types import AccountUsage

RawHeader = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Seen:
    """The client's side of a request. ``origin`` is ours as the client sees it: scheme and authority. ``https``: the
    client speaks TLS, with us or with a proxy that we believe. ``address`` honours the trusted proxies."""

    origin: str
    https: bool
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts and by what. ``cookie`` is the session's secret, ``caller`` the key; one of both, or none when nobody
    has signed in."""

    principal: Principal | None = None
    cookie: Secret | None = None
    caller: Caller | None = None
    session: SessionView | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One admitted request. ``body`` and ``query`` are instances of the route's models; ``target`` is the id in the
    path, which is one of ``parts``; ``cookies`` are those that the browser sent, by name. ``given`` is the body of a
    streamed route. ``again`` asks once more whether who asks still may: for an answer that takes long."""

    request_id: str
    seen: Seen
    acting: Acting
    body: Any
    query: Any
    target: str
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    parts: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Sequence[RawHeader] = field(default=(), repr=False)
    given: AsyncIterator[bytes] | None = field(default=None, repr=False)
    again: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)

    @property
    def principal(self) -> Principal:
        """Of a route that is not open."""
        assert self.acting.principal is not None
        return self.acting.principal


@dataclass(frozen=True, slots=True)
class Reply:
    """``body`` is an answer, or None for an empty one. ``actor`` is who the request turned out to be of, when it
    signed somebody in. ``pieces`` are sent as they come instead of ``body``; ``headers`` say what they are."""

    body: msgspec.Struct | Mapping[str, Any] | Sequence[Any] | None = None
    status: int = 200
    headers: Sequence[RawHeader] = ()
    actor: str | None = None
    pieces: AsyncIterator[bytes] | None = None


Handler = Callable[[Call], Awaitable[Reply]]
Handlers = Mapping[str, Handler]


# what stands behind the handlers


class SessionFinder(Protocol):
    """What access asks of the sessions."""

    async def find(self, cookie: Secret) -> tuple[Principal, SessionView] | None: ...

    def csrf_fits(self, cookie: Secret, given: str) -> bool: ...


class Tokens(Protocol):
    """Access tokens of accounts: auth.tokens.TokenSource."""

    async def get(self, account: Account) -> Credential: ...

    async def force(self, account: Account) -> Credential: ...

    def invalidate(self, account_id: str) -> None: ...


class Backend(Protocol):
    """Who asks the upstream how an account stands: upstream.client.CodexClient."""

    async def usage(self, account: Account, credential: Credential) -> AccountUsage: ...


class Taker(Protocol):
    """auth.importer.Importer."""

    async def take(self, sources: Sequence[Source], options: ImportOptions) -> list[ImportResult]: ...
