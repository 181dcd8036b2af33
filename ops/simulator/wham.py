"""The ChatGPT side of the backend: models, usage, workspace routing, settings, reset credits, whoami.

Everything else under ``/backend-api`` is 404 ``{"detail":"Not Found"}``, which the Codex CLI tolerates.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ops.simulator.access import authenticate, models_etag, record, visible_models
from ops.simulator.accounts import Account, Window
from ops.simulator.script import Fail
from ops.simulator.state import Simulator


def to_response(fail: Fail) -> Response:
    if isinstance(fail.body, dict):
        return JSONResponse(fail.body, fail.status, dict(fail.headers))
    return Response(fail.body, fail.status, dict(fail.headers))


def _window(window: Window, now_s: float) -> dict[str, Any]:
    window.turn(now_s)
    return {
        "used_percent": min(100, round(window.used_percent)),
        "limit_window_seconds": window.window_minutes * 60,
        "reset_after_seconds": max(0, int(window.reset_at_s - now_s)),
        "reset_at": int(window.reset_at_s),
    }


class ChatGptEndpoints:
    """One coroutine per path, over one Simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def _enter(self, request: Request, name: str) -> Account | Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        record(self._simulator, request.scope, headers, await request.body())
        self._simulator.count(name)
        account = authenticate(self._simulator, headers)
        if isinstance(account, Fail):
            return to_response(account)
        self._simulator.count(name, account, 0)
        account.counts[name] += 1
        return account

    async def models(self, request: Request) -> Response:
        account = await self._enter(request, "models")
        if isinstance(account, Response):
            return account
        if self._simulator.models_script:
            return to_response(self._simulator.models_script.popleft())
        etag = models_etag(self._simulator, account)
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        return JSONResponse({"models": visible_models(self._simulator, account)}, headers={"etag": etag})

    async def usage(self, request: Request) -> Response:
        account = await self._enter(request, "usage")
        if isinstance(account, Response):
            return account
        if self._simulator.usage_script:
            return to_response(self._simulator.usage_script.popleft())
        now_s = self._simulator.clock.now_s()
        full = account.primary.is_full(now_s) or account.secondary.is_full(now_s)
        return JSONResponse(
            {
                "plan_type": account.plan,
                "rate_limit": {
                    "allowed": not full,
                    "limit_reached": full,
                    "primary_window": _window(account.primary, now_s),
                    "secondary_window": _window(account.secondary, now_s),
                },
                "credits": {
                    "has_credits": account.credits_balance is not None,
                    "unlimited": False,
                    "balance": account.credits_balance,
                },
                "spend_control": None,
                "additional_rate_limits": [],
                "rate_limit_reached_type": {"kind": "rate_limit_reached"} if full else None,
            }
        )

    async def accounts_check(self, request: Request) -> Response:
        account = await self._enter(request, "accounts_check")
        if isinstance(account, Response):
            return account
        entry = {
            "id": account.id,
            "plan_type": account.plan,
            "workspace_backend_origin": account.workspace_backend_origin,
            "account_routing_override": account.account_routing_override,
            "name": None,
            "profile_picture_url": None,
            "structure": "personal",
        }
        return JSONResponse({"accounts": [entry], "account_ordering": [account.id], "default_account_id": account.id})

    async def user_settings(self, request: Request) -> Response:
        account = await self._enter(request, "user_settings")
        return account if isinstance(account, Response) else JSONResponse({})

    async def reset_credits(self, request: Request) -> Response:
        account = await self._enter(request, "reset_credits")
        if isinstance(account, Response):
            return account
        return JSONResponse({"available_count": 0, "credits": []})

    async def consume_reset_credit(self, request: Request) -> Response:
        account = await self._enter(request, "reset_credits")
        return account if isinstance(account, Response) else JSONResponse({"code": "no_credit", "windows_reset": 0})

    async def whoami(self, request: Request) -> Response:
        """Who a personal access token belongs to; the account header is not asked for here."""
        headers = {key.lower(): value for key, value in request.headers.items()}
        record(self._simulator, request.scope, headers, b"")
        known = self._simulator.access_tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        if known is None or known.refusal is not None:
            return JSONResponse({"detail": "Unauthorized"}, 401)
        account = self._simulator.accounts[known.account_id]
        return JSONResponse(
            {
                "email": account.email,
                "chatgpt_user_id": account.user_id,
                "chatgpt_account_id": account.id,
                "chatgpt_plan_type": account.plan,
                "chatgpt_account_is_fedramp": account.fedramp,
            }
        )

    async def not_found(self, request: Request) -> Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        record(self._simulator, request.scope, headers, await request.body())
        self._simulator.count("not_found")
        return JSONResponse({"detail": "Not Found"}, 404)
