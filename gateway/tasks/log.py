"""The log of a task: a page at a time, or live as server-sent events.

A live log looks into the store twice a second, because what writes it is another process, maybe on another host.
Rules that hold:

* ``id:`` is the number of the line, so Last-Event-ID (or ``after``) resumes without a gap and without a repetition;
* it ends, by an event ``end`` with the state, once the task is no longer worked on and its last lines were sent;
* a comment goes out every 15 s of silence, so that what lies between does not think it dead;
* every 30 s it is asked again whether who reads still may; when not, or when the gateway shuts down, it just ends,
  and the client comes back to where it was, here or elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from gateway.guard import values_of
from gateway.tasks.answers import LogPage
from gateway.tasks.bodies import LogQuery
from gateway.tasks.types import Workshop, actor_of
from gateway.tasks.views import line_view
from sandbox.service import Actor, NoSuchTask
from sandbox.states import WORKED_ON
from store.errors import StoreError
from store.task_records import LogLine

LOOK_S: Final = 0.5
HEARTBEAT_S: Final = 15.0
AGAIN_S: Final = 30.0
PAGE: Final = 500
_HEADERS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no"))


class LogDesk:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        return {"tasks.log": self.log}

    async def log(self, call: Call) -> Reply:
        query: LogQuery = call.query
        by = actor_of(call)
        accept = b",".join(values_of(call.fields, b"accept"))
        if b"text/event-stream" not in accept.lower():
            return await log_page(self._shop, by, call.target, query)
        after = _resumed(call, query.after)
        await self._shop.service.get(by, call.target)
        return Reply(None, 200, _HEADERS, pieces=self._live(call, by, after))

    async def _live(self, call: Call, by: Actor, after: int) -> AsyncIterator[bytes]:
        service, clock = self._shop.service, self._shop.clock
        asked_s = spoke_s = clock.monotonic_s()
        quiet_ends = 0
        yield b"retry: 1000\n\n"
        while not self._shop.draining():
            try:
                state = (await service.get(by, call.target)).record.state
                lines = await service.log(by, call.target, after, PAGE)
            except (NoSuchTask, StoreError):
                return  # it was removed, or the store is away; the client comes back
            if lines:
                after, quiet_ends, spoke_s = lines[-1].number, 0, clock.monotonic_s()
                yield b"".join(_block(one) for one in lines)
                continue
            quiet_ends = 0 if state in WORKED_ON else quiet_ends + 1
            if quiet_ends > 1:  # the line that says so is written after the state: one more look finds it
                yield b'event: end\ndata: {"state":"%s"}\n\n' % state.value.encode()
                return
            if clock.monotonic_s() - spoke_s >= HEARTBEAT_S:
                spoke_s = clock.monotonic_s()
                yield b": still here\n\n"
            await clock.sleep(LOOK_S)
            if clock.monotonic_s() - asked_s >= AGAIN_S:
                asked_s = clock.monotonic_s()
                if not await _still(call):
                    return


async def log_page(shop: Workshop, by: Actor, task_id: str, query: LogQuery) -> Reply:
    lines = await shop.service.log(by, task_id, query.after, query.limit)
    items = [line_view(one) for one in lines]
    return Reply(LogPage(items=items, next_after=items[-1].number if items else query.after))


async def _still(call: Call) -> bool:
    """Whether who asks would still be let in."""
    assert call.again is not None
    try:
        await call.again()
    except (GatewayError, StoreError):
        return False
    return True


def _resumed(call: Call, after: int) -> int:
    given = values_of(call.fields, b"last-event-id")
    if not given:
        return after
    if len(given) > 1 or not given[0].isdigit() or len(given[0]) > 15:
        raise GatewayError.invalid("Last-Event-ID is the number of a line.", "Last-Event-ID")
    return int(given[0])


def _block(line: LogLine) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (line.number, msgspec.json.encode(line_view(line)))
