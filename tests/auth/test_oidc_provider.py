"""The provider's answers: what is believed, what is asked how often, and what never leaves in an error."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from auth.errors import OidcRefused, OidcUnavailable
from auth.oidc_provider import KEPT_S, MAX_ANSWER_BYTES, REFETCH_S, Provider, short_word
from store.records import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.openid import CLIENT, ISSUER, RSA_KEY, OpenId, private_key, sign

SECRET = Secret("s%c:r t")


@pytest.fixture
def fake() -> OpenId:
    return OpenId(FakeClock())


def provider(fake: OpenId, secret: Secret | None = None) -> Provider:
    return Provider(fake.client(), ISSUER, CLIENT, secret, fake.clock)


def token(kid: str = "k1") -> Secret:
    return Secret(sign({"sub": "x"}, RSA_KEY, {"kid": kid}))


async def test_discovery_is_asked_for_once_an_hour(fake: OpenId) -> None:
    asked = provider(fake)
    for _ in range(3):
        assert (await asked.endpoints()).token == f"{ISSUER}/token"
    assert len(fake.asked) == 1
    fake.clock.advance(KEPT_S)
    await asked.endpoints()
    assert len(fake.asked) == 2


@pytest.mark.parametrize(
    "lie",
    [
        {"issuer": "https://evil.example"},
        {"issuer": f"{ISSUER}/"},
        {"issuer": None},
        {"authorization_endpoint": "http://id.example/auth"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
        {"token_endpoint": "http://127.0.0.1/token"},
        {"token_endpoint": "https://user:pass@id.example/token"},
        {"token_endpoint": ["https://id.example/token"]},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://id.example/jwks#x"},
        {"jwks_uri": "https:///jwks"},
        {"userinfo_endpoint": "ftp://id.example/me"},
        {"code_challenge_methods_supported": ["plain"]},
    ],
    ids=str,
)
async def test_a_discovery_that_is_not_the_issuers_is_not_believed(fake: OpenId, lie: dict[str, Any]) -> None:
    fake.discovery = lie
    with pytest.raises(OidcUnavailable, match="single sign-on, discovery"):
        await provider(fake).endpoints()


BAD_ANSWERS: dict[str, Callable[[httpx.Request], httpx.Response]] = {
    "a redirect": lambda _: httpx.Response(302, headers={"location": "https://evil.example/x"}),
    "a redirect that keeps the method": lambda _: httpx.Response(307, headers={"location": "https://evil.example/x"}),
    "an error": lambda _: httpx.Response(500, text="secret words of a stack trace"),
    "a page": lambda _: httpx.Response(200, text="<html>"),
    "nothing": lambda _: httpx.Response(200),
    "a list": lambda _: httpx.Response(200, json=[1]),
    "too much": lambda _: httpx.Response(200, content=b"{" + b" " * MAX_ANSWER_BYTES + b"}"),
    "a bomb": lambda _: httpx.Response(200, content=gzip.compress(b" " * 10**7), headers={"content-encoding": "gzip"}),
    "a deep answer": lambda _: httpx.Response(200, content=b"[" * 100_000),
    "no connection": lambda request: _raise(httpx.ConnectError("no", request=request)),
    "a timeout": lambda request: _raise(httpx.ReadTimeout("no", request=request)),
    "a broken stream": lambda request: _raise(httpx.RemoteProtocolError("no", request=request)),
}


def _raise(error: Exception) -> httpx.Response:
    raise error


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/token", "/me"])
@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_bad_answer_is_the_providers_trouble_and_is_not_quoted(fake: OpenId, path: str, name: str) -> None:
    fake.userinfo = {}
    fake.answers[path] = BAD_ANSWERS[name]
    asked = provider(fake, SECRET)

    async def everything() -> None:
        await asked.key_for(token())
        await asked.userinfo(Secret("at-1"), "user-1")
        await asked.exchange("the-code", "the-verifier", "https://relay.example/cb")

    with pytest.raises(OidcUnavailable) as refused:
        await everything()
    for word in ("evil", "stack trace", "the-code", "the-verifier", SECRET.reveal(), "at-1"):
        assert word not in str(refused.value)
    assert not [one for one in fake.asked if one.url.host != "id.example"]


async def test_a_rotated_key_is_fetched_and_a_flood_of_unknown_ones_is_not(fake: OpenId) -> None:
    asked = provider(fake)
    assert (await asked.key_for(token())).kid == "k1"
    fresh = private_key(kid="k9")
    fake.keys = [fresh.as_dict(private=False)]
    for _ in range(5):
        with pytest.raises(OidcRefused):
            await asked.key_for(token("k9"))
    assert fake.asked_for("/jwks") == 1
    fake.clock.advance(REFETCH_S)
    assert (await asked.key_for(token("k9"))).kid == "k9"
    assert fake.asked_for("/jwks") == 2
    with pytest.raises(OidcRefused):
        await asked.key_for(token("k1"))  # what the provider took back is over
    for n in range(50):
        with pytest.raises(OidcRefused):
            await asked.key_for(token(f"forged-{n}"))
    assert fake.asked_for("/jwks") == 2
    fake.clock.advance(KEPT_S)
    fake.answers["/jwks"] = BAD_ANSWERS["an error"]
    with pytest.raises(OidcUnavailable):
        await asked.key_for(token("k9"))


@pytest.mark.parametrize(
    ("methods", "secret", "basic"),
    [(None, SECRET, True), (["client_secret_basic"], SECRET, True), (["client_secret_post"], SECRET, False)],
)
async def test_the_secret_goes_where_the_provider_takes_it(
    fake: OpenId, methods: list[str] | None, secret: Secret, basic: bool
) -> None:
    fake.discovery = {"token_endpoint_auth_methods_supported": methods}
    with pytest.raises(OidcRefused, match="invalid_grant"):
        await provider(fake, secret).exchange("the-code", "v", "https://relay.example/cb")
    sent = fake.asked[-1]
    assert ("authorization" in sent.headers) is basic
    assert (b"client_secret" in sent.content) is not basic
    if basic:
        assert base64.b64decode(sent.headers["authorization"][6:]) == b"codex-relay:s%25c%3Ar%20t"


async def test_a_public_client_says_who_it_is_and_has_no_secret(fake: OpenId) -> None:
    with pytest.raises(OidcRefused):
        await provider(fake).exchange("the-code", "v", "https://relay.example/cb")
    sent = fake.asked[-1]
    assert b"client_id=codex-relay" in sent.content
    assert "authorization" not in sent.headers


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (400, {"error": "invalid_grant", "error_description": "the-code was bad"}, OidcRefused),
        (400, {"error": "<script>the-code</script>"}, OidcRefused),
        (401, {"error": "invalid_client"}, OidcUnavailable),
        (400, {"error": "unauthorized_client"}, OidcUnavailable),
        (429, {}, OidcUnavailable),
        (200, {"access_token": "at-1"}, OidcRefused),
        (200, {"id_token": 7}, OidcRefused),
        (200, {"id_token": ""}, OidcRefused),
    ],
)
async def test_a_refused_code_is_told_by_its_word_only(
    fake: OpenId, status: int, answer: dict[str, Any], kind: type[Exception]
) -> None:
    fake.answers["/token"] = lambda _: httpx.Response(status, json=answer)
    with pytest.raises(kind) as refused:
        await provider(fake).exchange("the-code", "v", "https://relay.example/cb")
    assert "the-code" not in str(refused.value)
    assert "script" not in str(refused.value)


async def test_userinfo_about_somebody_else_is_refused(fake: OpenId) -> None:
    fake.userinfo = {"groups": ["staff"]}
    assert (await provider(fake).userinfo(Secret("at-1"), "user-1"))["groups"] == ["staff"]
    with pytest.raises(OidcRefused, match="another person"):
        await provider(fake).userinfo(Secret("at-1"), "user-2")
    fake.userinfo = None
    assert await provider(fake).userinfo(Secret("at-1"), "user-1") == {}


def test_only_words_of_the_protocol_are_repeated() -> None:
    assert short_word("access_denied") == "access_denied"
    for odd in (None, 7, "", "Access denied", "<b>", "x" * 65, "a\nb"):
        assert short_word(odd) == "no reason given"
