"""What goes wrong below the admin API, in the client's words. One function, total over the error trees.

A conflict is a 409 that says to read again; an absent record a 404; a store that is away a 503, and then nothing has
been done. An account that its issuer or the upstream refuses is no fault of the request: 409 when only a new login
helps, 502 when trying later may. Messages are those of the errors, which are fit to show by their own rule.
"""

from __future__ import annotations

from typing import Final

from auth.errors import (
    AdminError,
    AuthError,
    BadCode,
    BadName,
    ImportRefused,
    LastOwner,
    LoginThrottled,
    NeedsReauth,
    NoSuchAdmin,
    PasswordRefused,
    RefreshUnavailable,
    SignInRefused,
)
from auth.logins import IssuerTrouble, LoginError, LoginForbidden, LoginInvalid, LoginUnknown
from gateway.errors import CODES, GatewayError
from ops import redact
from store.errors import Conflict, NotFound, StoreError
from upstream.errors import UpstreamError

Expected = (StoreError, AuthError, UpstreamError)
_PARAMS: Final[dict[type[AdminError], str]] = {BadName: "name", PasswordRefused: "password", BadCode: "code"}
_LOGIN_PARAMS: Final = {"bad_kind": "kind", "bad_expect": "expect", "bad_label": "label", "bad_pool": "pool"}


def translated(error: StoreError | AuthError | UpstreamError) -> GatewayError:
    """The refusal that ``error`` means."""
    text = redact.text(str(error))
    message = text[:1].upper() + text[1:]
    if isinstance(error, StoreError):
        return _store(error, message)
    if isinstance(error, UpstreamError):
        return GatewayError("upstream_error", f"The upstream did not answer as it should: {text}")
    if isinstance(error, SignInRefused):
        wait_s = error.retry_after_s if isinstance(error, LoginThrottled) else None
        known = error.code in CODES
        return GatewayError(error.code if known else "wrong_credentials", message, retry_after_s=wait_s)
    if isinstance(error, AdminError):
        return _admin(error, message)
    if isinstance(error, LoginError):
        return _login(error, message)
    return _account(error, text)


def _store(error: StoreError, message: str) -> GatewayError:
    if isinstance(error, Conflict):
        return GatewayError("conflict", f"{message}. Read it again." if message else "Read it again.")
    if isinstance(error, NotFound):
        return absent()
    return GatewayError.store_unavailable()


def _admin(error: AdminError, message: str) -> GatewayError:
    if isinstance(error, NoSuchAdmin):
        return absent()
    if isinstance(error, LastOwner):
        return GatewayError("last_owner", message)
    if type(error) in _PARAMS:
        return GatewayError.invalid(message, _PARAMS[type(error)])
    return GatewayError("conflict", message)


def _login(error: LoginError, message: str) -> GatewayError:
    if isinstance(error, LoginUnknown):
        return absent("login")
    if isinstance(error, LoginInvalid):
        return GatewayError.invalid(message, _LOGIN_PARAMS.get(error.code, "url"))
    if isinstance(error, LoginForbidden):
        return GatewayError("forbidden", message)
    return GatewayError("upstream_error" if isinstance(error, IssuerTrouble) else "conflict", message)


def _account(error: AuthError, text: str) -> GatewayError:
    if isinstance(error, NeedsReauth):
        return GatewayError("conflict", f"The account needs a new login: {text}")
    if isinstance(error, RefreshUnavailable):
        return GatewayError("upstream_error", f"The issuer gave no new token: {text}")
    if isinstance(error, ImportRefused):
        return GatewayError.invalid(text)
    return GatewayError("conflict", text)


def absent(what: str = "object") -> GatewayError:
    """The one answer for what does not exist and for what is another tenant's."""
    return GatewayError("not_found", f"There is no such {what}.")
