"""``POST /backend-api/codex/responses``: validate as the backend does, then stream one planned answer.

Order: account, scripted failure, limits, body rules, ownership of sealed content, turn state, stream. Raw ASGI, one
send per event, so that a test's hundred thousand events are cheap. A client that leaves is seen at the next event or
while waiting, and counted as ``aborts``. A WebSocket upgrade gets 426, the one answer that the CLI takes silently.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from ops.simulator import wire
from ops.simulator.access import authenticate, limit_headers, limits_event, models_etag, record, visible_models
from ops.simulator.accounts import Account
from ops.simulator.failures import http_failure, usage_limit_reached
from ops.simulator.script import Fail, Item, Plan, UnknownDirective, apply_script_line, apply_text
from ops.simulator.state import Simulator
from ops.simulator.streams import Answer, Cut, Gate, Hang, Pause, Step, answer_steps, last_user_text
from ops.simulator.validators import refuse_body, refuse_sealed

TURN_STATE = "x-codex-turn-state"
CHARACTERS_PER_TOKEN = 4
CACHE_BLOCK_TOKENS = 128


@dataclass(frozen=True, slots=True)
class _Call:
    """One request that got as far as having an account and a JSON body."""

    account: Account
    headers: dict[str, str]
    body: dict[str, Any]
    body_bytes: int
    plan: Plan


class ResponsesEndpoint:
    """An ASGI callable over one Simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        simulator = self._simulator
        headers = wire.headers_of(scope)
        simulator.count("responses")
        if headers.get("upgrade", "").lower() == "websocket":
            simulator.count("upgrades_refused")
            await wire.send_answer(send, Fail(426, {"detail": "Upgrade Required"}))
            return
        limit_bytes = simulator.config.max_body_bytes
        try:
            raw = await wire.read_body(receive, limit_bytes)
            body = wire.decode_body(raw, headers.get("content-encoding", ""), limit_bytes)
        except wire.Gone:
            simulator.count("aborts")
            return
        except wire.BadBody as error:
            await wire.send_answer(send, Fail(400, {"detail": str(error)}))
            return
        parsed = record(simulator, scope, headers, body)
        if scope["method"] != "POST":
            await wire.send_answer(send, Fail(405, {"detail": "Method Not Allowed"}))
            return
        async with wire.departure(receive) as watch:
            await self._answer(scope, send, watch, headers, parsed, len(body))

    async def _answer(
        self, scope: Scope, send: Send, watch: asyncio.Task[None], headers: dict[str, str], parsed: Any, size: int
    ) -> None:
        simulator = self._simulator
        base = {"x-request-id": simulator.new_id("req_"), "cf-ray": f"{simulator.new_id('')[:16]}-SIM"}
        account = authenticate(simulator, headers)
        if isinstance(account, Fail):
            simulator.count(f"status_{account.status}")
            await wire.send_answer(send, account, base)
            return
        simulator.count("requests", account)
        call = self._call(account, headers, parsed, size)
        failure = call if isinstance(call, Fail) else None
        if isinstance(call, _Call):
            if await self._ended_before_headers(call.plan, account, scope, watch):
                return
            failure = self._refusal(call)
        if failure is not None or isinstance(call, Fail):
            assert failure is not None
            simulator.count(f"status_{failure.status}", account)
            shown = {} if isinstance(call, _Call) and call.plan.no_limits else limit_headers(simulator, account)
            await wire.send_answer(send, failure, {**base, **shown})
            return
        simulator.count("status_200", account)
        await self._stream(call, scope, send, watch, base)

    def _call(self, account: Account, headers: dict[str, str], parsed: Any, size: int) -> _Call | Fail:
        """Take the next script entry and lay the plan's layers over each other."""
        item: Item | None = self._simulator.next_item(account)
        if isinstance(item, Fail):
            return item
        if not isinstance(parsed, dict):
            return Fail(400, {"detail": "Invalid request body"})
        try:
            plan = apply_script_line(Plan(), self._simulator.config.plan)
            plan = apply_script_line(plan, item or "")
            plan = apply_text(plan, str(parsed.get("instructions") or ""))
            items = parsed.get("input")
            asked = last_user_text(items) if isinstance(items, list) else ""
            plan = apply_text(plan, asked)
        except ValueError as error:
            return Fail(400, {"detail": str(error)})
        return _Call(account, headers, parsed, size, plan)

    async def _ended_before_headers(
        self, plan: Plan, account: Account, scope: Scope, watch: asyncio.Task[None]
    ) -> bool:
        """Waits as the plan says. True when the client left meanwhile, or the plan cuts the connection here."""
        simulator = self._simulator
        left = False
        if plan.ttfb_ms:
            left = await wire.first_of(watch, simulator.clock.sleep(plan.ttfb_ms / 1000))
        if not left and plan.gate is not None and plan.at < 0:
            simulator.count(f"at_gate_{plan.gate}", account)
            left = await wire.first_of(watch, simulator.gate(plan.gate).wait())
        if not left and plan.hang == "headers":
            simulator.count("hanging", account)
            await watch
            left = True
        if left:
            simulator.count("aborts", account)
            return True
        if plan.cut is not None and plan.at < 0:
            await self._drop(scope, watch, reset=plan.cut == "rst")
            return True
        return False

    async def _drop(self, scope: Scope, watch: asyncio.Task[None], *, reset: bool) -> None:
        """End the connection under the client; returns when it is gone."""
        self._simulator.count("cuts")
        wire.drop_connection(scope, reset=reset)
        if wire.TRANSPORT in scope:
            await watch

    def _refusal(self, call: _Call) -> Fail | None:
        simulator, account, body = self._simulator, call.account, call.body
        now_s = simulator.clock.now_s()
        model = str(body.get("model"))
        if call.plan.http is not None:
            try:
                return http_failure(call.plan.http, call.plan, account, now_s, model)
            except UnknownDirective as error:
                return Fail(400, {"detail": str(error)})
        for window in (account.primary, account.secondary):
            if window.is_full(now_s):
                return usage_limit_reached(account, now_s, int(window.reset_at_s - now_s))
        slugs = frozenset(entry["slug"] for entry in visible_models(simulator, account))
        refusal = refuse_body(body, simulator.config.unsupported_parameters, slugs)
        if refusal is not None:
            return refusal
        sealer = simulator.sealer
        refusal = refuse_sealed(body["input"], lambda purpose, value: sealer.opens(account.id, purpose, value))
        if refusal is not None:
            simulator.count("foreign_content", account)
            return refusal
        state = call.headers.get(TURN_STATE)
        if state is not None and not sealer.opens(account.id, TURN_STATE, state):
            simulator.count("foreign_turn_state", account)
            return Fail(400, {"detail": "Invalid turn state"})
        return None

    # -- the stream

    async def _stream(
        self, call: _Call, scope: Scope, send: Send, watch: asyncio.Task[None], base: dict[str, str]
    ) -> None:
        simulator, account = self._simulator, call.account
        simulator.stream_opened(account)
        try:
            left = await self._send_headers(call, send, watch, base)
            if not left:
                left = await self._send_steps(call, scope, send, watch)
        except asyncio.CancelledError:
            left = True
            raise
        finally:
            if left:
                simulator.count("aborts", account)
            simulator.stream_closed(account)

    async def _send_headers(self, call: _Call, send: Send, watch: asyncio.Task[None], base: dict[str, str]) -> bool:
        simulator, account, plan = self._simulator, call.account, call.plan
        headers = {
            **base,
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "openai-model": plan.model or str(call.body["model"]),
            "x-models-etag": models_etag(simulator, account),
            "x-reasoning-included": "true",
        }
        if not plan.no_limits:
            headers |= limit_headers(simulator, account)
        if not plan.no_turn_state and TURN_STATE not in call.headers:
            simulator.count("turn_states", account)
            headers[TURN_STATE] = simulator.sealer.seal(account.id, TURN_STATE, simulator.random.randbytes(16))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        if plan.first_ms:
            # uvicorn holds the head back until the first body part.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            return await wire.first_of(watch, simulator.clock.sleep(plan.first_ms / 1000))
        return False

    async def _send_steps(self, call: _Call, scope: Scope, send: Send, watch: asyncio.Task[None]) -> bool:
        """Runs the answer; True when the client left before its end."""
        for step in answer_steps(self._answer_of(call)):
            if isinstance(step, bytes):
                # Judged before each event: a client may leave as soon as it has the last one.
                if watch.done():
                    return True
                await send({"type": "http.response.body", "body": step, "more_body": True})
                await asyncio.sleep(0)
            elif isinstance(step, Cut):
                return await self._cut(step, scope, send, watch)
            elif await self._wait(step, call.account, watch):
                return True
        self._used(call)
        await send({"type": "http.response.body", "body": b""})
        return False

    async def _wait(self, step: Step, account: Account, watch: asyncio.Task[None]) -> bool:
        simulator = self._simulator
        if isinstance(step, Pause):
            return await wire.first_of(watch, simulator.clock.sleep(step.seconds))
        if isinstance(step, Gate):
            simulator.count(f"at_gate_{step.name}", account)
            return await wire.first_of(watch, simulator.gate(step.name).wait())
        assert isinstance(step, Hang)
        simulator.count("hanging", account)
        await watch
        return True

    async def _cut(self, cut: Cut, scope: Scope, send: Send, watch: asyncio.Task[None]) -> bool:
        """Our own end, so never an abort of the client's."""
        if cut.how == "mid":
            await send({"type": "http.response.body", "body": cut.tail, "more_body": True})
        if cut.how == "eof":
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._drop(scope, watch, reset=cut.how == "rst")
        return False

    def _answer_of(self, call: _Call) -> Answer:
        simulator, account, body = self._simulator, call.account, call.body
        input_tokens = max(1, call.body_bytes // CHARACTERS_PER_TOKEN)
        key = str(body.get("prompt_cache_key"))
        known = account.cached_prefix_tokens.get(key, 0)
        cached = min(known, input_tokens) // CACHE_BLOCK_TOKENS * CACHE_BLOCK_TOKENS
        account.cached_prefix_tokens[key] = input_tokens
        limits = simulator.config.rate_limit_event and not call.plan.no_limits
        return Answer(
            plan=call.plan,
            body=body,
            model=call.plan.model or str(body["model"]),
            created_at_s=simulator.clock.now_s(),
            input_tokens=input_tokens,
            cached_tokens=cached,
            rate_limits=limits_event(simulator, account) if limits else None,
            new_id=simulator.new_id,
            seal=lambda purpose: simulator.sealer.seal(account.id, purpose, simulator.random.randbytes(160)),
        )

    def _used(self, call: _Call) -> None:
        """A finished answer moves the windows, when the configuration says how much fills one."""
        full = self._simulator.config.tokens_per_window
        if full:
            percent = 100.0 * max(1, call.body_bytes // CHARACTERS_PER_TOKEN) / full
            call.account.primary.used_percent += percent
            call.account.secondary.used_percent += percent / 10
        self._simulator.count("completed", call.account)
