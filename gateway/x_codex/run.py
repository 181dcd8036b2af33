"""One call of the Responses API that a container answers: queue it, follow its log, speak the Responses API.

    refusals -> a place (sandbox.synchronous_max) -> a worker takes it -> 200, events as they come -> the end

Rules that hold:

* until a worker has taken the run nothing goes down, so a full queue is a plain 503 with Retry-After;
* the wait for a place and for a worker together last ``queue_s`` at most, the run ``run_s`` at most; a run that is
  too long is cancelled and ends with ``upstream_timeout``: a 504, or ``response.failed`` in a stream;
* whoever leaves (a client that is gone, a revoked key, our own drain) cancels the run at once; the worker stops its
  container;
* silence of a stream is broken by the heartbeat of the client's dialect, between events only;
* whose environment it is is decided by the caller's tenant; another's is the same answer as none.

What the run's model calls use is counted where they pass the relay, under the task's own key; not here again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from auth.types import Caller
from gateway.aggregate import Aggregator
from gateway.departure import Departure, Receive
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.middleware import Scope, Send
from gateway.revocation import RunningRequests
from gateway.streaming import HEARTBEAT, relay_headers
from gateway.types import RelayRequest
from gateway.x_codex.events import Translator
from gateway.x_codex.places import Places, queue_full
from gateway.x_codex.queued import Look, RunQueue
from gateway.x_codex.wish import Wish, WishRules, check, errand_of
from ops.clock import Clock
from sandbox.environments import EnvironmentEntry
from sandbox.types import Ended, RunMode, RunResult, TaskSpec
from store.errors import StoreError

LOOK_S: Final = 0.1
ENGINE_RETRY_S: Final = 10.0
MESSAGE_MAX: Final = 500
NONE_ADAPTED: Final = ("input_string", "instructions_added", "store_false", "stream_true")
"""Words about how a request was fitted to the backend, which a run does not speak to."""


class EnvironmentList(Protocol):
    """What is asked of sandbox.environments."""

    async def list(self, tenant_id: str) -> tuple[EnvironmentEntry, ...]: ...


@dataclass(frozen=True, slots=True)
class RunRules:
    """The settings' values."""

    wish: WishRules
    most: int
    queue_s: float
    run_s: float
    heartbeat_s: float


class SynchronousRuns:
    """Answers requests with a wish. One per process."""

    def __init__(
        self,
        queue: RunQueue,
        environments: EnvironmentList,
        running: RunningRequests,
        clock: Clock,
        rules: RunRules,
    ) -> None:
        self._queue = queue
        self._environments = environments
        self._running = running
        self._clock = clock
        self._rules = rules
        self._places = Places(rules.most, clock)

    def check(self, wish: Wish, caller: Caller) -> None:
        """Raises GatewayError for a wish that this caller or this gateway cannot have; nothing was counted yet."""
        check(wish, caller, self._rules.wish)

    async def step(self) -> None:
        """Tidies up behind runs that are over. Raises StoreError."""
        await self._queue.step()

    async def answer(
        self, wish: Wish, request: RelayRequest, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Raises GatewayError while nothing has gone down, ClientGone when the client has left.

        Cancel: the run is cancelled; a client that still listens to a stream is told by ``response.failed``.
        """
        spec = await self._spec(wish, request)
        request.let_go()
        exchange.adaptations = tuple(
            word for word in exchange.adaptations if word != STRIPPED and word not in NONE_ADAPTED
        )
        deadline_s = self._clock.monotonic_s() + self._rules.queue_s
        with Departure(scope, receive) as departure:
            async with self._places.held(deadline_s):
                task_id = await self._queue.add(request.caller, spec)
                try:
                    await self._begun(task_id, deadline_s)
                    name = exchange.id.removeprefix("req_")
                    translator = Translator(name, request.model, self._clock.now_s(), spec.effort)
                    if request.stream:
                        await self._stream(task_id, translator, request, exchange, departure, send)
                        return
                    body = await self._whole(task_id, translator, request)
                finally:
                    await self._queue.leave(task_id)
        await _send_whole(body, exchange, send)

    async def _spec(self, wish: Wish, request: RelayRequest) -> TaskSpec:
        errand = errand_of(wish, request.adapted)
        environment_id = await self._environment(request.caller.tenant_id, wish.environment)
        mode = RunMode(wish.level, wish.network, self._rules.run_s)
        return TaskSpec(errand.prompt, request.model, environment_id, effort=errand.effort, mode=mode)

    async def _environment(self, tenant_id: str, name: str) -> str:
        """The id of the tenant's environment of that id, else of that label (which is the only one)."""
        known = [one.spec for one in await self._environments.list(tenant_id)]
        for found in (*(one for one in known if one.id == name), *(one for one in known if one.label == name)):
            return found.id
        raise GatewayError.invalid(
            "x_codex.environment names no environment of this tenant. GET /v1/environments lists them.",
            "x_codex.environment",
        )

    async def _begun(self, task_id: str, deadline_s: float) -> None:
        """Returns when a worker has the run (or it has ended already)."""
        while not (await self._queue.look(task_id, 0)).begun:
            if self._clock.monotonic_s() >= deadline_s:
                raise queue_full()
            await self._clock.sleep(LOOK_S)

    async def _follow(self, task_id: str, translator: Translator) -> AsyncGenerator[bytes]:
        """Events as they come, b"" at every look that found none; the last are those of the end.

        Raises GatewayError for a run that ended badly or took too long.
        """
        deadline_s = self._clock.monotonic_s() + self._rules.run_s
        yield translator.begin()
        look = Look(begun=True, lines=(), after=0, more=False, result=None)
        while look.more or look.result is None:
            if self._clock.monotonic_s() >= deadline_s:
                raise too_long(self._rules.run_s)
            try:
                look = await self._queue.look(task_id, look.after)
            except StoreError:  # the run goes on without us: we look again
                look = replace(look, lines=(), more=False, result=None)
            yield b"".join(map(translator.feed, look.lines))
            if look.result is None and not look.more:
                await self._clock.sleep(LOOK_S)
        if look.result.ended is not Ended.DONE:
            raise fault_of(look.result)
        yield translator.complete(look.result.usage, self._clock.now_s())

    async def _whole(self, task_id: str, translator: Translator, request: RelayRequest) -> bytes:
        aggregator = Aggregator(request.echo)
        async with contextlib.aclosing(self._follow(task_id, translator)) as blocks:
            async for block in blocks:
                aggregator.feed(block)
        return aggregator.result()

    async def _stream(
        self,
        task_id: str,
        translator: Translator,
        request: RelayRequest,
        exchange: Exchange,
        departure: Departure,
        send: Send,
    ) -> None:
        exchange.status = 200
        headers = [*STREAM_HEADERS, *relay_headers(exchange)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        last = b""
        try:
            await self._pour(task_id, translator, request, exchange, send)
        except (GatewayError, asyncio.CancelledError) as cause:
            if departure.gone:
                raise
            error = cause if isinstance(cause, GatewayError) else self._our_end()
            await self._queue.leave(task_id)
            exchange.error_code = error.code
            last = translator.fail(error.code, error.message)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _pour(
        self, task_id: str, translator: Translator, request: RelayRequest, exchange: Exchange, send: Send
    ) -> None:
        """All events of a run that ends well, and heartbeats between them."""
        heartbeat, silence_s = HEARTBEAT[request.dialect], self._rules.heartbeat_s
        said_s = self._clock.monotonic_s()
        async with contextlib.aclosing(self._follow(task_id, translator)) as blocks:
            async for block in blocks:
                silent = self._clock.monotonic_s() - said_s >= silence_s
                piece = block or (heartbeat if silent else b"")
                if piece:
                    exchange.bytes_out += len(piece)
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    said_s = self._clock.monotonic_s()

    def _our_end(self) -> GatewayError:
        """Why we were told to stop, when the client is still there."""
        return GatewayError.key_revoked() if self._running.revoked() else GatewayError.draining()


STRIPPED: Final = "dropped:x_codex"
STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
)


async def _send_whole(body: bytes, exchange: Exchange, send: Send) -> None:
    exchange.status = 200
    exchange.bytes_out = len(body)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *relay_headers(exchange),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def too_long(run_s: float) -> GatewayError:
    return GatewayError("upstream_timeout", f"The run took longer than {run_s:g}s, the limit here. It was stopped.")


_FAULTS: Final[dict[Ended, tuple[str, str]]] = {
    Ended.FAILED: ("upstream_error", "The agent failed"),
    Ended.TIMED_OUT: ("upstream_timeout", "The run took longer than it may. It was stopped"),
    Ended.OUT_OF_MEMORY: ("upstream_error", "The run needed more memory than its environment gives"),
    Ended.LIMIT: ("upstream_error", "The run passed a limit of its environment"),
    Ended.CANCELLED: ("upstream_error", "The run was cancelled"),
    Ended.LOST: ("upstream_error", "The run's worker is gone. Try again"),
    Ended.ENGINE: ("overloaded", "The container engine does not answer. Try again soon"),
    Ended.INPUT: ("invalid_request", "The environment's source cannot be had"),
    Ended.BUDGET: ("budget_exhausted", "The run's budget of tokens is used up"),
}


def fault_of(result: RunResult) -> GatewayError:
    """What a run that did not end well means for the client; total over Ended."""
    code, text = _FAULTS.get(result.ended, ("upstream_error", "The run ended"))
    why = " ".join(result.message.split())[:MESSAGE_MAX]
    param = "x_codex.environment" if result.ended is Ended.INPUT else None
    retry_after_s = ENGINE_RETRY_S if result.ended is Ended.ENGINE else None
    return GatewayError(code, f"{text}: {why}" if why else f"{text}.", param=param, retry_after_s=retry_after_s)
