"""The request path is cut at every point at which it can wait: nothing hangs, nothing leaks, the next call is served.

A cut is a cancellation or an error raised into the coroutine at its n-th step, for n from the first step to the last,
with the application called directly, so that a step is exactly one await that gave up control.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import eventually
from tests.flow.stage import TEXT, Stage, stage

SECTIONS: Any = {
    "limits": {"key_concurrent_streams": 1},
    "router": {"commit_hold_ms": 30, "retry_budget_min": 10_000},
}
MOST_STEPS = 200


class Cut:
    """Awaits a coroutine and interferes at its ``at``-th suspension; ``steps`` counts them."""

    def __init__(self, inner: Coroutine[Any, Any, None], at: int, error: BaseException) -> None:
        self._inner = inner
        self._at = at
        self._error = error
        self.steps = 0

    def __await__(self) -> Generator[Any, Any, None]:
        value: Any = None
        raised: BaseException | None = None
        while True:
            try:
                waiting = self._inner.send(value) if raised is None else self._inner.throw(raised)
            except StopIteration:
                return
            value = raised = None
            self.steps += 1
            if self.steps == self._at:
                if asyncio.isfuture(waiting):
                    waiting._asyncio_future_blocking = False  # we do not hand it to the task
                    waiting.cancel()
                raised = self._error
                continue
            try:
                value = yield waiting
            except BaseException as error:  # noqa: BLE001 - whatever the task throws in belongs to the inner coroutine
                raised = error


class Client:
    """An ASGI client in memory; ``call`` is its idempotency key."""

    def __init__(self, key: str, body: bytes, call: str) -> None:
        self._body = body
        self._asked = False
        self.sent: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "http_version": "1.1",
            "path": "/v1/responses",
            "raw_path": b"/v1/responses",
            "query_string": b"",
            "headers": [
                (b"host", b"gateway.test"),
                (b"authorization", key.encode()),
                (b"content-type", b"application/json"),
                (b"idempotency-key", call.encode()),
            ],
        }

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Any) -> None:
        await asyncio.sleep(0)
        self.sent.append(message)

    @property
    def served(self) -> bool:
        """Whether the whole answer came down."""
        return bool(self.sent) and self.sent[0].get("status") == 200 and self.sent[-1].get("more_body") is False


def whole(scene: Stage) -> bool:
    """No lease, no request in work, nobody on the list of running requests."""
    gateway = scene.gateway.gateway
    return (
        gateway.pool.snapshot().inflight == 0
        and gateway.inflight.count == 0
        and len(gateway.background.running) == 0
        and gateway.connections.busy == 0
    )


def strangers(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks of our own that were not there before; those of the scripted upstream are not ours."""
    ours = ("gateway", "router", "upstream.", "auth.")
    return [
        task for task in asyncio.all_tasks() - before if getattr(task.get_coro(), "__qualname__", "").startswith(ours)
    ]


async def tortured(scene: Stage, body: bytes, at: int, error: BaseException) -> int:
    """One call cut at step ``at``; how many steps it took in all."""
    before = asyncio.all_tasks()
    client = Client(scene.client.headers["authorization"], body, f"call-{at}")
    cut = Cut(scene.gateway.gateway.app(client.scope, client.receive, client.send), at, error)  # type: ignore[arg-type]

    async def call() -> None:
        await cut

    task = asyncio.create_task(call())
    done, _ = await asyncio.wait({task}, timeout=5.0)
    assert done, f"hangs when cut at step {at}"
    if not task.cancelled() and (raised := task.exception()) is not None:
        assert raised is error, f"step {at}: {raised!r}"
    await eventually(lambda: whole(scene), within_s=1.5)
    assert strangers(before) == []
    assert client.served or cut.steps >= at, client.sent
    return cut.steps


UPSTREAMS: dict[str, Callable[[FaultyUpstream], None]] = {
    "good": lambda upstream: None,
    "moved": lambda upstream: upstream.next(statuses.overloaded()),
    "reconnected": lambda upstream: upstream.next(modes.rst_pre()),
}


@pytest.mark.parametrize(
    ("error", "streamed", "upstream_mode"),
    [
        (asyncio.CancelledError(), True, "good"),
        (asyncio.CancelledError(), True, "moved"),
        (asyncio.CancelledError(), False, "reconnected"),
        (RuntimeError("injected"), True, "reconnected"),
        (RuntimeError("injected"), False, "moved"),
    ],
    ids=str,
)
async def test_every_step_may_be_the_last(
    tmp_path: Path, streamed: bool, error: BaseException, upstream_mode: str
) -> None:
    """Cut after 1, 2, 3, ... steps until the call runs through uncut; after each, one ordinary call succeeds."""
    body = json.dumps({**TEXT, "stream": streamed}).encode()
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=3, **SECTIONS) as scene:
        at = 0
        while True:
            at += 1
            assert at < MOST_STEPS
            upstream.default = modes.good(every_s=0.001)
            UPSTREAMS[upstream_mode](upstream)
            steps = await tortured(scene, body, at, error)
            await clear(scene, upstream)
            if steps < at:
                break
        assert at > 5, "the path has more waits than that"
        assert {scene.state(n) for n in range(3)} <= {"ok"}


async def clear(scene: Stage, upstream: FaultyUpstream) -> None:
    """What a cut call left of its script goes away; then an ordinary call is served."""
    upstream.default = modes.good()
    while upstream.queued:
        await scene.relay()
    for account in scene.accounts:
        scene.gateway.gateway.pool.clear(account.id)
    answer = await scene.relay()
    assert (answer.status, answer.code) == (200, None)
