"""What a Codex CLI asks of its backend besides model calls, answered by the gateway for the holder of a key.

A gateway key has the form of a personal access token, so ``CODEX_ACCESS_TOKEN=<key>`` signs the CLI in: it asks who
the token belongs to (whoami), which workspace that has and where its traffic goes (accounts/check), and shows how
much is used up (usage). The identity is made from the tenant and the key; no account of ours is shown. Usage is that
of the accounts that the caller may use, as if they were one.

Over plain http the CLI insists on an https origin for its workspace and then stays with the base URL of its own
configuration, because the two differ; over TLS "no constraint" sends it back to where it asked.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from auth.types import Caller
from gateway.errors import GatewayError
from gateway.exchange import exchange_of
from gateway.info import reply
from gateway.middleware import Receive, Scope, Send, caller_with
from ops.clock import Clock
from router.explain import Explanation
from router.pool import AccountPool
from store.records import Account, WindowRecord

_NAMESPACE: Final = uuid.UUID("7d1b9a52-3a0e-5f0b-9c59-7c9d5b1f2a44")
_DEFAULT_PLAN: Final = "pro"
_FREE: Final = "NO_CONSTRAINT"
_ELSEWHERE: Final = "https://chatgpt.com"
_WINDOW_MINUTES: Final = {"primary": 300, "secondary": 10_080}


def workspace_id(tenant_id: str) -> str:
    """The tenant's workspace as the CLI knows it: a UUID that is always the same."""
    return str(uuid.uuid5(_NAMESPACE, tenant_id))


class CodexPaths:
    """The ASGI endpoint of these paths; which one is asked for is told by the path's end."""

    def __init__(self, pool: AccountPool, clock: Clock, *, https: bool) -> None:
        """``https``: clients reach this gateway by TLS, be it ours or a proxy's."""
        self._pool = pool
        self._clock = clock
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        what = scope["path"].rpartition("/")[2]
        exchange.route = "whoami" if what == "whoami" else "wham"
        if scope["method"] != "GET":
            raise GatewayError.method_not_allowed("GET")
        assert exchange.caller is not None
        caller = exchange.caller if "tasks" in exchange.caller.scopes else caller_with(exchange, "relay")
        await reply(scope, send, msgspec.json.encode(self._answer(what, caller, scope["scheme"])))

    def _answer(self, what: str, caller: Caller, scheme: str) -> dict[str, Any]:
        if what == "whoami":
            return whoami(caller, self._plan(caller))
        if what == "check":
            return self._check(caller, scheme)
        if what == "usage":
            explained = [self._pool.explain(account.id) for account in self._accounts(caller)]
            accounts = [one for one in explained if one is not None]
            return pool_usage(accounts, self._plan(caller), self._clock.now_s())
        return {}

    def _check(self, caller: Caller, scheme: str) -> dict[str, Any]:
        workspace = workspace_id(caller.tenant_id)
        entry = {
            "id": workspace,
            "plan_type": self._plan(caller),
            "workspace_backend_origin": _FREE if self._https or scheme == "https" else _ELSEWHERE,
            "account_routing_override": _FREE,
            "name": caller.tenant_name,
            "profile_picture_url": None,
            "structure": "personal",
        }
        return {"accounts": [entry], "account_ordering": [workspace], "default_account_id": workspace}

    def _accounts(self, caller: Caller) -> list[Account]:
        """The enabled accounts that may serve the caller."""
        return [
            account
            for account in self._pool.accounts()
            if account.enabled and (not caller.pools or account.pool in caller.pools)
        ]

    def _plan(self, caller: Caller) -> str:
        plans = Counter(account.plan for account in self._accounts(caller) if account.plan)
        return plans.most_common(1)[0][0] if plans else _DEFAULT_PLAN


def whoami(caller: Caller, plan: str) -> dict[str, Any]:
    """Whose token this is: made of tenant and key, no mailbox that exists."""
    return {
        "email": f"{caller.key_id}@codex-relay.invalid",
        "chatgpt_user_id": f"user-{caller.key_id}",
        "chatgpt_account_id": workspace_id(caller.tenant_id),
        "chatgpt_plan_type": plan,
        "chatgpt_account_is_fedramp": False,
    }


def pool_usage(accounts: Sequence[Explanation], plan: str, now_s: float) -> dict[str, Any]:
    """Many accounts as one: used by the mean, full when nobody is usable, reset when the first one is."""
    usable = any(one.usable for one in accounts)
    return {
        "plan_type": plan,
        "rate_limit": {
            "allowed": usable,
            "limit_reached": not usable,
            "primary_window": _window("primary", accounts, now_s),
            "secondary_window": _window("secondary", accounts, now_s),
        },
        "credits": {"has_credits": False, "unlimited": False, "balance": None},
        "spend_control": None,
        "additional_rate_limits": [],
        "rate_limit_reached_type": None if usable else {"kind": "rate_limit_reached"},
    }


def _window(name: str, accounts: Sequence[Explanation], now_s: float) -> dict[str, Any] | None:
    """The window over all accounts; None when no account has reported one. A window that is over counts as empty."""
    known = [window for one in accounts for window in one.windows if window.name == name]
    if not known:
        return None
    open_now = [window for window in known if window.resets_at_s is None or window.resets_at_s > now_s]
    used = sum(min(window.used_percent, 100.0) for window in open_now)
    minutes = next((w.window_minutes for w in known if w.window_minutes), _WINDOW_MINUTES[name])
    resets_at_s = _first_reset(open_now, now_s + 60.0 * minutes)
    return {
        "used_percent": round(used / len(accounts)),
        "limit_window_seconds": minutes * 60,
        "reset_after_seconds": max(0, round(resets_at_s - now_s)),
        "reset_at": round(resets_at_s),
    }


def _first_reset(windows: Sequence[WindowRecord], otherwise_s: float) -> float:
    return min((window.resets_at_s for window in windows if window.resets_at_s is not None), default=otherwise_s)
