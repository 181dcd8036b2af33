"""Every error below the API has one answer; none is a traceback, and none quotes a token."""

from __future__ import annotations

import pytest

from auth import errors as auth_errors
from auth import logins
from auth.errors import AuthError
from gateway.admin.faults import translated
from gateway.errors import CODES
from store import errors as store_errors
from store.errors import StoreError
from upstream.errors import FaultKind, UpstreamError


def below(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(deeper for one in kind.__subclasses__() for deeper in below(one))]


def made(kind: type[Exception]) -> Exception:
    if kind is auth_errors.LimitExceeded:
        return auth_errors.LimitExceeded("requests", "key", 1, 1.0)
    if kind is auth_errors.LoginThrottled:
        return auth_errors.LoginThrottled(9.0)
    if kind is logins.LoginUnknown:
        return logins.LoginUnknown()
    two = (auth_errors.ImportRefused, auth_errors.OidcRefused, auth_errors.OidcUnavailable, logins.LoginError)
    return kind("some_code", "the words") if issubclass(kind, two) else kind("the words")


OURS = [
    one for root in (StoreError, AuthError) for one in below(root) if one.__module__.split(".")[0] in ("store", "auth")
]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_answer(kind: type[Exception]) -> None:
    error = translated(made(kind))  # type: ignore[arg-type]
    assert error.code in CODES
    assert error.status in (400, 401, 403, 404, 409, 429, 502, 503)
    assert error.message


def test_what_is_away_what_clashes_and_what_is_not_there() -> None:
    assert translated(store_errors.StoreUnavailable("full")).code == "store_unavailable"
    assert translated(store_errors.Conflict("it has moved on")).code == "conflict"
    assert translated(store_errors.NotFound("none")).code == "not_found"
    assert translated(auth_errors.LoginThrottled(9.0)).retry_after_s == 9.0


def test_a_token_in_an_upstreams_words_is_masked() -> None:
    error = translated(UpstreamError(FaultKind.PROTOCOL, "got Bearer abcdefghijklmnop back"))
    assert (error.status, error.code) == (502, "upstream_error")
    assert "abcdefghijklmnop" not in error.message
