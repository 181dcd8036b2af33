"""ID tokens: what an honest provider signs is taken, and everything else is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws

from auth.errors import OidcRefused
from auth.oidc_token import LEEWAY_S, Expected, check, key_of, signing_keys
from store.records import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.openid import CLIENT, EC_KEY, ED_KEY, ISSUER, RSA_KEY, STRANGER, OpenId, private_key, segment, sign

NONCE = "the nonce of this sign-in"
EXPECTED = Expected(ISSUER, CLIENT, NONCE, Secret("at-1"))
CLOCK = FakeClock()
PUBLIC = {"keys": [key.as_dict(private=False) for key in (RSA_KEY, EC_KEY, ED_KEY)]}


def honest(**claims: Any) -> dict[str, Any]:
    return OpenId(CLOCK, claims=claims).honest(NONCE)


def verify(token: str, jwks: dict[str, Any] | None = None) -> dict[str, Any]:
    keys = signing_keys(jwks or PUBLIC)
    signing = key_of(Secret(token), keys)
    if signing is None:
        raise OidcRefused("token_refused", "no key")
    return dict(check(Secret(token), signing, EXPECTED, CLOCK.now_s()))


def at_hash(size: int) -> str:
    digest = hashlib.new(f"sha{size}", b"at-1").digest()
    return segment(digest[: len(digest) // 2])


def public(key: Any, **changes: Any) -> dict[str, Any]:
    return {"keys": [{**key.as_dict(private=False), **changes}]}


def unsigned(header: dict[str, Any], claims: object, signature: bytes = b"") -> str:
    return f"{segment(header)}.{segment(claims)}.{segment(signature)}"


def hmac_signed(secret: bytes, alg: str = "HS256") -> str:
    signed = f"{segment({'alg': alg, 'kid': 'k1'})}.{segment(honest())}"
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}"


def tampered(part: int) -> str:
    parts = sign(honest()).split(".")
    data = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
    data[len(data) // 2] ^= 1
    parts[part] = segment(bytes(data))
    return ".".join(parts)


def swapped_payload() -> str:
    parts = sign(honest()).split(".")
    parts[1] = segment(honest(sub="somebody-else"))
    return ".".join(parts)


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (RSA_KEY, {}),
        (RSA_KEY, {"alg": "PS256"}),
        (RSA_KEY, {"alg": "RS512", "typ": "JWT"}),
        (EC_KEY, {"alg": "ES256"}),
        (ED_KEY, {"alg": "Ed25519"}),
        (RSA_KEY, {"typ": "jwt", "x-odd": "ignored"}),
    ],
)
def test_an_honest_token_is_taken(key: Any, header: dict[str, Any]) -> None:
    token = sign(honest(), key, header)
    assert verify(token)["sub"] == "user-1"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "other"], "azp": CLIENT},
        {"azp": CLIENT},
        {"at_hash": at_hash(256)},
        {"nbf": int(CLOCK.now_s()) + LEEWAY_S - 1},
        {"exp": int(CLOCK.now_s()) - LEEWAY_S + 1},
        {"iat": int(CLOCK.now_s()) + LEEWAY_S - 1},
        {"auth_time": 1, "amr": ["pwd"], "extra": {"deep": [1]}},
    ],
    ids=str,
)
def test_what_a_token_may_say_besides(claims: dict[str, Any]) -> None:
    assert verify(sign(honest(**claims)))["iss"] == ISSUER


NOW = int(CLOCK.now_s())
FORGED: dict[str, Callable[[], str]] = {
    "alg none": lambda: unsigned({"alg": "none", "kid": "k1"}, honest()),
    "alg NONE": lambda: unsigned({"alg": "NoNe", "kid": "k1"}, honest()),
    "alg none and a signature": lambda: unsigned({"alg": "none", "kid": "k1"}, honest(), b"x" * 256),
    "no alg": lambda: unsigned({"kid": "k1"}, honest(), b"x" * 256),
    "alg of another type": lambda: unsigned({"alg": ["RS256"], "kid": "k1"}, honest(), b"x" * 256),
    "HS256 by the public key": lambda: hmac_signed(RSA_KEY.as_pem(private=False)),
    "HS256 by the modulus": lambda: hmac_signed(str(RSA_KEY.as_dict(private=False)["n"]).encode()),
    "HS256 by the client's secret": lambda: hmac_signed(b"the secret of the client, long enough to be one"),
    "HS256 that says RS256": lambda: hmac_signed(RSA_KEY.as_pem(private=False), "RS256"),
    "a stranger's key under our kid": lambda: sign(honest(), STRANGER),
    "an unknown kid": lambda: sign(honest(), private_key(kid="k9")),
    "no kid where there are many": lambda: sign(honest(), RSA_KEY, {"kid": None}),
    "a kid of another type": lambda: unsigned({"alg": "RS256", "kid": {"a": 1}}, honest(), b"x" * 256),
    "a kid that is a path": lambda: unsigned({"alg": "RS256", "kid": "../../dev/null"}, honest(), b""),
    "its own key in the header": lambda: sign(honest(), STRANGER, {"jwk": STRANGER.as_dict(private=False)}),
    "its own address of keys": lambda: sign(honest(), STRANGER, {"jku": "https://evil.example/jwks"}),
    "the algorithm of another key": lambda: unsigned({"alg": "ES256", "kid": "k1"}, honest(), b"x" * 64),
    "critical and not understood": lambda: unsigned(
        {"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": False}, honest()
    ),
    "an access token": lambda: sign(honest(), RSA_KEY, {"typ": "at+jwt"}),
    "a logout token": lambda: sign(honest(), RSA_KEY, {"typ": "logout+jwt"}),
    "an altered header": lambda: tampered(0),
    "an altered payload": lambda: tampered(1),
    "an altered signature": lambda: tampered(2),
    "another's payload": swapped_payload,
    "no signature": lambda: sign(honest()).rpartition(".")[0] + ".",
    "two parts": lambda: sign(honest()).rpartition(".")[0],
    "five parts": lambda: "a.b.c.d.e",
    "not base64": lambda: "!.!.!",
    "nothing": lambda: "",
    "too long": lambda: sign(honest(pad="x" * 40_000)),
    "a deep header": lambda: f"{segment(b'[' * 20_000)}.e30.AA",
    "a payload that is a list": lambda: _payload([1]),
    "another issuer": lambda: sign(honest(iss="https://evil.example")),
    "the issuer with a slash": lambda: sign(honest(iss=f"{ISSUER}/")),
    "a list of issuers": lambda: sign(honest(iss=[ISSUER])),
    "no issuer": lambda: sign(honest(iss=None)),
    "another audience": lambda: sign(honest(aud="other")),
    "no audience": lambda: sign(honest(aud=None)),
    "an empty audience": lambda: sign(honest(aud=[])),
    "an audience that holds ours": lambda: sign(honest(aud=f"{CLIENT}-other")),
    "many audiences and no azp": lambda: sign(honest(aud=[CLIENT, "other"])),
    "another azp": lambda: sign(honest(azp="other")),
    "another azp among many": lambda: sign(honest(aud=[CLIENT, "other"], azp="other")),
    "another nonce": lambda: sign(honest(nonce="of another sign-in")),
    "no nonce": lambda: sign(honest(nonce=None)),
    "a list of nonces": lambda: sign(honest(nonce=[NONCE])),
    "no sub": lambda: sign(honest(sub=None)),
    "an empty sub": lambda: sign(honest(sub="")),
    "a sub that is a number": lambda: sign(honest(sub=1)),
    "a sub without end": lambda: sign(honest(sub="x" * 256)),
    "expired": lambda: sign(honest(exp=NOW - LEEWAY_S)),
    "no expiry": lambda: sign(honest(exp=None)),
    "an expiry in words": lambda: sign(honest(exp="tomorrow")),
    "an expiry that is true": lambda: sign(honest(exp=True)),
    "an expiry that is no number": lambda: _payload({**honest(), "exp": float("nan")}),
    "an endless expiry": lambda: _payload({**honest(), "exp": float("inf")}),
    "issued in the future": lambda: sign(honest(iat=NOW + LEEWAY_S + 1)),
    "no time of issue": lambda: sign(honest(iat=None)),
    "not valid yet": lambda: sign(honest(nbf=NOW + LEEWAY_S + 1)),
    "of another access token": lambda: sign(honest(at_hash="AAAAAAAAAAAAAAAAAAAAAA")),
    "an at_hash of another type": lambda: sign(honest(at_hash=[at_hash(256)])),
}


def _payload(value: object) -> str:
    return jws.serialize_compact({"alg": "RS256", "kid": "k1"}, json.dumps(value).encode(), RSA_KEY)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused_and_not_quoted(name: str) -> None:
    token = FORGED[name]()
    with pytest.raises(OidcRefused) as refused:
        verify(token)
    assert refused.value.code == "token_refused"
    for part in token.split("."):
        assert len(part) < 12 or part not in str(refused.value)
    assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"},
        {**RSA_KEY.as_dict(private=False), "use": "enc"},
        {**RSA_KEY.as_dict(private=False), "key_ops": ["encrypt"]},
        {**RSA_KEY.as_dict(private=False), "key_ops": "verify"},
        {**RSA_KEY.as_dict(private=False), "alg": "HS256"},
        {**RSA_KEY.as_dict(private=False), "alg": "RSA-OAEP"},
        {**RSA_KEY.as_dict(private=False), "n": str(RSA_KEY.as_dict(private=False)["n"])[:171]},
        {**RSA_KEY.as_dict(private=False), "e": 65537},
        {**RSA_KEY.as_dict(private=False), "kid": 7},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k1"},
        {"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "k1"},
        {"kty": "AKP", "kid": "k1"},
        {},
        "RSA",
        None,
    ],
)
def test_a_key_that_is_not_for_signatures_or_too_weak_is_left_out(jwk: Any) -> None:
    assert signing_keys({"keys": [jwk]}) == ()
    assert [one.kid for one in signing_keys({"keys": [jwk, EC_KEY.as_dict(private=False)]})] == ["k2"]


@pytest.mark.parametrize("jwks", [{}, {"keys": None}, {"keys": "x"}, {"keys": {}}])
def test_a_set_without_keys_is_empty(jwks: dict[str, Any]) -> None:
    assert signing_keys(jwks) == ()


def test_the_only_key_needs_no_name_and_a_key_of_one_algorithm_takes_no_other() -> None:
    token = sign(honest(), RSA_KEY, {"kid": None})
    assert verify(token, public(RSA_KEY))["sub"] == "user-1"
    with pytest.raises(OidcRefused, match="algorithm"):
        verify(sign(honest()), public(RSA_KEY, alg="PS256"))
    assert verify(sign(honest()), public(RSA_KEY, alg="RS256"))["sub"] == "user-1"


@given(
    st.text(max_size=300) | st.binary(max_size=200).map(lambda data: f"{segment(data)}.{segment(data)}.{segment(data)}")
)
def test_no_text_makes_it_fall_over(text: str) -> None:
    with pytest.raises(OidcRefused):
        verify(text)
