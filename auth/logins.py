"""What is a login on its way in, who may see what of it, and why may it not go on?

A login is how an account comes in from a browser. :class:`Login` is what everybody may see of it who may see
accounts; :class:`LoginRecord` is the same with its secrets and its place on the way, as the store keeps it (sealed):

    waiting      the issuer is polled (device), or an address is waited for (callback)
    exchanging   the code is about to be sent, or was: it is never sent again, whatever happens
    landing      the tokens are here and are being taken into the store; this may be repeated
    ended        done, failed, expired or cancelled; nothing secret is kept

Rules that hold:

* a view holds no code verifier, no device id, no token. The state of a browser login is in its authorize address
  alone, which the browser has to be sent to;
* every end but ``done`` carries a failure with a stable code and a text that names the next step;
* pure data and its JSON: no store, no network, no clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final

from auth.errors import AuthError
from store.records import Document, Secret

KIND: Final = "login"
"""The kind of the documents."""
_SECRETS: Final = ("device_auth_id", "code_verifier", "state", "tokens")


class LoginError(AuthError):
    """A login cannot begin or go on. ``code`` is a stable word; str() says why and what to do. Nothing was changed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LoginUnknown(LoginError):
    """There is no such login, or it ended more than a day ago."""

    def __init__(self) -> None:
        super().__init__("not_found", "there is no such login; it may have ended more than a day ago")


class LoginInvalid(LoginError):
    """What was given cannot be used: a label, a pool, a pasted address. Giving another may help."""


class LoginConflict(LoginError):
    """The login has ended, is being completed, or too many are open."""


class LoginForbidden(LoginError):
    """Another console session began this login."""


class IssuerTrouble(LoginError):
    """The issuer did not begin the login. ``code`` says whether it could not be reached or said no."""


class LoginKind(StrEnum):
    DEVICE = "device"
    CALLBACK = "callback"


class LoginState(StrEnum):
    """What everybody sees. Only PENDING changes again."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Where a login stands inside; see the module's table."""

    WAITING = "waiting"
    EXCHANGING = "exchanging"
    LANDING = "landing"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a login ended without an account; fit to print."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Login:
    """One login as people see it. ``expect`` is the e-mail address or ChatGPT account id that alone is taken.

    ``user_code`` and ``verification_url`` belong to a device login, ``authorize_url`` to a browser login; they are
    None once it has ended. ``account_id`` and ``account_label`` name the account of a login that is done.
    """

    id: str
    kind: LoginKind
    state: LoginState
    requested_by: str
    pool: str
    label: str | None
    expect: str | None
    created_at_s: float
    expires_at_s: float
    user_code: str | None = None
    verification_url: str | None = None
    authorize_url: str | None = field(default=None, repr=False)
    failure: Failure | None = None
    account_id: str | None = None
    account_label: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """A login with what only the one who completes it needs. ``tokens`` is an auth.json, while landing."""

    login: Login
    stage: Stage
    session_id: str
    next_poll_at_s: float = 0.0
    interval_s: float = 5.0
    failures: int = 0
    device_auth_id: Secret | None = None
    code_verifier: Secret | None = None
    state: Secret | None = None
    tokens: Secret | None = None

    @property
    def id(self) -> str:
        return self.login.id

    @property
    def pending(self) -> bool:
        return self.stage is not Stage.ENDED

    def ended(self, state: LoginState, **changes: Any) -> LoginRecord:
        """At its end: without secrets, without the addresses that nobody needs any more."""
        login = replace(self.login, state=state, user_code=None, authorize_url=None, **changes)
        gone: dict[str, Any] = dict.fromkeys(_SECRETS)
        return replace(self, login=login, stage=Stage.ENDED, **gone)


def failed(record: LoginRecord, state: LoginState, code: str, message: str) -> LoginRecord:
    """``record`` at an end without an account."""
    return record.ended(state, failure=Failure(code, message))


def to_document(record: LoginRecord, expires_at_s: float) -> Document:
    """As the store keeps it; the store seals the body."""
    body: dict[str, Any] = {one.name: getattr(record, one.name) for one in fields(record) if one.name != "login"}
    for name in _SECRETS:
        body[name] = None if body[name] is None else body[name].reveal()
    login = {one.name: getattr(record.login, one.name) for one in fields(Login)}
    failure = record.login.failure
    login["failure"] = None if failure is None else [failure.code, failure.message]
    text = json.dumps({**body, "login": login}, separators=(",", ":"))
    return Document(KIND, record.id, text.encode(), expires_at_s, record.login.version)


def from_document(document: Document) -> LoginRecord:
    """What ``to_document`` wrote, with the version that the store gave it."""
    body: dict[str, Any] = json.loads(document.body)
    login: dict[str, Any] = body.pop("login")
    login["kind"], login["state"] = LoginKind(login["kind"]), LoginState(login["state"])
    login["failure"] = None if login["failure"] is None else Failure(*login["failure"])
    login["version"] = document.version
    body["stage"] = Stage(body["stage"])
    for name in _SECRETS:
        body[name] = None if body[name] is None else Secret(body[name])
    return LoginRecord(login=Login(**login), **body)
