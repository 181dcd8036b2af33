"""Records with sensible fields, to be varied by keyword."""

from __future__ import annotations

from typing import Any

from store.records import (
    Account,
    AuditRecord,
    ClientKey,
    Credential,
    HealthRecord,
    Limits,
    Placement,
    Secret,
    Tenant,
    WindowRecord,
)

NOW_S = 1_795_000_000.0


def make_account(account_id: str = "acct-1", **changes: Any) -> Account:
    fields: dict[str, Any] = {
        "id": account_id,
        "chatgpt_account_id": f"chatgpt-{account_id}",
        "label": f"label of {account_id}",
        "email": "owner@example.com",
        "plan": "pro",
        "pool": "blue",
        "weight": 3,
        "enabled": False,
        "status_reason": "none",
        "workspace_origin": "https://workspace.example.com",
        "routing_override": "eu",
        "fedramp": True,
        "installation_id": "9b2f4a54-0a52-4f0e-8f6f-0f2f7d1c5a11",
        "created_at_s": NOW_S,
    }
    return Account(**{**fields, **changes})


def make_credential(account_id: str = "acct-1", **changes: Any) -> Credential:
    fields: dict[str, Any] = {
        "account_id": account_id,
        "access_token": Secret(f"access-of-{account_id}"),
        "refresh_token": Secret(f"refresh-of-{account_id}"),
        "id_token": Secret(f"identity-of-{account_id}"),
        "expires_at_s": NOW_S + 3600.5,
        "refreshed_at_s": NOW_S,
    }
    return Credential(**{**fields, **changes})


def make_tenant(tenant_id: str = "tenant-1", **changes: Any) -> Tenant:
    fields: dict[str, Any] = {
        "id": tenant_id,
        "name": f"name of {tenant_id}",
        "limits": Limits(60, None),
        "pools": ("blue", "green"),
        "enabled": False,
        "created_at_s": NOW_S,
    }
    return Tenant(**{**fields, **changes})


def make_key(key_id: str = "key-1", tenant_id: str = "tenant-1", **changes: Any) -> ClientKey:
    fields: dict[str, Any] = {
        "id": key_id,
        "tenant_id": tenant_id,
        "name": f"name of {key_id}",
        "digest": b"\x00digest\xff of " + key_id.encode(),
        "scopes": frozenset({"relay", "admin"}),
        "models": ("gpt-5", "gpt-5-mini"),
        "limits": Limits(None, 4),
        "expires_at_s": NOW_S + 86_400,
        "revoked_at_s": None,
        "created_at_s": NOW_S,
    }
    return ClientKey(**{**fields, **changes})


def make_health(account_id: str = "acct-1", **changes: Any) -> HealthRecord:
    fields: dict[str, Any] = {
        "account_id": account_id,
        "scope": "account",
        "kind": "cooldown",
        "cause": "rate_limited",
        "evidence": "429 usage_limit_reached",
        "since_s": NOW_S,
        "until_s": NOW_S + 60,
        "next_probe_s": None,
        "level": 1,
        "state": "open",
        "owner": "worker-1",
        "updated_at_s": NOW_S,
    }
    return HealthRecord(**{**fields, **changes})


def make_window(account_id: str = "acct-1", **changes: Any) -> WindowRecord:
    fields: dict[str, Any] = {
        "account_id": account_id,
        "name": "primary",
        "used_percent": 12.5,
        "window_minutes": 300,
        "resets_at_s": NOW_S + 600,
        "seen_at_s": NOW_S,
    }
    return WindowRecord(**{**fields, **changes})


def make_placement(digest: bytes = b"digest", account_id: str = "acct-1", **changes: Any) -> Placement:
    fields: dict[str, Any] = {"kind": "affinity", "expires_at_s": NOW_S + 3600}
    return Placement(**{**fields, "digest": digest, "account_id": account_id, **changes})


def make_audit(action: str = "relay.response", **changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "at_s": NOW_S,
        "actor": "key:key-1",
        "outcome": "ok",
        "tenant_id": "tenant-1",
        "key_id": "key-1",
        "request_id": "req-1",
        "target": "acct-1",
        "model": "gpt-5",
        "input_tokens": 100,
        "output_tokens": 20,
        "detail": (("status", 200), ("ttfb_ms", 12.5), ("cached", True), ("note", None)),
    }
    return AuditRecord(**{**fields, "action": action, **changes})
