"""What does a token say about itself?

Reads the claims of an OpenAI access or id token. The signature is not checked, as the Codex CLI does not check it
either: the token was handed to us by its owner or by the issuer over TLS, and only the upstream decides what it is
worth. So nothing here grants anything; claims name an account, show a plan and tell when to refresh.

Rules that hold:

* a claim of the wrong type is an absent claim, never an error; a text that is no JWT at all is NotAJwt;
* tokens over 64 KiB are not looked at; no error holds any part of a token.

Claim names: ``exp``, ``iat``, ``scp`` or ``scope``, ``email``, ``https://api.openai.com/auth`` and
``https://api.openai.com/profile`` as the Codex CLI reads them. JWT form: RFC 7519.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

AUTH_CLAIM: Final = "https://api.openai.com/auth"
PROFILE_CLAIM: Final = "https://api.openai.com/profile"
MAX_TOKEN_BYTES: Final = 64 * 1024
FALLBACK_LIFE_S: Final = 8 * 86_400.0
"""How long an access token is taken to live when it does not say so credibly; real ones live about ten days."""
MAX_LIFE_S: Final = 400 * 86_400.0
MIN_TIME_S: Final = 1_000_000_000.0


class NotAJwt(ValueError):
    """The text is not a JWT with a JSON object in the middle. str() holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims that matter here; None or empty where the token does not say."""

    account_id: str | None = None
    plan: str | None = None
    email: str | None = None
    user_id: str | None = None
    fedramp: bool = False
    expires_at_s: float | None = None
    issued_at_s: float | None = None
    scopes: frozenset[str] = frozenset()


def read_claims(token: str) -> Claims:
    """The claims of ``token``. Raises NotAJwt."""
    payload = _payload(token)
    auth = _mapping(payload.get(AUTH_CLAIM))
    profile = _mapping(payload.get(PROFILE_CLAIM))
    return Claims(
        account_id=_text(auth.get("chatgpt_account_id")),
        plan=_text(auth.get("chatgpt_plan_type")),
        email=_text(payload.get("email")) or _text(profile.get("email")),
        user_id=_text(auth.get("chatgpt_user_id")) or _text(auth.get("user_id")),
        fedramp=auth.get("chatgpt_account_is_fedramp") is True,
        expires_at_s=_time(payload.get("exp")),
        issued_at_s=_time(payload.get("iat")),
        scopes=_scopes(payload.get("scp", payload.get("scope"))),
    )


def claims_or_none(token: str | None) -> Claims | None:
    """As read_claims, with None for no token and for a token that is no JWT."""
    if not token:
        return None
    try:
        return read_claims(token)
    except NotAJwt:
        return None


def stored_expiry_s(claims: Claims | None, refreshed_at_s: float) -> float:
    """When a token obtained at ``refreshed_at_s`` dies: its ``exp`` if that is credible, else the 8-day rule."""
    expires = claims.expires_at_s if claims else None
    if expires is None or expires < MIN_TIME_S or expires > refreshed_at_s + MAX_LIFE_S:
        return refreshed_at_s + FALLBACK_LIFE_S
    return expires


def fresh_expiry_s(claims: Claims | None, now_s: float) -> float:
    """When a token that the issuer handed out just now dies, by our clock.

    A new token whose ``exp`` has passed means that our clock is ahead: then its life (``exp`` minus ``iat``) is
    counted from now, so that a wrong clock cannot start a storm of refreshes.
    """
    expires = stored_expiry_s(claims, now_s)
    if expires > now_s:
        return expires
    issued = claims.issued_at_s if claims else None
    life = expires - issued if issued is not None else 0.0
    return now_s + (life if 0 < life <= MAX_LIFE_S else FALLBACK_LIFE_S)


def _payload(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(token) > MAX_TOKEN_BYTES or len(parts) != 3 or not parts[1]:
        raise NotAJwt("not a JWT")
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        payload = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError):
        raise NotAJwt("not a JWT: its claims are not readable") from None
    if not isinstance(payload, dict):
        raise NotAJwt("not a JWT: its claims are not an object")
    return payload


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 512 and value.isprintable() else None


def _time(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _scopes(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()
