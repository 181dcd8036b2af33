"""What is shown of an account, and why it is out: pure functions over records, for the console and the command line.

A state is one word: ``disabled``, ``needs_reauth``, ``cooling``, ``open`` or ``half_open`` (breaker), ``ready``.
Every reason names its evidence and until when it holds. No token is ever part of a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.admin.answers import AccountAnswer, BlockView, WindowView
from gateway.admin.moments import moment, span
from ops.usage import UsageTotal
from store.records import (
    ROUTE,
    Account,
    AccountStatus,
    Credential,
    HealthRecord,
    RefreshState,
    WindowRecord,
)


def blocking(account_id: str, health: Iterable[HealthRecord], now_s: float) -> list[HealthRecord]:
    """The records that keep the account, a model of it or the whole route out now; the longest first."""
    found = [one for one in health if one.account_id in {account_id, ROUTE} and (one.until_s > now_s or _probing(one))]
    return sorted(found, key=lambda one: -one.until_s)


def state(account: Account, health: Iterable[HealthRecord], now_s: float) -> tuple[str, float | None]:
    """The word for the account as a whole and, when it passes by itself, until when (Unix seconds)."""
    if not account.enabled:
        return "disabled", None
    if account.status is AccountStatus.NEEDS_REAUTH:
        return "needs_reauth", None
    whole = [one for one in blocking(account.id, health, now_s) if one.scope == "account" and one.account_id != ROUTE]
    if not whole:
        return "ready", None
    longest = whole[0]
    return ("cooling" if longest.kind == "cooldown" else longest.state or "open"), longest.until_s


def view(
    account: Account,
    credential: Credential | None,
    health: Sequence[HealthRecord],
    windows: Sequence[WindowRecord],
    now_s: float,
) -> dict[str, Any]:
    """Everything about one account but its tokens."""
    word, until_s = state(account, health, now_s)
    return {
        "id": account.id,
        "label": account.label,
        "email": account.email,
        "plan": account.plan,
        "chatgpt_account_id": account.chatgpt_account_id,
        "pool": account.pool,
        "weight": account.weight,
        "enabled": account.enabled,
        "status": account.status.value,
        "status_reason": account.status_reason,
        "state": word,
        "until_s": until_s,
        "access_token_expires_at_s": credential.expires_at_s if credential else None,
        "refreshed_at_s": credential.refreshed_at_s if credential else None,
        "refresh_state": credential.refresh_state.value if credential else None,
        "created_at_s": account.created_at_s,
        "blocks": [_block(one) for one in blocking(account.id, health, now_s)],
        "windows": [
            {"name": one.name, "used_percent": one.used_percent, "window_minutes": one.window_minutes,
             "resets_at_s": one.resets_at_s, "seen_at_s": one.seen_at_s}
            for one in windows if one.account_id == account.id
        ],
    }  # fmt: skip


def reasons(shown: dict[str, Any], now_s: float) -> list[str]:
    """One line per reason why the account of this view does not serve, or might soon not; with the next step."""
    lines: list[str] = []
    if not shown["enabled"]:
        lines.append(f"disabled by an administrator; codex-relay accounts enable {shown['id']}")
    if shown["status"] == AccountStatus.NEEDS_REAUTH.value:
        why = shown["status_reason"] or "the issuer refused the refresh token"
        lines.append(f"needs a login: {why}; sign in with the Codex CLI and import its auth.json again")
    lines.extend(_reason(block, now_s) for block in shown["blocks"])
    lines.extend(_token_reasons(shown, now_s))
    return lines or ["nothing: it is ready"]


def _probing(one: HealthRecord) -> bool:
    return one.kind == "breaker" and one.state == "half_open"


def _block(one: HealthRecord) -> dict[str, Any]:
    return {
        "whole_route": one.account_id == ROUTE,
        "scope": one.scope,
        "kind": one.kind,
        "state": one.state,
        "cause": one.cause,
        "evidence": one.evidence,
        "since_s": one.since_s,
        "until_s": one.until_s,
        "next_probe_s": one.next_probe_s,
        "level": one.level,
    }


def _reason(block: dict[str, Any], now_s: float) -> str:
    who = "the route to the upstream (every account)" if block["whole_route"] else "the account"
    if not block["whole_route"] and block["scope"].startswith("model:"):
        who = f"model {block['scope'].removeprefix('model:')} of the account"
    until = f"until {moment(block['until_s'])} ({span(block['until_s'] - now_s)})"
    probe = "" if block["next_probe_s"] is None else f"; next probe {span(block['next_probe_s'] - now_s)}"
    evidence = f", evidence: {block['evidence']}" if block["evidence"] else ""
    what = "rests" if block["kind"] == "cooldown" else f"has its breaker {block['state'] or 'open'}"
    return f"{who} {what} {until}: {block['cause']}{evidence}{probe}"


def _token_reasons(shown: dict[str, Any], now_s: float) -> list[str]:
    expires = shown["access_token_expires_at_s"]
    if expires is None:
        return ["it has no credential; import its auth.json again"]
    lines: list[str] = []
    if expires <= now_s:
        lines.append(f"its access token expired {span(expires - now_s)}; codex-relay accounts refresh {shown['id']}")
    if shown["refresh_state"] == RefreshState.UNCERTAIN.value:
        lines.append("a refresh was sent and no answer came: it serves until its access token ends, then needs a login")
    elif shown["refresh_state"] == RefreshState.SPENT.value:
        lines.append("its refresh token is spent: it serves until its access token ends, then needs a login")
    return lines


def answer(account: Account, shown: dict[str, Any], used: UsageTotal, now_s: float) -> AccountAnswer:
    """A view as the admin API says it."""
    return AccountAnswer(
        id=account.id,
        label=account.label,
        email=account.email,
        plan=account.plan,
        pool=account.pool,
        weight=account.weight,
        enabled=account.enabled,
        state=shown["state"],
        status=shown["status"],
        reasons=reasons(shown, now_s),
        blocks=[_block_view(one) for one in shown["blocks"]],
        windows=[WindowView(**one) for one in shown["windows"]],
        access_expires_at_s=shown["access_token_expires_at_s"],
        refreshed_at_s=shown["refreshed_at_s"],
        refresh_state=shown["refresh_state"],
        requests=used.requests,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        created_at_s=account.created_at_s,
        version=account.version,
    )


def _block_view(block: dict[str, Any]) -> BlockView:
    return BlockView(
        scope="route" if block["whole_route"] else block["scope"],
        kind=block["kind"],
        cause=block["cause"],
        evidence=block["evidence"],
        since_at_s=block["since_s"],
        until_at_s=block["until_s"],
        next_probe_at_s=block["next_probe_s"],
    )
