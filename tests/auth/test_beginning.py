"""Which logins may begin, and with what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from auth.beginning import MAX_PENDING, IssuerAddress, in_the_way, made, wanted
from auth.logins import LoginConflict, LoginInvalid, LoginKind, LoginRecord, Stage
from tests.fakes.clock import FakeClock
from tests.fakes.login_issuer import ISSUER, LoginIssuer

ADDRESS = IssuerAddress(ISSUER, "client")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "password"}, "bad_kind"),
        ({"label": ""}, "bad_label"),
        ({"label": "x" * 65}, "bad_label"),
        ({"label": "a\nb"}, "bad_label"),
        ({"pool": "../x"}, "bad_pool"),
        ({"pool": ""}, "bad_pool"),
        ({"expect": " "}, "bad_expect"),
        ({"expect": "a b@example.org"}, "bad_expect"),
        ({"expect": "x" * 255}, "bad_expect"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anybody_is_asked(change: dict[str, str], code: str) -> None:
    given: dict[str, Any] = {
        "kind": "device",
        "requested_by": "admin:ann",
        "pool": None,
        "label": None,
        "expect": None,
    } | change
    with pytest.raises(LoginInvalid) as caught:
        wanted(**given)
    assert caught.value.code == code


async def record(by: str = "admin:ann", expect: str | None = None, kind: str = "device") -> LoginRecord:
    clock = FakeClock()
    asked = wanted(kind, by, None, None, expect)
    return await made(asked, "session-1", LoginIssuer(clock), ADDRESS, clock.now_s())


async def test_a_device_login_has_a_code_and_a_browser_login_an_address() -> None:
    device, browser = await record(), await record(kind="callback")
    assert (device.login.user_code, device.login.authorize_url) == ("CODE-00001", None)
    assert device.login.pool == "default"
    assert browser.login.kind is LoginKind.CALLBACK
    assert browser.state is not None
    assert browser.login.authorize_url is not None
    assert browser.state.reveal() in browser.login.authorize_url
    assert device.id != browser.id


async def test_a_requester_has_one_of_a_kind_open() -> None:
    mine = await record()
    again = wanted("device", "admin:ann", "default", "other label", None)
    with pytest.raises(LoginConflict) as caught:
        in_the_way(again, [mine], replace_own=False)
    assert caught.value.code == "login_open"
    assert mine.id in str(caught.value)
    assert in_the_way(again, [mine], replace_own=True) == [mine]
    with pytest.raises(LoginConflict):
        in_the_way(again, [replace(mine, stage=Stage.EXCHANGING)], replace_own=True)
    for other in (
        wanted("callback", "admin:ann", None, None, None),
        wanted("device", "admin:bob", None, None, None),
        wanted("device", "admin:ann", "team", None, None),
        wanted("device", "admin:ann", None, None, "x@example.org"),
    ):
        assert in_the_way(other, [mine], replace_own=False) == []


async def test_the_logins_of_all_are_bounded() -> None:
    open_ones = [await record(by=f"admin:{number}") for number in range(MAX_PENDING)]
    newcomer = wanted("device", "admin:ann", None, None, None)
    with pytest.raises(LoginConflict) as caught:
        in_the_way(newcomer, open_ones, replace_own=False)
    assert caught.value.code == "too_many_logins"
    own = wanted("device", "admin:3", None, None, None)
    assert in_the_way(own, open_ones, replace_own=True) == [open_ones[3]]
