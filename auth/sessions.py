"""Which console session does a cookie stand for, and is it still one?

The cookie is ``<person's id>.<256 random bits>``; the store has it as a document whose id is the person's id and the
SHA-256 of the whole, so a stolen table of sessions opens none, and a person's sessions stand side by side.

Rules that hold:

* a session ends ``idle_s`` after the last request that was noted and ``max_s`` after it was opened, whatever
  happens; a request is noted at most once a minute, so it may end that much early and never late;
* it ends when the person is disabled, removed, or given another role, tenant or password: it carries the epoch that
  the person had when his password (or the provider's answer) was checked, and the roster's must be the same. This is
  asked of the store with every request;
* sessions are opened by signing in, each with a new cookie; a cookie that came from outside never becomes one. After
  a change of password open a new one: the old ones are over by their epoch;
* the token against forged requests is an HMAC of the cookie: it is bound to one session and needs no memory.

A person has at most 20 sessions; the oldest makes room.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from typing import Final

from auth.admins import Admin, AdminDirectory
from auth.roles import Principal, Role
from auth.shelf import Kept, Shelf
from ops.clock import Clock
from store.base import DocumentStore
from store.records import Secret

SESSION_KIND: Final = "admin_session"
MOST_SESSIONS: Final = 20
TOUCH_S: Final = 60.0
NO_TENANT: Final = ""
"""The tenant of a member who has none: no tenant has this id, so he sees the things of no tenant and not of all."""

_COOKIE: Final = re.compile(r"(adm_[0-9a-f]{16})\.[A-Za-z0-9_-]{43}")
_CSRF_LABEL: Final = b"codex-relay csrf 1"
_ADDRESS_CHARS: Final = 64
_AGENT_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class _Session:
    """As stored."""

    epoch: int
    created_at_s: float
    seen_at_s: float
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as it is shown. ``id`` names it and opens nothing; ``expires_at_s`` is its end in any case."""

    id: str
    admin_id: str
    created_at_s: float
    seen_at_s: float
    expires_at_s: float
    idle_expires_at_s: float
    address: str
    user_agent: str


class Sessions:
    """The console's sessions. Every method may raise StoreError; nothing is known to have changed then."""

    def __init__(
        self, documents: DocumentStore, admins: AdminDirectory, clock: Clock, idle_s: float, max_s: float
    ) -> None:
        self._shelf = Shelf(documents, SESSION_KIND, _Session)
        self._admins = admins
        self._clock = clock
        self._idle_s = idle_s
        self._max_s = max_s

    async def open(self, admin: Admin, *, address: str, user_agent: str) -> tuple[Secret, SessionView]:
        """A new session for the person as he was when he was checked: the cookie's value, and the session.

        Should his epoch have risen since, the session is over before it begins.
        """
        cookie = Secret(f"{admin.id}.{secrets.token_urlsafe(32)}")
        now_s = self._clock.now_s()
        session = _Session(admin.epoch, now_s, now_s, _plain(address, _ADDRESS_CHARS), _plain(user_agent, _AGENT_CHARS))
        session_id = _session_id(admin.id, cookie)
        await self._make_room(admin.id)
        await self._shelf.add(session_id, session, self._ends_at_s(session))
        return cookie, self._view(session_id, session)

    async def find(self, cookie: Secret) -> tuple[Principal, SessionView] | None:
        """Whose session it is, and notes that it was used; None for a cookie that stands for none (any more)."""
        match = _COOKIE.fullmatch(cookie.reveal())
        if match is None:
            return None
        kept = await self._shelf.find(_session_id(match[1], cookie))
        principal = None if kept is None else await self._judge(kept)
        if kept is None or principal is None:
            return None
        session, now_s = kept.value, self._clock.now_s()
        if now_s - session.seen_at_s >= min(TOUCH_S, self._idle_s / 2):
            session = replace(session, seen_at_s=now_s)
            if not await self._shelf.put(kept, session, self._ends_at_s(session)):
                return await self._again(kept.id, principal)
        return principal, self._view(kept.id, session)

    async def is_live(self, session_id: str) -> bool:
        """Whether the session that was found earlier still is one; does not count as use. For streams that last."""
        kept = await self._shelf.find(session_id)
        return kept is not None and await self._judge(kept) is not None

    async def close(self, session_id: str) -> bool:
        """Ends one session; False when there is none. Who may do so is the caller's matter."""
        return await self._shelf.remove(session_id)

    async def close_all(self, admin_id: str, except_id: str | None = None) -> int:
        """Ends a person's sessions but one; how many. To end them whatever is opened meanwhile, raise the epoch
        (AdminDirectory.end_sessions)."""
        every = [kept.id async for kept in self._shelf.below(f"{admin_id}.") if kept.id != except_id]
        for session_id in every:
            await self._shelf.remove(session_id)
        return len(every)

    async def of(self, admin_id: str) -> tuple[SessionView, ...]:
        """A person's live sessions, the oldest first."""
        every = [kept async for kept in self._shelf.below(f"{admin_id}.")]
        live = [kept for kept in every if await self._judge(kept) is not None]
        return tuple(
            self._view(kept.id, kept.value) for kept in sorted(live, key=lambda one: (one.value.created_at_s, one.id))
        )

    @staticmethod
    def csrf_token(cookie: Secret) -> str:
        """The token that a state-changing request of this session must bring in its header."""
        digest = hmac.digest(cookie.reveal().encode(), _CSRF_LABEL, "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    @classmethod
    def csrf_fits(cls, cookie: Secret, given: str) -> bool:
        """Whether ``given`` is the session's token; in constant time."""
        return hmac.compare_digest(cls.csrf_token(cookie).encode(), given.encode("utf-8", "replace"))

    async def _judge(self, kept: Kept[_Session]) -> Principal | None:
        session, admin_id = kept.value, kept.id.partition(".")[0]
        if self._clock.now_s() >= self._ends_at_s(session):
            return None
        entry = await self._admins.entry(admin_id)
        if entry is None or not entry.enabled or entry.epoch != session.epoch:
            return None
        tenant_id = entry.tenant_id
        if entry.role is Role.MEMBER and tenant_id is None:
            tenant_id = NO_TENANT
        return Principal(entry.id, entry.name, entry.role, session_id=kept.id, tenant_id=tenant_id)

    async def _again(self, session_id: str, principal: Principal) -> tuple[Principal, SessionView] | None:
        """Another request noted its use first, or ended the session."""
        kept = await self._shelf.find(session_id)
        return None if kept is None else (principal, self._view(session_id, kept.value))

    async def _make_room(self, admin_id: str) -> None:
        every = [kept async for kept in self._shelf.below(f"{admin_id}.")]
        every.sort(key=lambda kept: kept.value.seen_at_s)
        for kept in every[: max(0, len(every) - MOST_SESSIONS + 1)]:
            await self._shelf.remove(kept.id)

    def _ends_at_s(self, session: _Session) -> float:
        return min(session.seen_at_s + self._idle_s, session.created_at_s + self._max_s)

    def _view(self, session_id: str, session: _Session) -> SessionView:
        return SessionView(
            id=session_id,
            admin_id=session_id.partition(".")[0],
            created_at_s=session.created_at_s,
            seen_at_s=session.seen_at_s,
            expires_at_s=session.created_at_s + self._max_s,
            idle_expires_at_s=self._ends_at_s(session),
            address=session.address,
            user_agent=session.user_agent,
        )


def _session_id(admin_id: str, cookie: Secret) -> str:
    return f"{admin_id}.{hashlib.sha256(cookie.reveal().encode()).hexdigest()}"


def _plain(text: str, most: int) -> str:
    """What a client said of itself, short and on one line."""
    return "".join(char if char.isprintable() else " " for char in text[:most])
