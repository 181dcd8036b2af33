"""What an account of the simulated backend is: identity, tokens, limits and what was counted for it.

Tokens are JWTs in the shape that the Codex CLI reads (unsigned: neither it nor this backend checks a signature) and
opaque ``rt_`` refresh tokens, single use. Two seals tie content to an account: ``seal`` signs a value for one account
and ``opens`` refuses it for every other one, as encrypted reasoning and ``x-codex-turn-state`` behave.

Knows nothing of HTTP. Truth: the auth.json that CLI 0.169.0 writes, and the claims that it reads.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.simulator.script import Item, RefreshItem

SEAL_BYTES = 24
SEAL_PREFIX = "gAAAAA"
"""Real encrypted content begins like this."""


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge_jwt(claims: dict[str, Any], signature: bytes) -> str:
    """A JWT whose signature means nothing."""
    head = b64url(b'{"alg":"RS256","kid":"simulator","typ":"JWT"}')
    return f"{head}.{b64url(json.dumps(claims, separators=(',', ':')).encode())}.{b64url(signature)}"


def rfc3339(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(slots=True)
class Window:
    """One rate-limit window; full at 100 until ``reset_at_s`` (Unix)."""

    window_minutes: int
    reset_at_s: float
    used_percent: float = 0.0

    def turn(self, now_s: float) -> None:
        """Start the next window when this one is over."""
        if now_s >= self.reset_at_s:
            self.used_percent = 0.0
            self.reset_at_s = now_s + self.window_minutes * 60

    def is_full(self, now_s: float) -> bool:
        self.turn(now_s)
        return self.used_percent >= 100.0


@dataclass(slots=True)
class AccessToken:
    """``refusal`` names the error code it is refused with, when it was revoked; ``login`` is whence it came."""

    account_id: str
    expires_at_s: float
    refusal: str | None = None
    login: int = 0


@dataclass(slots=True)
class RefreshToken:
    """``state``: live, used, expired or invalidated. ``exchanges`` counts every presentation, refused ones too.
    Tokens of one sign-in have the same ``login``, through all rotations."""

    account_id: str
    number: int
    expires_at_s: float
    state: str = "live"
    exchanges: int = 0
    rotations: int = 0
    login: int = 0


@dataclass(slots=True)
class Account:
    """One ChatGPT account. ``models`` is None for the backend's whole list."""

    id: str
    user_id: str
    email: str
    plan: str
    primary: Window
    secondary: Window
    access_token_lifetime_s: float
    workspace_backend_origin: str
    account_routing_override: str
    models: tuple[str, ...] | None = None
    fedramp: bool = False
    credits_balance: str | None = None
    access_token: str = ""
    id_token: str = ""
    refresh_token: str = ""
    last_refresh_s: float = 0.0
    script: deque[Item] = field(default_factory=deque)
    mode: Item | None = None
    oauth_script: deque[RefreshItem] = field(default_factory=deque)
    oauth_mode: RefreshItem | None = None
    cached_prefix_tokens: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    streams: int = 0
    most_streams: int = 0

    def claims(self) -> dict[str, Any]:
        """The ``https://api.openai.com/auth`` claim."""
        return {
            "chatgpt_account_id": self.id,
            "chatgpt_plan_type": self.plan,
            "chatgpt_user_id": self.user_id,
            "user_id": self.user_id,
            "chatgpt_account_is_fedramp": self.fedramp,
            "organizations": [{"id": f"org-{self.id[-8:]}", "is_default": True, "role": "owner", "title": "Personal"}],
        }

    def auth_json(self, issuer: str, client_id: str) -> dict[str, Any]:
        """The file as the CLI's login writes it, with the newest tokens."""
        return {
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": None,
            "tokens": {
                "id_token": self.id_token,
                "access_token": self.access_token,
                "refresh_token": self.refresh_token,
                "oauth_provenance": {"issuer": issuer, "client_id": client_id},
                "account_id": self.id,
            },
            "last_refresh": rfc3339(self.last_refresh_s),
        }


class Sealer:
    """Values that open for one account only; the key lives as long as the simulator."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, account_id: str, purpose: str, payload: bytes) -> str:
        tag = self._tag(account_id, purpose, payload)
        return SEAL_PREFIX + b64url(tag + payload)

    def opens(self, account_id: str, purpose: str, sealed: str) -> bool:
        """False for foreign, altered and malformed values."""
        if not sealed.startswith(SEAL_PREFIX):
            return False
        sealed = sealed[len(SEAL_PREFIX) :]
        try:
            data = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return False
        tag, payload = data[:SEAL_BYTES], data[SEAL_BYTES:]
        return hmac.compare_digest(tag, self._tag(account_id, purpose, payload))

    def _tag(self, account_id: str, purpose: str, payload: bytes) -> bytes:
        message = f"{account_id}\0{purpose}\0".encode() + payload
        return hmac.new(self._key, message, hashlib.sha256).digest()[:SEAL_BYTES]
