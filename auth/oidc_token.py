"""Is this ID token the provider's, for us, for this sign-in, and alive?

Pure: keys and the time come in. What is asked of a token (OpenID Connect Core 3.1.3.7, RFC 8725):

* three parts; an algorithm with a public key, of the kind of the key that ``kid`` names (never ``none`` or HS*); no
  ``crit``; a ``typ`` other than JWT is another kind of token; keys and addresses in the header are not looked at;
* the signature, by a key of the provider's set that is for signatures: RSA from 2048 bits on, P-256/384/521, Ed25519;
* ``iss`` exactly, ``aud`` us, ``azp`` us when it is there or others are meant as well, ``nonce`` of this sign-in,
  ``sub`` a text, ``exp`` and ``nbf`` and ``iat`` around now, ``at_hash`` of the access token when it is there.

A refusal names the claim and never its value.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from auth.errors import OidcRefused
from store.records import Secret

LEEWAY_S: Final = 60
MAX_TOKEN_CHARS: Final = 32_768
MAX_SUB_CHARS: Final = 255
_RSA_MODULUS_CHARS: Final = 342  # base64url of 2048 bits
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ED: Final = frozenset({"Ed25519"})  # not EdDSA, which says nothing of the curve (RFC 9864)
_PUBLIC: Final = frozenset({"kty", "n", "e", "crv", "x", "y"})


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of the provider and the algorithms that it may be used with."""

    kid: str | None
    key: RSAKey | ECKey | OKPKey
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say."""

    issuer: str
    client_id: str
    nonce: str
    access_token: Secret | None


def signing_keys(jwks: Mapping[str, Any]) -> tuple[SigningKey, ...]:
    """The usable keys of a set; whatever is for something else, too weak or not understood is left out."""
    listed = jwks.get("keys")
    found = [_signing_key(one) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return tuple(one for one in found if one is not None)


def key_of(token: Secret, keys: tuple[SigningKey, ...]) -> SigningKey | None:
    """The key that the token names, the only one when it names none; None when there is no such key (yet).

    Raises OidcRefused for a header that no token of ours has.
    """
    kid = _header(token).get("kid")
    if kid is None:
        return keys[0] if len(keys) == 1 else None
    return next((one for one in keys if one.kid == kid), None)


def check(token: Secret, signing: SigningKey, expected: Expected, now_s: float) -> Mapping[str, Any]:
    """The token's claims, proven. Raises OidcRefused."""
    algorithm = str(_header(token).get("alg"))
    if algorithm not in signing.algorithms:
        raise _refused("the algorithm of the ID token is not one of its key")
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = MAX_TOKEN_CHARS
    try:
        claims = jwt.decode(token.reveal(), signing.key, algorithms=[algorithm], registry=registry).claims
    except (JoseError, ValueError, TypeError):
        raise _refused("the signature of the ID token is not right") from None
    _check_claims(claims, expected, now_s)
    _check_at_hash(claims, expected.access_token, algorithm)
    return claims


def _check_claims(claims: Mapping[str, Any], expected: Expected, now_s: float) -> None:
    rules = jwt.JWTClaimsRegistry(
        now=int(now_s),
        leeway=LEEWAY_S,
        iss={"essential": True, "value": expected.issuer},
        aud={"essential": True, "value": expected.client_id},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        rules.validate(dict(claims))
    except JoseError as error:
        name = getattr(error, "claim", None) or "a required claim"
        raise _refused(f"{name} of the ID token is missing or not what it must be") from None
    audience, party = claims["aud"], claims.get("azp")
    if isinstance(audience, list) and len(audience) > 1 and party is None:
        raise _refused("the ID token is for several clients and does not say whose it is (azp)")
    if party is not None and party != expected.client_id:
        raise _refused("the ID token was given to another client (azp)")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode("utf-8", "replace"), expected.nonce.encode()):
        raise _refused("the ID token is not of this sign-in (nonce)")
    if len(claims["sub"]) > MAX_SUB_CHARS:
        raise _refused("sub of the ID token is too long")


def _check_at_hash(claims: Mapping[str, Any], access_token: Secret | None, algorithm: str) -> None:
    given = claims.get("at_hash")
    if given is None or access_token is None:
        return
    bits = algorithm[-3:]
    digest = hashlib.new(f"sha{bits}" if bits in {"256", "384", "512"} else "sha512", access_token.reveal().encode())
    half = digest.digest()[: digest.digest_size // 2]
    fits = base64.urlsafe_b64encode(half).decode().rstrip("=")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "replace"), fits.encode()):
        raise _refused("the ID token is not of this access token (at_hash)")


def _header(token: Secret) -> Mapping[str, Any]:
    text = token.reveal()
    parts = text.split(".")
    if len(text) > MAX_TOKEN_CHARS or len(parts) != 3:
        raise _refused("the ID token is not a signed token of three parts")
    try:
        header = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError):
        raise _refused("the header of the ID token cannot be read") from None
    if not isinstance(header, dict) or "crit" in header:
        raise _refused("the header of the ID token asks for what is not understood")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise _refused("the token is of another kind than an ID token (typ)")
    return header


def _signing_key(jwk: Mapping[str, Any]) -> SigningKey | None:
    algorithms = _algorithms(jwk)
    declared = jwk.get("alg")
    if declared is not None:
        algorithms &= {declared} if isinstance(declared, str) else frozenset()
    kid = jwk.get("kid")
    operations = jwk.get("key_ops", ["verify"])
    signs = jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if not algorithms or not signs or not (kid is None or isinstance(kid, str)):
        return None
    public: dict[str, str | list[str]] = {
        name: value for name, value in jwk.items() if name in _PUBLIC and isinstance(value, str)
    }
    shapes: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    try:
        return SigningKey(kid, shapes[str(jwk["kty"])].import_key(public), algorithms)
    except (JoseError, ValueError, TypeError):
        return None


def _algorithms(jwk: Mapping[str, Any]) -> frozenset[str]:
    """What a key of this kind and size may sign with."""
    kind, curve, modulus = jwk.get("kty"), jwk.get("crv"), jwk.get("n")
    if kind == "RSA":
        return _RSA if isinstance(modulus, str) and len(modulus) >= _RSA_MODULUS_CHARS else frozenset()
    if kind == "EC" and curve in _CURVES:
        return frozenset({_CURVES[curve]})
    return _ED if kind == "OKP" and curve == "Ed25519" else frozenset()


def _refused(message: str) -> OidcRefused:
    return OidcRefused("token_refused", f"{message}; sign in again, and ask the operator if it goes on")
