"""How does an authorization code become an account, once and whatever breaks on the way?

    mark        the login says ``exchanging``, durably: from here on the code is never sent again
    exchange    one request; whatever comes but tokens ends the login
    judge       tokens of another account than the expected one are revoked and never stored
    keep        the tokens rest in the login's own sealed document: the login says ``landing``
    land        auth.importer takes them, by the same checks as a file; repeatable until it has worked
    end         the login says ``done`` and forgets the tokens; or ``failed``, and they are revoked

Rules that hold:

* who finds ``exchanging`` and holds the login's claim knows that the one before him died: the login has failed;
* who finds ``landing`` goes on where the one before stopped; the importer does not mind taking the same tokens twice;
* every step is a compare-and-put: one that was frozen and wakes up late changes nothing, and revokes what it got;
* the end is in the audit log before anybody sees ``done``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from auth.authfile import Source, parse_login
from auth.device import Grant
from auth.errors import ImportRefused
from auth.importer import ImportOptions, ImportOutcome, ImportResult
from auth.login_book import LoginBook, OnboardingStore
from auth.logins import LoginRecord, LoginState, LoginUnknown, Stage, failed
from auth.oauth import TokenAnswer, Verdict
from ops.clock import Clock
from store.errors import Conflict, StoreError
from store.records import AuditRecord, Secret

Record = Callable[[AuditRecord], Awaitable[object]]
"""Writes one line of the audit log durably, or raises StoreError: ops.audit.AuditLog.act."""
LANDING_TRIES: Final = 30
LANDING_PAUSE_S: Final = 5.0
KEEP_TRIES: Final = 5
KEEP_PAUSE_S: Final = 0.5
_AGAIN: Final = "; begin the login again"
_TRY_LATER: Final = frozenset({"store", "busy"})
_FAILURES: Final[dict[Verdict, tuple[str, str]]] = {
    Verdict.PERMANENT: ("code_refused", "the issuer did not take the code; it may have been used or have expired"),
    Verdict.UNSENT: ("issuer_unreachable", "the issuer could not be reached to complete the login"),
    Verdict.TRANSIENT: ("issuer_failed", "the issuer could not complete the login now"),
    Verdict.UNKNOWN: ("answer_lost", "the issuer's answer was lost; the code is never sent twice"),
}


class CodeExchange(Protocol):
    """Whoever can turn a code into tokens, and end a login. Never raises for what the issuer or the network does."""

    async def exchange_code(self, code: Secret, code_verifier: Secret, redirect_uri: str) -> TokenAnswer: ...

    async def revoke(self, refresh_token: Secret) -> bool: ...


class Taker(Protocol):
    """auth.importer.Importer."""

    async def take(self, sources: Sequence[Source], options: ImportOptions) -> list[ImportResult]: ...


@dataclass(frozen=True, slots=True)
class Landing:
    """The way from a code to an account. ``record`` None: the audit log is off."""

    book: LoginBook
    store: OnboardingStore
    oauth: CodeExchange
    importer: Taker
    clock: Clock
    record: Record | None = None

    async def exchange(self, login: LoginRecord, grant: Grant) -> LoginRecord:
        """Exchanges the code and lands what comes of it; the login as it stands then.

        Call it under the login's claim and where nobody cancels. Raises Conflict when somebody else changed the login
        (nothing was sent, or what came was revoked), StoreError when the store is away.
        """
        marked = await self.book.put(replace(login, stage=Stage.EXCHANGING))
        answer = await self.oauth.exchange_code(grant.code, grant.code_verifier, grant.redirect_uri)
        if answer.verdict is not Verdict.ROTATED:
            code, message = _FAILURES[answer.verdict]
            detail = f" ({answer.code})" if answer.code else ""
            return await self.fail(marked, code, f"{message}{detail}{_AGAIN}")
        document = _auth_json(answer, self.clock.now_s())
        try:
            _judge(document, answer, login.login.expect, self.clock.now_s())
        except ImportRefused as refused:
            await self._revoke(answer.refresh_token)
            return await self.fail(marked, refused.code, str(refused))
        tokens = Secret(json.dumps(document))
        try:
            due_s = self.clock.now_s() + LANDING_PAUSE_S
            kept = await self._kept(
                replace(marked, stage=Stage.LANDING, tokens=tokens, next_poll_at_s=due_s, failures=0)
            )
        except Conflict:
            await self._revoke(answer.refresh_token)
            raise
        return await self.land(kept)

    async def land(self, login: LoginRecord) -> LoginRecord:
        """Takes the login's tokens into the store; the login as it stands then, which is ``landing`` still when the
        store did not take them now. Call it under the login's claim and where nobody cancels. Raises as exchange."""
        assert login.tokens is not None
        document = json.loads(login.tokens.reveal())
        options = ImportOptions(label=login.login.label, pool=login.login.pool)
        [result] = await self.importer.take([Source(f"login {login.id}", login.tokens.reveal().encode())], options)
        if result.outcome is not ImportOutcome.REFUSED:
            return await self._done(login, result.account_id, result.label)
        if result.code == "older":  # it landed before, and its tokens have been refreshed since
            account_id, label = await self._holder(document)
            if account_id is not None:
                return await self._done(login, account_id, label)
        if result.code in _TRY_LATER and login.failures < LANDING_TRIES:
            due_s = self.clock.now_s() + LANDING_PAUSE_S
            return await self.book.put(replace(login, failures=login.failures + 1, next_poll_at_s=due_s))
        ended = await self.fail(login, result.code, result.message)
        await self._revoke(Secret(document["tokens"]["refresh_token"]))
        return ended

    async def fail(
        self, login: LoginRecord, code: str, message: str, state: LoginState = LoginState.FAILED
    ) -> LoginRecord:
        """Ends it without an account. Raises Conflict when somebody else changed it, StoreError."""
        ended = await self.book.put(failed(login, state, code, message))
        await self.note(ended, "failed", ended.login.requested_by, reason=code)
        return ended

    async def cancel(self, login: LoginRecord, by: str, code: str, message: str) -> LoginRecord:
        """Ends it by the will of ``by``. Raises Conflict when somebody else changed it, StoreError."""
        await self.note(login, "cancelled", by, reason=code)
        return await self.book.put(failed(login, LoginState.CANCELLED, code, message))

    async def note(self, login: LoginRecord, what: str, actor: str, **detail: Any) -> None:
        """One line in the audit log. Raises StoreError."""
        if self.record is None:
            return
        view = login.login
        said = {"kind": view.kind.value, "pool": view.pool, "login": view.id, **detail}
        if view.account_id is not None:
            said["account"] = view.account_id
        outcome = "failed" if what == "failed" else "ok"
        await self.record(
            AuditRecord(
                at_s=self.clock.now_s(),
                actor=actor,
                action=f"account.login.{what}",
                outcome=outcome,
                target=view.account_id or view.id,
                detail=tuple(sorted(said.items())),
            )
        )

    async def _done(self, login: LoginRecord, account_id: str | None, label: str | None) -> LoginRecord:
        ended = login.ended(LoginState.DONE, account_id=account_id, account_label=label, failure=None)
        await self.note(ended, "done", login.login.requested_by)
        return await self.book.put(ended)

    async def _kept(self, login: LoginRecord) -> LoginRecord:
        """Puts the tokens down; a store that is away is asked again, since nobody else has them.

        A put whose answer was lost may have been one that worked: then the login is found as it was to be.
        """
        for last in (False,) * (KEEP_TRIES - 1) + (True,):
            try:
                return await self.book.put(login)
            except Conflict:
                found = await self._found(login.id)
                if found is not None and found.stage is Stage.LANDING and found.tokens == login.tokens:
                    return found
                raise
            except StoreError:
                if last:
                    raise
                await self.clock.sleep(KEEP_PAUSE_S)
        raise AssertionError("unreachable")

    async def _found(self, login_id: str) -> LoginRecord | None:
        try:
            return await self.book.get(login_id)
        except LoginUnknown:
            return None

    async def _holder(self, document: dict[str, Any]) -> tuple[str | None, str | None]:
        """The account in the store that the tokens belong to."""
        wanted = parse_login(document, self.clock.now_s()).chatgpt_account_id
        for account in await self.store.accounts():
            if account.chatgpt_account_id == wanted:
                return account.id, account.label
        return None, None

    async def _revoke(self, refresh_token: Secret | None) -> None:
        if refresh_token is not None:
            await self.oauth.revoke(refresh_token)


def _auth_json(answer: TokenAnswer, now_s: float) -> dict[str, Any]:
    """The tokens in the shape that auth.authfile reads."""
    tokens = {
        "access_token": answer.access_token,
        "refresh_token": answer.refresh_token,
        "id_token": answer.id_token,
    }
    return {
        "auth_mode": "chatgpt",
        "tokens": {name: token.reveal() for name, token in tokens.items() if token is not None},
        "last_refresh": datetime.fromtimestamp(now_s, UTC).isoformat(),
    }


def _judge(document: dict[str, Any], answer: TokenAnswer, expect: str | None, now_s: float) -> None:
    """Raises ImportRefused for tokens that are not to be kept."""
    if answer.refresh_token is None:
        raise ImportRefused("no_refresh_token", "the issuer gave no refresh token, so the account would not last")
    login = parse_login(document, now_s)
    if expect is None or expect == login.chatgpt_account_id:
        return
    if login.email is None or login.email.casefold() != expect.casefold():
        raise ImportRefused(
            "other_account",
            "somebody signed in with another account than the one that was expected; nothing was stored and the "
            "sign-in was revoked; begin again and sign in as the expected account",
        )
