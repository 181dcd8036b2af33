"""How does an account come in without a shell?

An administrator begins a login and is shown a code or an address; whoever owns the account approves it at the issuer;
the gateway completes it. Logins are documents of the store, so any worker shows, cancels, polls and completes any of
them, and a page that is loaded again finds its login where it was.

Rules that hold:

* ``step`` of all workers together asks the issuer about one login at its interval: a claim and the next time in the
  document keep the others away. Idle, it reads the store every five seconds;
* a browser login is completed by the console session that began it, and by the address with its own state;
* a login may be bound to an e-mail address or ChatGPT account id; another account is refused and its tokens revoked;
* at most 20 logins are open; one per kind, requester, pool and expected account;
* what completes a login is a task of its own that outlives the caller (a request that is cancelled, a loop that is
  stopped): a code that was handed out must not be lost. ``drain`` waits for those; call it before the store closes.

How a code becomes an account is auth.landing's matter; who may begin a login, and with what session, the caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from auth.beginning import IssuerAddress, in_the_way, made, wanted
from auth.callback import REDIRECT_URI, Callback, read_callback
from auth.device import DeviceCalls, Grant, PollAnswer, PollVerdict
from auth.landing import CodeExchange, Landing, Record, Taker
from auth.login_book import LoginBook, OnboardingStore
from auth.logins import (
    Login,
    LoginConflict,
    LoginForbidden,
    LoginInvalid,
    LoginKind,
    LoginRecord,
    LoginState,
    LoginUnknown,
    Stage,
    failed,
)
from ops.clock import Clock
from store.errors import Conflict
from store.records import Secret

__all__ = ["Login", "LoginKind", "LoginState", "Onboarding", "OnboardingRules"]

IDLE_LOOK_S: Final = 5.0
SOONEST_LOOK_S: Final = 0.5
SLOWEST_POLL_S: Final = 60.0
SLOWER_BY_S: Final = 5.0
BEGIN_TRIES: Final = 20
BEGIN_PAUSE_S: Final = 0.05
BEGIN_CLAIM_S: Final = 15.0
"""A process that dies over it keeps others from beginning for so long."""
T = TypeVar("T")
_EXPIRED: Final = ("expired", "nobody approved it in time; begin a new login")


@dataclass(frozen=True, slots=True)
class OnboardingRules:
    """Where the issuer is, as whom we come, and what this process is called in claims."""

    issuer: str
    client_id: str
    worker: str


class Onboarding:
    """The logins of one process's gateway, over the store of all.

    ``record`` writes one audit line durably (ops.audit.AuditLog.act; None: the log is off). ``ended`` is told of every
    login that ended through this process; it must not block or raise.
    """

    def __init__(
        self,
        store: OnboardingStore,
        device: DeviceCalls,
        oauth: CodeExchange,
        importer: Taker,
        clock: Clock,
        rules: OnboardingRules,
        *,
        record: Record | None = None,
        ended: Callable[[Login], None] = lambda login: None,
    ) -> None:
        self._device = device
        self._clock = clock
        self._issuer = IssuerAddress(rules.issuer, rules.client_id)
        self._ended = ended
        self._book = LoginBook(store, clock, rules.worker)
        self._landing = Landing(self._book, store, oauth, importer, clock, record)
        self._running: set[asyncio.Task[Any]] = set()
        self._look_at_s = 0.0

    async def begin(
        self,
        kind: str,
        *,
        requested_by: str,
        session_id: str,
        pool: str | None = None,
        label: str | None = None,
        expect: str | None = None,
        replace_own: bool = False,
    ) -> Login:
        """Begins a login of kind ``device`` or ``callback``; it is in the audit log and the store when this returns.

        ``requested_by`` is the actor's name as the audit log writes it; ``session_id`` is what alone may complete a
        browser login. ``replace_own``: cancels an open login of the same requester that is in the way. Raises
        LoginInvalid, LoginConflict, IssuerTrouble, StoreError; then no login was begun. Cancelled, one may have been.
        """
        asked = wanted(kind, requested_by, pool, label, expect)
        in_the_way(asked, await self._pending(), replace_own=replace_own)  # before the issuer is troubled
        record = await made(asked, session_id, self._device, self._issuer, self._clock.now_s())
        for _ in range(BEGIN_TRIES):
            async with self._book.claimed("begin", BEGIN_CLAIM_S) as claim:
                if claim is not None:
                    for old in in_the_way(asked, await self._pending(), replace_own=replace_own):
                        await self._cancel(old, requested_by, "replaced", "a newer login took its place")
                    await self._landing.note(record, "begin", requested_by, expected=asked.expect is not None)
                    self._look_at_s = 0.0
                    return (await self._book.add(record)).login
            await self._clock.sleep(BEGIN_PAUSE_S)
        raise LoginConflict("busy", "others are beginning logins all the time; try again")

    async def all(self) -> list[Login]:
        """Open ones and those that ended within a day, newest first."""
        now_s = self._clock.now_s()
        return [_seen(one, now_s).login for one in await self._book.all()]

    async def get(self, login_id: str) -> Login:
        """Raises LoginUnknown."""
        return _seen(await self._book.get(login_id), self._clock.now_s()).login

    async def cancel(self, login_id: str, by: str) -> Login:
        """Ends an open login; one that has ended is returned as it is. ``by`` is the actor.

        A code that is being exchanged meanwhile comes to nothing, and what it brought is revoked. Raises LoginUnknown,
        LoginConflict when its account is being stored already, StoreError.
        """
        while True:
            record = _seen(await self._book.get(login_id), self._clock.now_s())
            if not record.pending:
                return record.login
            if record.stage is Stage.LANDING:
                raise LoginConflict("login_completing", "the account is being stored; remove it when it is there")
            try:
                return (await self._cancel(record, by, "cancelled", "it was cancelled; begin a new login")).login
            except Conflict:
                continue

    async def take_callback(self, login_id: str, url: str, session_id: str) -> Login:
        """Completes a browser login by the pasted address; the login as it stands then, ``failed`` included.

        Raises LoginUnknown, LoginForbidden (another session began it), LoginInvalid (the address is not this login's;
        the right one can still be pasted), LoginConflict (over, or being completed), StoreError. Cancelled, it is
        completed all the same.
        """
        record = _seen(await self._book.get(login_id), self._clock.now_s())
        if record.login.kind is not LoginKind.CALLBACK:
            raise LoginInvalid(
                "not_a_callback_login", "this login waits for its code to be approved, not for an address"
            )
        if record.session_id != session_id:
            raise LoginForbidden("wrong_session", "another session began this login; begin one of your own")
        if record.stage is not Stage.WAITING or record.state is None:
            raise _over(record)
        callback = read_callback(url, record.state)
        return (await self._outliving(self._complete(record.id, callback))).login

    async def step(self) -> None:
        """Does what is due: polls, completes what another worker left, lets logins expire. Call it about every second;
        it reads the store when something can be due, and every five seconds. Raises StoreError."""
        if self._clock.monotonic_s() < self._look_at_s:
            return
        self._look_at_s = self._clock.monotonic_s() + IDLE_LOOK_S
        pending = await self._pending()
        now_s = self._clock.now_s()
        if due := [one for one in pending if _due_at_s(one) <= now_s]:
            tasks = [self._start(self._advance(one.id)) for one in due]
            outcomes = await asyncio.shield(asyncio.gather(*tasks, return_exceptions=True))
            for failure in outcomes:
                if isinstance(failure, BaseException):
                    raise failure
            pending, now_s = await self._pending(), self._clock.now_s()
        wait_s = min([IDLE_LOOK_S, *(_due_at_s(one) - now_s for one in pending if one.stage is not Stage.EXCHANGING)])
        self._look_at_s = min(self._look_at_s, self._clock.monotonic_s() + max(SOONEST_LOOK_S, wait_s))

    async def drain(self) -> None:
        """Waits for what is being completed; it ends within the timeouts of the issuer and the backend."""
        while self._running:
            await asyncio.wait(self._running)

    # -- one login

    async def _advance(self, login_id: str) -> None:
        """One step of one login, if it is nobody else's turn."""
        async with self._book.claimed(login_id) as claim:
            if claim is None:
                return
            try:
                record = await self._book.get(login_id)
                self._tell(await self._advanced(record))
            except (Conflict, LoginUnknown):
                return  # somebody else changed it meanwhile; it is looked at again

    async def _advanced(self, record: LoginRecord) -> LoginRecord:
        now_s = self._clock.now_s()
        if record.stage is Stage.LANDING:
            return await self._landing.land(record)
        if record.stage is Stage.EXCHANGING:
            return await self._landing.fail(
                record,
                "interrupted",
                "the gateway was stopped while it completed the login; nothing was stored; begin a new login",
            )
        if record.stage is Stage.WAITING and now_s >= record.login.expires_at_s:
            return await self._landing.fail(record, *_EXPIRED, LoginState.EXPIRED)
        if record.stage is Stage.WAITING and record.device_auth_id is not None and now_s >= record.next_poll_at_s:
            return await self._poll(record, record.device_auth_id, now_s)
        return record

    async def _poll(self, record: LoginRecord, device_auth_id: Secret, now_s: float) -> LoginRecord:
        """Asks once; that the next worker waits is in the document before we ask."""
        record = await self._book.put(replace(record, next_poll_at_s=now_s + record.interval_s))
        answer = await self._device.poll(device_auth_id, record.login.user_code or "")
        if answer.verdict is PollVerdict.GRANTED and answer.grant is not None:
            return await self._landing.exchange(record, answer.grant)
        if answer.verdict is PollVerdict.REFUSED:
            code = "denied" if answer.code == "access_denied" else "code_refused"
            return await self._landing.fail(
                record, code, f"the issuer ended the login ({answer.code}); begin a new login"
            )
        return await self._book.put(changed) if (changed := _slowed(record, answer, now_s)) != record else record

    async def _complete(self, login_id: str, callback: Callback) -> LoginRecord:
        """What a pasted address that was believed leads to."""
        async with self._book.claimed(login_id) as claim:
            if claim is None:
                raise LoginConflict("login_completing", "the login is being completed; look again in a moment")
            record = _seen(await self._book.get(login_id), self._clock.now_s())
            if record.stage is not Stage.WAITING or record.code_verifier is None:
                raise _over(record)
            try:
                if callback.code is None:
                    code = "denied" if callback.error == "access_denied" else "issuer_refused"
                    text = f"the issuer ended the login ({callback.error}); begin a new login"
                    ended = await self._landing.fail(record, code, text)
                else:
                    grant = Grant(callback.code, record.code_verifier, REDIRECT_URI)
                    ended = await self._landing.exchange(record, grant)
            except Conflict:
                raise _over(await self._book.get(login_id)) from None
            self._tell(ended)
            return ended

    async def _cancel(self, record: LoginRecord, by: str, code: str, message: str) -> LoginRecord:
        ended = await self._landing.cancel(record, by, code, message)
        self._tell(ended)
        return ended

    async def _pending(self) -> list[LoginRecord]:
        return [one for one in await self._book.all() if one.pending]

    def _tell(self, record: LoginRecord) -> None:
        if not record.pending:
            self._ended(record.login)

    # -- tasks that outlive their caller

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has it; one that was cancelled does not want it

    async def _outliving(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._start(work))


def _seen(record: LoginRecord, now_s: float) -> LoginRecord:
    """As it is to be seen now: one that nobody approved in time is over, whoever writes that down."""
    if record.stage is Stage.WAITING and now_s >= record.login.expires_at_s:
        return failed(record, LoginState.EXPIRED, *_EXPIRED)
    return record


def _due_at_s(record: LoginRecord) -> float:
    """When a worker has to look at it. One that is being exchanged is tried at every look: its claim says whether
    somebody still lives who does it."""
    if record.stage is Stage.EXCHANGING:
        return 0.0
    if record.stage is Stage.LANDING:
        return record.next_poll_at_s
    return min(record.next_poll_at_s, record.login.expires_at_s)


def _slowed(record: LoginRecord, answer: PollAnswer, now_s: float) -> LoginRecord:
    """After a poll that decided nothing: when to ask next. An issuer in trouble is asked ever more seldom."""
    if answer.verdict is PollVerdict.PENDING:
        return replace(record, failures=0) if record.failures else record
    interval_s = record.interval_s
    if answer.code == "slow_down":
        interval_s = min(interval_s + SLOWER_BY_S, SLOWEST_POLL_S)
    failures = record.failures + 1
    backoff_s = min(interval_s * 2.0 ** min(failures - 1, 10), SLOWEST_POLL_S)
    wait_s = max(backoff_s, min(answer.retry_after_s or 0.0, SLOWEST_POLL_S))
    return replace(record, failures=failures, interval_s=interval_s, next_poll_at_s=now_s + wait_s)


def _over(record: LoginRecord) -> LoginConflict:
    if record.pending:
        return LoginConflict("login_completing", "the login is being completed; look again in a moment")
    return LoginConflict("login_over", f"this login is {record.login.state.value} already; begin a new login")
