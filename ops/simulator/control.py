"""The control API: everything that a test in another process needs, as JSON under ``/simulator``.

Answers loopback peers only, unless the configuration opens it. The paths:

=====================================================  =========================================================
``POST accounts`` {plan?, email?, account_id?, ...}    {"account_id", "auth"}: a new account, its auth.json
``GET accounts`` · ``GET accounts/ID/auth``            ids, plans, limits · auth.json with the newest tokens
``POST accounts/ID/pat``                               {"token"}: a personal access token
``POST accounts/ID/script`` {"items": [...]}           lines of directives or {status, body, headers}
``POST accounts/ID/mode`` · ``POST mode`` {"item"}     until changed; null ends it
``POST accounts/ID/expire-access`` {code?}             401 from now on · ``POST expire-access``: for all
``POST accounts/ID/end-refresh`` {state?}              expired | invalidated | used
``POST accounts/ID/exhaust`` {resets_in_s?}            429 usage_limit_reached until then
``POST oauth/script`` {"items", "account_id"?}         {kind, delay_s?, gate?} or {status, body, headers}
``POST oauth/mode`` {"item", "account_id"?}            until changed; null ends it
``POST gates/NAME/open``                               whatever waits there goes on
``POST device/approve`` {"user_code", "account_id"?}   {"account_id"} · ``POST device/deny`` {"user_code"}
``POST device/expire`` {"user_code"}                   {} · ``POST device/script`` {"items"}: the next polls
``POST authorize`` {"url", "account_id"?, "deny"?}     {"callback"}: where a browser would end
``GET counters`` · ``GET requests?limit=N``            numbers · the newest recorded requests, no bearer tokens
``POST reset``                                         forget everything
=====================================================  =========================================================
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops.simulator.authorize import decide_by_url
from ops.simulator.device import UnknownCode, approve, deny, expire
from ops.simulator.script import Fail, item_from_json, refresh_from_json
from ops.simulator.state import Recorded, Simulator

Handler = Callable[[Request, dict[str, Any]], Awaitable[Any]]
_NEW_ACCOUNT = frozenset(
    {
        "account_id",
        "email",
        "plan",
        "models",
        "access_token_lifetime_s",
        "workspace_backend_origin",
        "fedramp",
    }
)


def _is_loopback(request: Request) -> bool:
    if request.client is None:
        return True  # a Unix socket or an in-process call
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _object_of(request: Request) -> dict[str, Any]:
    """The JSON object of the body, {} without one. Raises ValueError for anything else."""
    body = await request.body()
    parsed = json.loads(body) if body else {}
    if isinstance(parsed, dict):
        return parsed
    raise ValueError("the body is a JSON object")


def _shown(request: Recorded) -> dict[str, Any]:
    headers = {k: v for k, v in request.headers.items() if k != "authorization"}
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": headers,
        "json": request.json if "/oauth/" not in request.path else None,
        "body_bytes": len(request.body),
        "account_id": request.account_id,
        "at_s": request.at_s,
    }


class Control:
    """The handlers, over one Simulator. KeyError is an unknown account: 404; ValueError is a bad value: 400."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/accounts", self._new_account),
            ("GET", "/accounts", self._accounts),
            ("GET", "/accounts/{id}/auth", self._auth),
            ("POST", "/accounts/{id}/pat", self._pat),
            ("POST", "/accounts/{id}/script", self._script),
            ("POST", "/accounts/{id}/mode", self._mode),
            ("POST", "/accounts/{id}/expire-access", self._expire_access),
            ("POST", "/accounts/{id}/end-refresh", self._end_refresh),
            ("POST", "/accounts/{id}/exhaust", self._exhaust),
            ("POST", "/mode", self._mode),
            ("POST", "/expire-access", self._expire_access),
            ("POST", "/oauth/script", self._oauth_script),
            ("POST", "/oauth/mode", self._oauth_mode),
            ("POST", "/gates/{name}/open", self._open_gate),
            ("POST", "/device/approve", self._approve),
            ("POST", "/device/deny", self._deny),
            ("POST", "/device/expire", self._expire),
            ("POST", "/device/script", self._device_script),
            ("POST", "/authorize", self._authorize),
            ("GET", "/counters", self._counters),
            ("GET", "/requests", self._requests),
            ("POST", "/reset", self._reset),
        ]
        return [Route(f"/simulator{path}", self._guarded(handler), methods=[verb]) for verb, path, handler in table]

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not self._simulator.config.control_from_anywhere and not _is_loopback(request):
                return JSONResponse({"error": "the control API is for loopback peers"}, 403)
            try:
                result = await handler(request, await _object_of(request))
            except KeyError as error:
                return JSONResponse({"error": f"unknown: {error.args[0]}"}, 404)
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": str(error)}, 400)
            return JSONResponse(result)

        return answer

    def _account_id(self, request: Request) -> str:
        id_ = str(request.path_params["id"])
        return self._simulator.accounts[id_].id

    async def _new_account(self, _: Request, body: dict[str, Any]) -> Any:
        if unknown := set(body) - _NEW_ACCOUNT:
            raise ValueError(f"unknown members: {', '.join(sorted(unknown))}")
        auth = self._simulator.new_account(**body)
        return {"account_id": auth["tokens"]["account_id"], "auth": auth}

    async def _accounts(self, _: Request, body: dict[str, Any]) -> Any:
        del body
        return {
            "accounts": [
                {
                    "account_id": account.id,
                    "email": account.email,
                    "plan": account.plan,
                    "primary_used_percent": account.primary.used_percent,
                    "primary_reset_at_s": account.primary.reset_at_s,
                    "scripted": len(account.script),
                }
                for account in self._simulator.accounts.values()
            ]
        }

    async def _auth(self, request: Request, _: dict[str, Any]) -> Any:
        return self._simulator.auth_json(self._account_id(request))

    async def _pat(self, request: Request, _: dict[str, Any]) -> Any:
        return {"token": self._simulator.new_pat(self._account_id(request))}

    async def _script(self, request: Request, body: dict[str, Any]) -> Any:
        self._simulator.script(self._account_id(request), [item_from_json(item) for item in body["items"]])
        return {}

    async def _mode(self, request: Request, body: dict[str, Any]) -> Any:
        account_id = self._account_id(request) if "id" in request.path_params else None
        item = body["item"]
        self._simulator.set_mode(account_id, None if item is None else item_from_json(item))
        return {}

    async def _expire_access(self, request: Request, body: dict[str, Any]) -> Any:
        if "id" not in request.path_params:
            self._simulator.expire_access()
        else:
            self._simulator.refuse_access(self._account_id(request), str(body.get("code", "token_expired")))
        return {}

    async def _end_refresh(self, request: Request, body: dict[str, Any]) -> Any:
        state = str(body.get("state", "invalidated"))
        if state not in {"expired", "invalidated", "used"}:
            raise ValueError("state is expired, invalidated or used")
        self._simulator.end_refresh(self._account_id(request), state)
        return {}

    async def _exhaust(self, request: Request, body: dict[str, Any]) -> Any:
        self._simulator.exhaust(self._account_id(request), float(body.get("resets_in_s", 3_600)))
        return {}

    async def _oauth_script(self, _: Request, body: dict[str, Any]) -> Any:
        account_id = body.get("account_id")
        self._simulator.script_oauth([refresh_from_json(item) for item in body["items"]], account_id)
        return {}

    async def _oauth_mode(self, _: Request, body: dict[str, Any]) -> Any:
        item = body["item"]
        self._simulator.set_oauth_mode(None if item is None else refresh_from_json(item), body.get("account_id"))
        return {}

    async def _open_gate(self, request: Request, _: dict[str, Any]) -> Any:
        self._simulator.open_gate(str(request.path_params["name"]))
        return {}

    async def _approve(self, _: Request, body: dict[str, Any]) -> Any:
        return {"account_id": approve(self._simulator, str(body["user_code"]), body.get("account_id"))}

    async def _deny(self, _: Request, body: dict[str, Any]) -> Any:
        deny(self._simulator, str(body["user_code"]))
        return {}

    async def _expire(self, _: Request, body: dict[str, Any]) -> Any:
        expire(self._simulator, str(body["user_code"]))
        return {}

    async def _device_script(self, _: Request, body: dict[str, Any]) -> Any:
        items = [item_from_json(item) for item in body["items"]]
        if not all(isinstance(item, Fail) for item in items):
            raise ValueError("an item is {status, body, headers}")
        self._simulator.device_script.extend(item for item in items if isinstance(item, Fail))
        return {}

    async def _authorize(self, _: Request, body: dict[str, Any]) -> Any:
        approve_it = not body.get("deny", False)
        url = decide_by_url(self._simulator, str(body["url"]), body.get("account_id"), approve=approve_it)
        return {"callback": url}

    async def _counters(self, _: Request, body: dict[str, Any]) -> Any:
        del body
        return self._simulator.counters()

    async def _requests(self, request: Request, _: dict[str, Any]) -> Any:
        limit = int(request.query_params.get("limit", "100"))
        newest = list(self._simulator.requests)[-limit:] if limit > 0 else []
        return {"requests": [_shown(one) for one in newest]}

    async def _reset(self, _: Request, body: dict[str, Any]) -> Any:
        del body
        self._simulator.reset()
        return {}


# UnknownCode is a KeyError, so an unknown user code is 404 like an unknown account.
assert issubclass(UnknownCode, KeyError)
