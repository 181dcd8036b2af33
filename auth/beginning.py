"""May a login begin, and what is it made of when it does?

Rules that hold:

* at most 20 logins are open over all requesters; a requester has one per kind, pool and expected account, so that a
  page that begins again finds the one that is open already;
* label and pool are held to the importer's rules now, not when the account has been approved;
* the issuer is asked for a device code before anything is stored: a login that is stored can be completed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from auth.callback import authorize_url, new_challenge
from auth.device import LIFETIME_S, DeviceCalls
from auth.errors import ImportRefused
from auth.importer import ImportOptions, check_options
from auth.logins import Login, LoginConflict, LoginInvalid, LoginKind, LoginRecord, LoginState, Stage

MAX_PENDING: Final = 20
MAX_EXPECT: Final = 254


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for."""

    kind: LoginKind
    requested_by: str
    pool: str
    label: str | None
    expect: str | None

    def is_like(self, login: Login) -> bool:
        """Whether the two stand in each other's way."""
        mine = (self.kind, self.requested_by, self.pool, self.expect)
        return mine == (login.kind, login.requested_by, login.pool, login.expect)


@dataclass(frozen=True, slots=True)
class IssuerAddress:
    """Where the issuer is, and as whom we come."""

    url: str
    client_id: str


def wanted(kind: str, requested_by: str, pool: str | None, label: str | None, expect: str | None) -> Wanted:
    """The request, checked. Raises LoginInvalid."""
    if kind not in set(LoginKind):
        raise LoginInvalid("bad_kind", "a login is of kind device or callback")
    try:
        check_options(ImportOptions(label=label, pool=pool))
    except ImportRefused as refused:
        raise LoginInvalid(refused.code, str(refused)) from None
    expect = expect.strip() if expect is not None else None
    if expect is not None and (not expect or len(expect) > MAX_EXPECT or not expect.isprintable() or " " in expect):
        raise LoginInvalid("bad_expect", "the expected account is an e-mail address or a ChatGPT account id")
    return Wanted(LoginKind(kind), requested_by, pool or "default", label, expect)


def in_the_way(asked: Wanted, pending: list[LoginRecord], *, replace_own: bool) -> list[LoginRecord]:
    """The open logins that have to be cancelled first; with ``replace_own`` alone there may be any.

    Raises LoginConflict when the new one may not begin. Pure.
    """
    mine = [one for one in pending if asked.is_like(one.login)]
    for one in mine:
        if not replace_own or one.stage is not Stage.WAITING:
            raise LoginConflict(
                "login_open", f"you have such a login open already ({one.id}); complete it or cancel it first"
            )
    if len(pending) - len(mine) >= MAX_PENDING:
        raise LoginConflict("too_many_logins", f"{MAX_PENDING} logins are open; complete or cancel some of them first")
    return mine


async def made(asked: Wanted, session_id: str, device: DeviceCalls, issuer: IssuerAddress, now_s: float) -> LoginRecord:
    """The new login, not stored yet. Raises IssuerTrouble."""
    login = Login(
        id="login_" + os.urandom(9).hex(),
        kind=asked.kind,
        state=LoginState.PENDING,
        requested_by=asked.requested_by,
        pool=asked.pool,
        label=asked.label,
        expect=asked.expect,
        created_at_s=now_s,
        expires_at_s=now_s + LIFETIME_S,
    )
    if asked.kind is LoginKind.CALLBACK:
        challenge = new_challenge()
        return LoginRecord(
            replace(login, authorize_url=authorize_url(issuer.url, issuer.client_id, challenge)),
            Stage.WAITING,
            session_id,
            next_poll_at_s=login.expires_at_s,
            state=challenge.state,
            code_verifier=challenge.code_verifier,
        )
    code = await device.begin(now_s)
    shown = replace(
        login,
        user_code=code.user_code,
        verification_url=code.verification_url,
        expires_at_s=min(code.expires_at_s, login.expires_at_s),
    )
    return LoginRecord(
        shown,
        Stage.WAITING,
        session_id,
        next_poll_at_s=now_s + code.interval_s,
        interval_s=code.interval_s,
        device_auth_id=code.device_auth_id,
    )
