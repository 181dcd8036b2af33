"""Logins for tests: tokens that look like the issuer's, credentials, accounts, auth.json documents."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from store.records import Account, Credential, Secret

TEN_DAYS_S = 10 * 86_400.0


def jwt(**claims: Any) -> str:
    """A token with these claims and a signature that means nothing."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "none"}, claims)
    )
    return f"{head}.{body}.c2ln"


def access_jwt(chatgpt_id: str, issued_s: float, life_s: float = TEN_DAYS_S, serial: str = "", **more: Any) -> str:
    return jwt(
        iat=issued_s,
        exp=issued_s + life_s,
        jti=f"{chatgpt_id}-{serial}-{issued_s}",
        **{"https://api.openai.com/auth": {"chatgpt_account_id": chatgpt_id, "chatgpt_plan_type": "pro"}},
        **more,
    )


def id_jwt(chatgpt_id: str, email: str) -> str:
    return jwt(
        email=email,
        **{"https://api.openai.com/auth": {"chatgpt_account_id": chatgpt_id, "chatgpt_plan_type": "plus"}},
    )


def account(number: int = 1, **changes: Any) -> Account:
    values: dict[str, Any] = {
        "id": f"acc_{number}",
        "chatgpt_account_id": f"chatgpt-{number}",
        "label": f"account {number}",
        "installation_id": f"00000000-0000-4000-8000-{number:012d}",
        "created_at_s": float(number),
    }
    return Account(**(values | changes))


def credential(
    owner: Account, now_s: float, *, life_s: float = TEN_DAYS_S, age_s: float = TEN_DAYS_S, refresh: str | None = None
) -> Credential:
    """Tokens that end ``life_s`` from now and were obtained ``age_s`` ago."""
    return Credential(
        account_id=owner.id,
        access_token=Secret(access_jwt(owner.chatgpt_account_id, now_s - age_s, age_s + life_s, "first")),
        refresh_token=Secret(refresh or f"rt_{owner.id}_0"),
        id_token=None,
        expires_at_s=now_s + life_s,
        refreshed_at_s=now_s - age_s,
    )


def auth_json(
    chatgpt_id: str,
    now_s: float,
    *,
    life_s: float = TEN_DAYS_S,
    age_s: float = 0.0,
    refresh: str | None = "rt_1",
    email: str = "user@example.org",
    **changes: Any,
) -> dict[str, Any]:
    """As the Codex CLI writes it."""
    document: dict[str, Any] = {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": id_jwt(chatgpt_id, email),
            "access_token": access_jwt(chatgpt_id, now_s - age_s, age_s + life_s),
            "refresh_token": refresh,
            "account_id": chatgpt_id,
        },
        "last_refresh": datetime.fromtimestamp(now_s - age_s, UTC).isoformat().replace("+00:00", "Z"),
    }
    return document | changes
