"""Who calls the simulated backend: bearer token and ``chatgpt-account-id`` to an account, or a 401.

Also records the request and carries the headers that every answer of the backend has.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from starlette.types import Scope

from ops.simulator.accounts import Account
from ops.simulator.failures import FIXED
from ops.simulator.script import Fail
from ops.simulator.state import Recorded, Simulator


def bearer(headers: dict[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def authenticate(simulator: Simulator, headers: dict[str, str]) -> Account | Fail:
    """The account of the token. A foreign or missing ``chatgpt-account-id`` is refused like a bad token."""
    token = bearer(headers)
    if token is None:
        return FIXED["unauthorized"]
    refusal = simulator.access_refusal(token)
    known = simulator.access_tokens.get(token)
    if refusal is not None or known is None:
        if known is not None:
            simulator.count("refused_tokens", simulator.accounts[known.account_id])
        return FIXED.get(refusal or "token_invalidated", FIXED["token_invalidated"])
    named = headers.get("chatgpt-account-id")
    if named is None and not simulator.config.require_account_header:
        named = known.account_id
    if named != known.account_id:
        simulator.count("account_mismatches")
        return FIXED["unauthorized"]
    return simulator.accounts[known.account_id]


def claimed_account(simulator: Simulator, headers: dict[str, str]) -> str | None:
    """The account that the token was issued for, good or not; for the record."""
    known = simulator.access_tokens.get(bearer(headers) or "")
    return None if known is None else known.account_id


def record(simulator: Simulator, scope: Scope, headers: dict[str, str], body: bytes) -> Any:
    """Keep the request; returns its JSON, or None when it is none."""
    try:
        parsed = json.loads(body) if body else None
    except ValueError:
        parsed = None
    simulator.record(
        Recorded(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            json=parsed,
            account_id=claimed_account(simulator, headers),
            at_s=simulator.clock.now_s(),
        )
    )
    return parsed


def visible_models(simulator: Simulator, account: Account) -> list[dict[str, Any]]:
    """The catalogue entries of the account, in the catalogue's order."""
    if account.models is None:
        return list(simulator.config.models)
    return [entry for entry in simulator.config.models if entry["slug"] in account.models]


def models_etag(simulator: Simulator, account: Account) -> str:
    names = ",".join(entry["slug"] for entry in visible_models(simulator, account))
    return f'W/"{hashlib.sha256(names.encode()).hexdigest()[:16]}"'


def limit_headers(simulator: Simulator, account: Account) -> dict[str, str]:
    """``x-codex-*``: both windows, plan and credits."""
    now_s = simulator.clock.now_s()
    headers = {"x-codex-plan-type": account.plan}
    for name, window in (("primary", account.primary), ("secondary", account.secondary)):
        window.turn(now_s)
        headers |= {
            f"x-codex-{name}-used-percent": f"{window.used_percent:g}",
            f"x-codex-{name}-window-minutes": str(window.window_minutes),
            f"x-codex-{name}-reset-at": str(int(window.reset_at_s)),
            f"x-codex-{name}-reset-after-seconds": str(max(0, int(window.reset_at_s - now_s))),
        }
    headers["x-codex-credits-has-credits"] = str(account.credits_balance is not None).lower()
    headers["x-codex-credits-unlimited"] = "false"
    if account.credits_balance is not None:
        headers["x-codex-credits-balance"] = account.credits_balance
    return headers


def limits_event(simulator: Simulator, account: Account) -> dict[str, Any]:
    """The members of ``codex.rate_limits``."""
    now_s = simulator.clock.now_s()

    def shown(used: float, minutes: int, reset_at_s: float) -> dict[str, Any]:
        return {
            "used_percent": used,
            "window_minutes": minutes,
            "reset_after_seconds": max(0, int(reset_at_s - now_s)),
            "reset_at": int(reset_at_s),
        }

    full = account.primary.is_full(now_s) or account.secondary.is_full(now_s)
    return {
        "plan_type": account.plan,
        "metered_limit_name": None,
        "rate_limits": {
            "allowed": not full,
            "limit_reached": full,
            **{
                name: shown(window.used_percent, window.window_minutes, window.reset_at_s)
                for name, window in (("primary", account.primary), ("secondary", account.secondary))
            },
        },
        "credits": {
            "has_credits": account.credits_balance is not None,
            "unlimited": False,
            "balance": account.credits_balance,
        },
    }
