"""Records as the admin API says them, for the fake of it: accounts in every state, people, keys, audit lines."""

from __future__ import annotations

import time
from typing import Any

Record = dict[str, Any]


def window(name: str, minutes: int, used: float, in_s: float | None) -> Record:
    resets = None if in_s is None else time.time() + in_s
    return {"name": name, "used_percent": used, "window_minutes": minutes, "resets_at_s": resets,
            "seen_at_s": time.time() - 60}  # fmt: skip


def account(id_: str, label: str, **changes: Any) -> Record:
    now = time.time()
    return {
        "id": id_, "label": label, "email": f"{label}@example.com", "plan": "pro", "pool": "default", "weight": 1,
        "enabled": True, "state": "ready", "status": "active", "reasons": [], "blocks": [],
        "windows": [window("primary", 300, 42, 7200), window("secondary", 10080, 18, 400_000)],
        "access_expires_at_s": now + 500_000, "refreshed_at_s": now - 5000, "refresh_state": "ready",
        "requests": 812, "input_tokens": 2_403_112, "output_tokens": 190_034, "created_at_s": now - 900_000,
        "version": 1,
    } | changes  # fmt: skip


def block(cause: str, evidence: str, in_s: float, scope: str = "account") -> Record:
    now = time.time()
    return {"scope": scope, "kind": "cooldown", "cause": cause, "evidence": evidence, "since_at_s": now - 300,
            "until_at_s": now + in_s, "next_probe_at_s": now + in_s / 2}  # fmt: skip


def house() -> list[Record]:
    """Accounts in every state."""
    return [
        account("acc_1", "ada", email="ada@example.com"),
        account(
            "acc_2",
            "grace",
            weight=2,
            requests=1544,
            windows=[window("primary", 300, 83, 3000), window("secondary", 10080, 61, 260_000)],
        ),
        account(
            "acc_3",
            "alan",
            plan="plus",
            state="cooling",
            blocks=[block("usage_limit", "429 usage_limit_reached, resets_at in the body", 5400)],
            reasons=["the plan's window is full until it resets; other accounts serve meanwhile"],
            windows=[window("primary", 300, 100, 5400), window("secondary", 10080, 77, 200_000)],
        ),
        account(
            "acc_4",
            "barbara",
            pool="spare",
            blocks=[block("model", "404 model_not_found", 3600, "model:gpt-5.5-pro")],
            windows=[window("primary", 300, 3, 15_000), window("secondary", 10080, 1, 590_000)],
        ),
        account(
            "acc_5",
            "edsger",
            pool="spare",
            state="needs_reauth",
            status="needs_reauth",
            refresh_state="spent",
            reasons=["needs a login: the issuer said refresh_token_reused; sign in again"],
        ),
        account(
            "acc_6",
            "linus",
            state="disabled",
            enabled=False,
            reasons=["disabled by an administrator"],
            windows=[],
            requests=0,
            input_tokens=0,
            output_tokens=0,
            refreshed_at_s=None,
        ),
    ]


def login(id_: str, kind: str, pool: str = "default", label: str | None = None, expect: str | None = None) -> Record:
    now = time.time()
    device = kind == "device"
    return {
        "id": id_, "kind": kind, "state": "pending", "requested_by": "ada", "pool": pool, "label": label,
        "expect": expect, "user_code": "QX7F-3M2KD" if device else None,
        "verification_url": "https://auth.example.com/codex/device" if device else None,
        "authorize_url": None if device else "https://auth.example.com/oauth/authorize?response_type=code&state=abc",
        "created_at_s": now, "expires_at_s": now + 900, "failure": None, "account_id": None, "account_label": None,
        "version": 1,
    }  # fmt: skip


def tenant(id_: str, name: str, pools: list[str]) -> Record:
    return {"id": id_, "name": name, "pools": pools, "limits": {"requests_per_minute": 600, "concurrent_streams": None},
            "enabled": True, "created_at_s": time.time() - 86_400, "version": 1}  # fmt: skip


def key(id_: str, tenant_id: str, name: str) -> Record:
    return {"id": id_, "tenant_id": tenant_id, "name": name, "scopes": ["relay"], "models": [],
            "limits": {"requests_per_minute": None, "concurrent_streams": 8}, "expires_at_s": None,
            "revoked_at_s": None, "created_at_s": time.time() - 7200, "version": 1}  # fmt: skip


def person(id_: str, name: str, role: str, **changes: Any) -> Record:
    return {"id": id_, "name": name, "role": role, "tenant_id": None, "enabled": True, "totp_enabled": False,
            "sso": False, "created_at_s": time.time() - 86_400, "last_login_at_s": time.time() - 600,
            "version": 1} | changes  # fmt: skip


def sessions() -> list[Record]:
    now = time.time()
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
    return [
        {"id": f"ses_{n}", "created_at_s": now - 3600 * n, "seen_at_s": now - 60 * n, "expires_at_s": now + 40_000,
         "current": n == 1, "address": f"127.0.0.{n}", "user_agent": agent}
        for n in (1, 2)
    ]  # fmt: skip


def audit_records(number: int = 120) -> list[Record]:
    acts = ("accounts.enable", "keys.create", "request", "session.open")
    now = time.time()
    return [
        {"seq": n, "at_s": now - 30 * (number - n), "actor": "admin:ada", "action": acts[n % 4], "outcome": "ok",
         "tenant_id": "ten_1" if n % 4 == 2 else None, "key_id": "key_1" if n % 4 == 2 else None,
         "request_id": f"req_{n}", "target": None if n % 4 == 2 else f"acc_{n % 6}",
         "model": "gpt-5.5" if n % 4 == 2 else None, "input_tokens": 1200 if n % 4 == 2 else None,
         "output_tokens": 80 if n % 4 == 2 else None, "detail": {"status": 200}}
        for n in range(1, number + 1)
    ]  # fmt: skip
