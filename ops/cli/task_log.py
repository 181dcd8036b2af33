"""Following a task from a terminal: its log as it happens, and its end.

The log comes as server-sent events, numbered. When the connection breaks, it is taken up again behind the last number
that was seen, so that no line is lost and none is shown twice. A gateway that stays away for good ends the command.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from ops.cli.output import fail, say
from ops.cli.remote import Remote, refuse, unreachable

OPEN: Final = frozenset({"created", "queued", "setting_up", "running"})
"""States of a task that goes on by itself."""
GOOD: Final = frozenset({"ready", "approved", "applied"})
_PAGE: Final = 500
_AGAIN_S: Final = 1.0
_LONGEST_S: Final = 15.0
_TRIES: Final = 8
_LOOK_S: Final = 1.0
_EVENT_BYTES: Final = 4 * 1024 * 1024

Show = Callable[[dict[str, Any]], None]


async def task_of(remote: Remote, task_id: str) -> dict[str, Any]:
    """The task as the gateway has it."""
    task: dict[str, Any] = await remote.json("GET", f"/v1/tasks/{task_id}")
    return task


async def read_log(remote: Remote, task_id: str, after: int, show: Show) -> int:
    """Shows what there is behind number ``after``; the number to go on from."""
    while True:
        page = await remote.json("GET", f"/v1/tasks/{task_id}/log", params={"after": after, "limit": _PAGE})
        for item in page["items"]:
            show(item)
        if not page["items"] or page["next_after"] <= after:
            return after
        after = page["next_after"]


async def follow_log(remote: Remote, task_id: str, after: int, show: Show) -> dict[str, Any]:
    """Shows the log as it happens until the task goes on by itself no more; the task as it is then."""
    failures = 0
    while True:
        before = after
        trouble = None
        try:
            async for item in _events(remote, task_id, after):
                if item["number"] > after:
                    after = item["number"]
                    show(item)
        except _Broken as broken:
            trouble = broken
        failures = 0 if after > before or trouble is None else failures + 1
        if trouble is not None and failures >= _TRIES:
            fail(str(trouble))
        if trouble is None:
            task = await task_of(remote, task_id)
            if task["state"] not in OPEN:
                await read_log(remote, task_id, after, show)
                return task
        else:
            say("the connection broke; taking the log up again")
        await remote.clock.sleep(min(_LONGEST_S, _AGAIN_S * 2 ** max(0, failures - 1)))


async def wait_for(remote: Remote, task_id: str) -> dict[str, Any]:
    """The task when it goes on by itself no more."""
    while True:
        task = await task_of(remote, task_id)
        if task["state"] not in OPEN:
            return task
        await remote.clock.sleep(_LOOK_S)


class _Broken(Exception):
    """The stream could not be had or broke off; str() is one line."""


async def _events(remote: Remote, task_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
    import httpx

    url = f"{remote.target.url}/v1/tasks/{task_id}/log"
    headers = remote.headers({"accept": "text/event-stream", "last-event-id": str(after)})
    try:
        async with remote.http.stream("GET", url, params={"after": after}, headers=headers) as answer:
            if answer.status_code >= 500:
                raise _Broken(f"the gateway answers {answer.status_code}; try again later")
            if not answer.is_success:
                refuse(answer.status_code, await answer.aread())
            async for text in _data(answer.aiter_bytes()):
                yield text
    except httpx.HTTPError as error:
        raise _Broken(unreachable(remote.target, error)) from error


async def _data(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The items of the events of a stream. Heartbeats and events of other kinds are passed over."""
    rest = b""
    async for chunk in chunks:
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for one in lines:
            if one.startswith(b"data:") and (item := _item(one[5:])) is not None:
                yield item
        if len(rest) > _EVENT_BYTES:
            fail("a line of the log has no end; is this a codex-relay gateway?")


def _item(text: bytes) -> dict[str, Any] | None:
    try:
        item = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return item if isinstance(item, dict) and isinstance(item.get("number"), int) else None
