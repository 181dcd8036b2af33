"""The device code: what is asked, and what each answer means."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from auth.device import DEFAULT_INTERVAL_S, LIFETIME_S, DeviceClient, PollVerdict, interval_s, judge
from auth.logins import IssuerTrouble
from auth.oauth import MAX_ANSWER_BYTES
from store.records import Secret

ISSUER = "https://issuer.example"
NOW_S = 1_795_000_000.0
GRANT = {"authorization_code": "ac_1", "code_challenge": "c", "code_verifier": "v1"}


def client(handler: Callable[[httpx.Request], httpx.Response]) -> DeviceClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler), follow_redirects=True)
    return DeviceClient(http, ISSUER + "/", "client-1", timeout_s=5.0)


def answering(status: int, body: Any = None, **headers: str) -> DeviceClient:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client(lambda request: httpx.Response(status, content=content, headers=headers))


async def poll(calls: DeviceClient) -> PollVerdict:
    return (await calls.poll(Secret("dauth_1"), "ABCD-EFGHI")).verdict


async def test_the_requests_are_as_the_cli_sends_them() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path.endswith("usercode"):
            body = {"device_auth_id": "dauth_1", "user_code": "ABCD-EFGHI", "interval": "7"}
            return httpx.Response(200, json=body)
        return httpx.Response(200, json=GRANT)

    calls = client(handler)
    code = await calls.begin(NOW_S)
    assert (code.user_code, code.interval_s, code.expires_at_s) == ("ABCD-EFGHI", 7.0, NOW_S + LIFETIME_S)
    assert code.verification_url == f"{ISSUER}/codex/device"
    answer = await calls.poll(code.device_auth_id, code.user_code)
    assert answer.grant is not None
    assert (answer.grant.code, answer.grant.code_verifier) == (Secret("ac_1"), Secret("v1"))
    assert answer.grant.redirect_uri == f"{ISSUER}/deviceauth/callback"
    assert [str(one.url) for one in seen] == [
        f"{ISSUER}/api/accounts/deviceauth/usercode",
        f"{ISSUER}/api/accounts/deviceauth/token",
    ]
    assert json.loads(seen[0].content) == {"client_id": "client-1"}
    assert json.loads(seen[1].content) == {"device_auth_id": "dauth_1", "user_code": "ABCD-EFGHI"}
    assert "ac_1" not in repr(answer)
    assert "dauth_1" not in repr(code)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("5", 5.0),
        (7, 7.0),
        ("2.5", 2.5),
        (0, DEFAULT_INTERVAL_S),
        (-3, DEFAULT_INTERVAL_S),
        ("soon", DEFAULT_INTERVAL_S),
        (None, DEFAULT_INTERVAL_S),
        (True, DEFAULT_INTERVAL_S),
        ("nan", DEFAULT_INTERVAL_S),
        ("inf", 60.0),
        (10**400, DEFAULT_INTERVAL_S),
        (0.001, 1.0),
        ([5], DEFAULT_INTERVAL_S),
    ],
)
def test_an_interval_is_a_number_or_its_text_and_never_absurd(given: object, seconds: float) -> None:
    assert interval_s(given) == seconds


@pytest.mark.fault("B41")
@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (403, {"error": "access_denied"}, PollVerdict.PENDING),
        (404, None, PollVerdict.PENDING),
        (400, {"error": "authorization_pending"}, PollVerdict.PENDING),
        (400, {"error": "slow_down"}, PollVerdict.LATER),
        (429, {"error": "slow_down"}, PollVerdict.LATER),
        (500, None, PollVerdict.LATER),
        (503, {}, PollVerdict.LATER),
        (302, None, PollVerdict.LATER),
        (400, {"error": {"code": "access_denied"}}, PollVerdict.REFUSED),
        (400, None, PollVerdict.REFUSED),
        (401, None, PollVerdict.REFUSED),
        (410, {"error": "expired_token"}, PollVerdict.REFUSED),
        (422, None, PollVerdict.REFUSED),
        (200, {}, PollVerdict.REFUSED),
        (200, {"authorization_code": "a b", "code_verifier": "v"}, PollVerdict.REFUSED),
        (200, {"authorization_code": "a"}, PollVerdict.REFUSED),
        (200, GRANT, PollVerdict.GRANTED),
    ],
)
def test_each_answer_to_a_poll_means_one_thing(status: int, body: Any, verdict: PollVerdict) -> None:
    assert judge(status, {}, body, "redirect").verdict is verdict


async def test_a_redirect_is_not_followed_and_a_long_answer_is_not_read() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"location": "https://evil.example/"})

    assert await poll(client(handler)) is PollVerdict.LATER
    assert len(asked) == 1
    assert await poll(answering(200, b'{"authorization_code":"' + b"x" * MAX_ANSWER_BYTES)) is PollVerdict.REFUSED
    assert await poll(answering(200, b"[" * 10_000)) is PollVerdict.REFUSED


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadError("x"), httpx.ReadTimeout("x")])
async def test_an_issuer_that_does_not_answer_is_asked_again_later(error: httpx.HTTPError) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    assert await poll(client(handler)) is PollVerdict.LATER
    with pytest.raises(IssuerTrouble) as caught:
        await client(handler).begin(NOW_S)
    assert caught.value.code == "issuer_unreachable"


async def test_retry_after_is_handed_on() -> None:
    answer = await answering(429, {}, **{"retry-after": "17"}).poll(Secret("d"), "C")
    assert answer.retry_after_s == 17.0


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, {}, "device_login_disabled"),
        (403, {"error": "forbidden_client"}, "issuer_refused"),
        (500, None, "issuer_refused"),
        (302, None, "issuer_refused"),
        (200, {}, "answer_unreadable"),
        (200, {"device_auth_id": "d", "user_code": "<script>"}, "answer_unreadable"),
        (200, {"device_auth_id": "d", "user_code": "A" * 33}, "answer_unreadable"),
        (200, {"device_auth_id": "d d", "user_code": "ABCD"}, "answer_unreadable"),
        (200, {"device_auth_id": "d", "user_code": 5}, "answer_unreadable"),
    ],
)
async def test_why_a_login_does_not_begin_has_a_name(status: int, body: Any, code: str) -> None:
    with pytest.raises(IssuerTrouble) as caught:
        await answering(status, body).begin(NOW_S)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("given", "expires_at_s"),
    [
        (datetime.fromtimestamp(NOW_S + 60, UTC).isoformat(), NOW_S + 60),
        (NOW_S + 60, NOW_S + 60),
        (NOW_S + 86_400, NOW_S + LIFETIME_S),
        (NOW_S - 60, NOW_S + LIFETIME_S),
        ("tomorrow", NOW_S + LIFETIME_S),
        (None, NOW_S + LIFETIME_S),
        (10**400, NOW_S + LIFETIME_S),
    ],
)
async def test_a_code_lives_as_long_as_the_issuer_says_and_at_most_a_quarter_hour(
    given: Any, expires_at_s: float
) -> None:
    body = {"device_auth_id": "d", "usercode": "ABCD-EFGHI", "expires_at": given}
    assert (await answering(200, body).begin(NOW_S)).expires_at_s == pytest.approx(expires_at_s)
