"""Every route of the admin API, as data. Dispatch, authorisation, the OpenAPI document and the matrix of roles in the
tests are all made from this table, so that none of them can forget a route.

A route asks for exactly one permission, or is open (``OPEN``). ``whole``: it is about the gateway as a whole, so a
principal that is bound to one tenant may not use it, whatever its role; where it is False, the handler shows such a
principal its own tenant and answers 404 for every other. ``person``: only a person who signed in may use it; a key
has no password and no sessions.

Paths are matched exactly; ``{id}`` stands for one segment, and the last one of a ``tail`` for all that follow. A fixed
path wins over one with a ``{}``, and of those the one that stands first. Other tables of routes (gateway.tasks) are
made of the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from auth.roles import Permission
from gateway.admin import answers, bodies

API: Final = "/admin/api"
OIDC: Final = "/console/oidc"
OPEN: Final = None
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``errors`` are the codes of its own, beside those that any route may answer. ``streamed``: the
    handler reads the body itself, as it comes; ``media`` is what it answers with, ``media_in`` what it takes."""

    name: str
    method: str
    path: str
    permission: Permission | None
    answer: type[msgspec.Struct] | None
    text: str
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    status: int = 200
    errors: tuple[str, ...] = ()
    whole: bool = True
    person: bool = False
    max_body_bytes: int = MIB
    streamed: bool = False
    tail: bool = False
    media: str = "application/json"
    media_in: tuple[str, ...] = ("application/json",)

    @property
    def changes(self) -> bool:
        """Whether it may change something, so that a browser has to prove where the request comes from."""
        return self.method not in ("GET", "HEAD")


_P = Permission
_A = answers
_B = bodies

_SIGN_IN: Final = (
    Route("sign_in.options", "GET", f"{API}/sign-in", OPEN, _A.SignInOptions, "How one may sign in here."),
    Route(
        "session.open", "POST", f"{API}/session", OPEN, _A.SessionAnswer, "Sign in; sets the session's cookie.",
        body=_B.SignInBody, errors=("wrong_credentials", "code_required", "login_throttled"),
    ),
    Route(
        "bootstrap", "POST", f"{API}/bootstrap", OPEN, _A.SessionAnswer,
        "Use a one-time link: set a password and sign in.",
        body=_B.BootstrapBody, errors=("link_invalid", "login_throttled", "conflict"),
    ),
    Route(
        "session.show", "GET", f"{API}/session", _P.SELF, _A.SessionAnswer, "Who is signed in, and until when.",
        whole=False,
    ),
    Route(
        "session.close", "DELETE", f"{API}/session", _P.SELF, None, "Sign out.", status=204, whole=False, person=True,
    ),
    Route(
        "me.password", "PUT", f"{API}/me/password", _P.SELF, None,
        "Change one's password; every other session of one's own ends.",
        body=_B.PasswordBody, status=204, whole=False, person=True, errors=("wrong_credentials", "login_throttled"),
    ),
    Route(
        "me.totp.begin", "POST", f"{API}/me/totp", _P.SELF, _A.TotpAnswer,
        "Make a secret for one-time codes. It works once a code of it was sent by PUT.",
        whole=False, person=True, errors=("conflict",),
    ),
    Route(
        "me.totp.confirm", "PUT", f"{API}/me/totp", _P.SELF, None, "Switch one-time codes on.",
        body=_B.CodeBody, status=204, whole=False, person=True, errors=("wrong_credentials", "conflict"),
    ),
    Route(
        "me.totp.drop", "DELETE", f"{API}/me/totp", _P.SELF, None, "Switch one-time codes off.",
        body=_B.ConfirmPasswordBody, status=204, whole=False, person=True,
        errors=("wrong_credentials", "login_throttled", "conflict"),
    ),
    Route(
        "me.sessions", "GET", f"{API}/me/sessions", _P.SELF, _A.SessionList, "One's own sessions.",
        whole=False, person=True,
    ),
    Route(
        "me.sessions.close", "DELETE", f"{API}/me/sessions/{{id}}", _P.SELF, None, "End one of one's own sessions.",
        status=204, whole=False, person=True,
    ),
)  # fmt: skip

_ADMINS: Final = (
    Route("admins.list", "GET", f"{API}/admins", _P.ADMINS_READ, _A.AdminList, "All administrators."),
    Route(
        "admins.create", "POST", f"{API}/admins", _P.ADMINS_WRITE, _A.InvitedAdmin,
        "A new administrator, with a one-time link to set a password.",
        body=_B.NewAdmin, status=201, errors=("conflict",),
    ),
    Route(
        "admins.change", "PATCH", f"{API}/admins/{{id}}", _P.ADMINS_WRITE, _A.AdminAnswer,
        "Change role, tenant or whether the person may sign in.",
        body=_B.AdminChange, errors=("conflict", "last_owner"),
    ),
    Route(
        "admins.reset", "POST", f"{API}/admins/{{id}}/reset", _P.ADMINS_WRITE, _A.LinkAnswer,
        "A new one-time link to set a password.", errors=("conflict",),
    ),
    Route(
        "admins.remove", "DELETE", f"{API}/admins/{{id}}", _P.ADMINS_WRITE, None, "Remove an administrator.",
        status=204, errors=("last_owner",),
    ),
)  # fmt: skip

_ACCOUNTS: Final = (
    Route("overview", "GET", f"{API}/overview", _P.ACCOUNTS_READ, _A.OverviewAnswer, "The gateway at a glance."),
    Route("accounts.list", "GET", f"{API}/accounts", _P.ACCOUNTS_READ, _A.AccountList, "All accounts and their state."),
    Route("accounts.show", "GET", f"{API}/accounts/{{id}}", _P.ACCOUNTS_READ, _A.AccountAnswer, "One account."),
    Route(
        "accounts.change", "PATCH", f"{API}/accounts/{{id}}", _P.ACCOUNTS_WRITE, _A.AccountAnswer,
        "Relabel, move, weigh, enable or disable.", body=_B.AccountChange, errors=("conflict",),
    ),
    Route(
        "accounts.probe", "POST", f"{API}/accounts/{{id}}/probe", _P.ACCOUNTS_WRITE, _A.AccountAnswer,
        "Ask the upstream how the account stands; a rest without ground ends.", errors=("conflict", "upstream_error"),
    ),
    Route(
        "accounts.refresh", "POST", f"{API}/accounts/{{id}}/refresh", _P.ACCOUNTS_WRITE, _A.AccountAnswer,
        "Renew the access token now.", errors=("conflict", "upstream_error"),
    ),
    Route(
        "accounts.remove", "DELETE", f"{API}/accounts/{{id}}", _P.ACCOUNTS_WRITE, _A.RemovedAccount,
        "Remove an account and its tokens; the refresh token is revoked at the issuer where that can be done.",
        body=_B.Confirmation,
    ),
    Route(
        "accounts.import", "POST", f"{API}/accounts/import", _P.ACCOUNTS_WRITE, _A.ImportAnswer,
        "Take auth.json documents in.", body=_B.ImportBody, max_body_bytes=4 * MIB,
    ),
    Route("logins.list", "GET", f"{API}/logins", _P.ACCOUNTS_READ, _A.LoginList, "Sign-ins of accounts under way."),
    Route(
        "logins.create", "POST", f"{API}/logins", _P.ACCOUNTS_WRITE, _A.LoginAnswer, "Begin the sign-in of an account.",
        body=_B.NewLogin, status=201, errors=("conflict", "upstream_error"),
    ),
    Route("logins.show", "GET", f"{API}/logins/{{id}}", _P.ACCOUNTS_READ, _A.LoginAnswer, "One sign-in."),
    Route(
        "logins.cancel", "DELETE", f"{API}/logins/{{id}}", _P.ACCOUNTS_WRITE, _A.LoginAnswer, "Cancel a sign-in.",
        errors=("conflict",),
    ),
    Route(
        "logins.callback", "POST", f"{API}/logins/{{id}}/callback", _P.ACCOUNTS_WRITE, _A.LoginAnswer,
        "Hand in the URL that the browser ended at.", body=_B.CallbackBody, errors=("conflict", "upstream_error"),
    ),
)  # fmt: skip

_CALLERS: Final = (
    Route("tenants.list", "GET", f"{API}/tenants", _P.TENANTS_READ, _A.TenantList, "All tenants.", whole=False),
    Route(
        "tenants.create", "POST", f"{API}/tenants", _P.TENANTS_WRITE, _A.TenantAnswer, "A new tenant.",
        body=_B.NewTenant, status=201, errors=("conflict",),
    ),
    Route(
        "tenants.change", "PATCH", f"{API}/tenants/{{id}}", _P.TENANTS_WRITE, _A.TenantAnswer, "Change a tenant.",
        body=_B.TenantChange, errors=("conflict",),
    ),
    Route(
        "tenants.remove", "DELETE", f"{API}/tenants/{{id}}", _P.TENANTS_WRITE, _A.Removed,
        "Remove a tenant and its keys.", body=_B.Confirmation,
    ),
    Route(
        "keys.list", "GET", f"{API}/keys", _P.KEYS_READ, _A.KeyList, "Client keys, without the keys themselves.",
        query=_B.KeysQuery, whole=False,
    ),
    Route(
        "keys.create", "POST", f"{API}/keys", _P.KEYS_WRITE, _A.MintedKey, "A new key; it is shown this once.",
        body=_B.NewKey, status=201, whole=False,
    ),
    Route(
        "keys.revoke", "DELETE", f"{API}/keys/{{id}}", _P.KEYS_WRITE, _A.KeyAnswer,
        "End a key for good; what runs under it is closed within seconds.", whole=False, errors=("conflict",),
    ),
)  # fmt: skip

_RECORDS: Final = (
    Route(
        "audit.search", "GET", f"{API}/audit", _P.AUDIT_READ, _A.AuditPage, "Who did what, oldest first.",
        query=_B.AuditQuery, whole=False,
    ),
    Route("audit.verify", "GET", f"{API}/audit/verify", _P.AUDIT_READ, _A.AuditVerdict, "Whether the record is whole."),
    Route(
        "usage", "GET", f"{API}/usage", _P.ACCOUNTS_READ, _A.UsageAnswer,
        "Who has used how much; by the hour, without since_at_s of the last seven days.", query=_B.UsageQuery,
    ),
    Route(
        "forecast", "GET", f"{API}/forecast", _P.ACCOUNTS_READ, _A.ForecastAnswer, "When each pool runs dry.",
    ),
    Route(
        "openapi", "GET", f"{API}/openapi.json", _P.SELF, None, "This document: OpenAPI 3.1.", whole=False,
    ),
)  # fmt: skip

ROUTES: Final = (*_SIGN_IN, *_ADMINS, *_ACCOUNTS, *_CALLERS, *_RECORDS)

BROWSER_ROUTES: Final = (
    Route("oidc.start", "GET", f"{OIDC}/start", OPEN, None, "To the provider.", query=_B.OidcStartQuery, status=302),
    Route(
        "oidc.callback", "GET", f"{OIDC}/callback", OPEN, None, "Back from the provider.",
        query=_B.OidcCallbackQuery, status=302,
    ),
)  # fmt: skip
"""Where a browser goes by itself; they answer with a redirect and are no part of the OpenAPI document."""


def segments(path: str) -> tuple[str, ...]:
    return tuple(path.split("/"))


class Table:
    """Looks a path up. ``find`` gives the path's operations by method and what stands for its ``{}``; None: no such
    path."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._fixed: dict[str, dict[str, Route]] = {}
        self._shaped: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            if "{" in route.path:
                self._shaped.setdefault(segments(route.path), {})[route.method] = route
            else:
                self._fixed.setdefault(route.path, {})[route.method] = route

    def find(self, path: str) -> tuple[dict[str, Route], dict[str, str]] | None:
        if (fixed := self._fixed.get(path)) is not None:
            return fixed, {}
        given = segments(path)
        for shape, found in self._shaped.items():
            tail = any(route.tail for route in found.values())
            if (values := _fits(shape, given, tail=tail)) is not None:
                return found, values
        return None


def _fits(shape: tuple[str, ...], given: tuple[str, ...], *, tail: bool) -> dict[str, str] | None:
    """What stands for each ``{}`` of the shape; None when the path has another one."""
    if tail and len(given) > len(shape):
        given = (*given[: len(shape) - 1], "/".join(given[len(shape) - 1 :]))
    if len(given) != len(shape):
        return None
    values: dict[str, str] = {}
    for wanted, found in zip(shape, given, strict=True):
        if wanted.startswith("{") and found:
            values[wanted[1:-1]] = found
        elif wanted != found:
            return None
    return values


def allowed(by_method: dict[str, Route]) -> str:
    """The Allow header of a path."""
    methods = set(by_method) | ({"HEAD"} if "GET" in by_method else set())
    return ", ".join(sorted(methods))
