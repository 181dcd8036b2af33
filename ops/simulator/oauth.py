"""``POST /oauth/token`` and ``/oauth/revoke``: the issuer with single-use, rotating refresh tokens.

A refresh token works once. Its second use answers 401 ``refresh_token_reused`` and, when the configuration says so,
kills the newest token of the account too; the access tokens that were issued stay good. Every presentation of a
token is counted on it (``exchanges``), so a test can say: this token was sent exactly once.

Raw ASGI, because a lost answer needs the connection under it. JSON and form bodies are both taken.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from ops.simulator import wire
from ops.simulator.access import record
from ops.simulator.accounts import Account, RefreshToken
from ops.simulator.authorize import redeem
from ops.simulator.failures import error_body
from ops.simulator.script import Fail, Refresh
from ops.simulator.state import Simulator

MEGABYTE = 1024 * 1024
STRANGER = "00000000-0000-4000-8000-00000000beef"
"""The account id in the tokens of a ``other_account`` answer."""
_MESSAGES = {
    "refresh_token_expired": "Your refresh token has expired. Please try signing in again.",
    "refresh_token_reused": "Your refresh token has already been used to generate a new access token.",
    "refresh_token_invalidated": "Your session has ended. Please log in again.",
}


def _refused(code: str) -> Fail:
    return Fail(401, error_body(_MESSAGES[code], "invalid_request_error", code))


def _invalid_grant(text: str) -> Fail:
    return Fail(400, {"error": "invalid_grant", "error_description": text})


def parse_token_request(body: bytes, content_type: str) -> dict[str, str] | None:
    """The members of a JSON or form body; None when it is neither."""
    if "json" in content_type:
        try:
            parsed = json.loads(body)
        except ValueError:
            return None
        return {key: str(value) for key, value in parsed.items()} if isinstance(parsed, dict) else None
    return dict(parse_qsl(body.decode("utf-8", "replace")))


class TokenEndpoint:
    """An ASGI callable over one Simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        simulator = self._simulator
        headers = wire.headers_of(scope)
        try:
            body = await wire.read_body(receive, MEGABYTE)
        except wire.BadBody as error:
            await wire.send_answer(send, Fail(413, {"error": str(error)}))
            return
        except wire.Gone:
            return
        record(simulator, scope, headers, body)
        simulator.count("token_requests")
        members = parse_token_request(body, headers.get("content-type", ""))
        if members is None or members.get("client_id") != simulator.config.client_id:
            await wire.send_answer(send, Fail(400, {"error": "invalid_client"}))
            return
        async with wire.departure(receive) as watch:
            await self._grant(members, scope, send, watch)

    async def _grant(self, members: dict[str, str], scope: Scope, send: Send, watch: asyncio.Task[None]) -> None:
        match members.get("grant_type"):
            case "refresh_token":
                await self._refresh(members.get("refresh_token", ""), scope, send, watch)
            case "authorization_code":
                await wire.send_answer(send, self._exchange_code(members))
            case "urn:ietf:params:oauth:grant-type:token-exchange":
                await wire.send_answer(send, Fail(400, {"error": "invalid_request"}))
            case other:
                await wire.send_answer(send, Fail(400, {"error": "unsupported_grant_type", "grant_type": other}))

    # -- refresh

    async def _refresh(self, token: str, scope: Scope, send: Send, watch: asyncio.Task[None]) -> None:
        simulator = self._simulator
        known = simulator.refresh_tokens.get(token)
        account = None if known is None else simulator.accounts[known.account_id]
        item = simulator.next_refresh(account)
        if known is not None:
            known.exchanges += 1
        simulator.count("refreshes", account)
        if isinstance(item, Fail):
            await wire.send_answer(send, item)
            return
        simulator.refreshing += 1
        simulator.most_refreshing = max(simulator.most_refreshing, simulator.refreshing)
        try:
            await self._perform(item or Refresh(), token, scope, send, watch)
        finally:
            simulator.refreshing = max(0, simulator.refreshing - 1)
            simulator.changed()

    async def _perform(self, item: Refresh, token: str, scope: Scope, send: Send, watch: asyncio.Task[None]) -> None:
        simulator = self._simulator
        known = simulator.refresh_tokens.get(token)
        account = None if known is None else simulator.accounts[known.account_id]
        if await self._held(item, watch):
            simulator.count("refresh_aborts", account)
            return
        if item.kind == "drop":
            await self._drop(scope, watch)
            return
        answer = self._rotate(known, account, item)
        if item.kind == "lost":
            await self._drop(scope, watch)
            return
        await wire.send_answer(send, answer)

    async def _held(self, item: Refresh, watch: asyncio.Task[None]) -> bool:
        """Waits as the item says; True when the client left meanwhile."""
        simulator = self._simulator
        if item.delay_s and await wire.first_of(watch, simulator.clock.sleep(item.delay_s)):
            return True
        if item.kind == "hang":
            simulator.count("refreshes_hanging")
            await watch
            return True
        if item.gate:
            simulator.count(f"at_gate_{item.gate}")
            return await wire.first_of(watch, simulator.gate(item.gate).wait())
        return False

    async def _drop(self, scope: Scope, watch: asyncio.Task[None]) -> None:
        self._simulator.count("answers_lost")
        wire.drop_connection(scope)
        if wire.TRANSPORT in scope:
            await watch

    def _rotate(self, known: RefreshToken | None, account: Account | None, item: Refresh) -> Fail:
        simulator = self._simulator
        if known is None or account is None:
            return _invalid_grant("Unknown refresh token")
        if known.state == "live" and simulator.clock.now_s() >= known.expires_at_s:
            known.state = "expired"
        if known.state == "used":
            simulator.count("reuses", account)
            if simulator.config.reuse_revokes_family:
                simulator.end_refresh(account.id, "invalidated")
            return _refused("refresh_token_reused")
        if known.state != "live":
            return _refused(f"refresh_token_{known.state}")
        known.state = "used"
        known.rotations += 1
        simulator.count("rotations", account)
        claimed = STRANGER if item.kind == "other_account" else None
        return self._shaped(simulator.issue_tokens(account, claim_account_id=claimed, login=known.login), item)

    def _shaped(self, tokens: dict[str, str], item: Refresh) -> Fail:
        body: dict[str, Any] = {**tokens, "token_type": "Bearer", "scope": "openid profile email offline_access"}
        match item.kind:
            case "not_json":
                return Fail(200, "<html>ok</html>", {"content-type": "text/html"})
            case "huge":
                body["padding"] = "x" * MEGABYTE
            case "no_refresh_token" | "no_access_token" | "no_id_token":
                body.pop(item.kind.removeprefix("no_"))
            case _:
                pass
        return Fail(200, body)

    # -- authorization code

    def _exchange_code(self, members: dict[str, str]) -> Fail:
        """The code of a login: once, and only with its verifier and redirect address."""
        simulator = self._simulator
        simulator.count("code_presentations")
        names = ("code", "code_verifier", "redirect_uri")
        account_id = redeem(simulator, *(members.get(name, "") for name in names))
        if account_id is None:
            return _invalid_grant("Unknown code, wrong verifier or wrong redirect_uri")
        simulator.count("code_exchanges", simulator.accounts[account_id])
        return Fail(200, {**simulator.issue_tokens(simulator.accounts[account_id]), "token_type": "Bearer"})


class RevokeEndpoint:
    """``POST /oauth/revoke``: 200 for every token, known or not (RFC 7009)."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        simulator = self._simulator
        headers = wire.headers_of(scope)
        try:
            body = await wire.read_body(receive, MEGABYTE)
        except (wire.BadBody, wire.Gone):
            return
        record(simulator, scope, headers, body)
        members = parse_token_request(body, headers.get("content-type", "")) or {}
        known = simulator.refresh_tokens.get(members.get("token", ""))
        if known is not None:
            simulator.end_login(known.login)
        simulator.count("revocations")
        await wire.send_json(send, 200, {})
