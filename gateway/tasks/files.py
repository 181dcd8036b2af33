"""Files of a task: diffs, logs, artifacts. What a container left behind, handed out so that no browser runs it.

Rules that hold:

* a file is found by its name in the attempt's own list, and by nothing else: a name is never made into a path;
* it comes as an attachment of a type that is not shown, with ``nosniff`` and a policy that allows nothing
  (``sandbox``); the name in Content-Disposition is stripped of everything that could end it early;
* it is streamed, never held whole.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

import msgspec

from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.tasks.answers import FileView
from gateway.tasks.bodies import DiffQuery
from gateway.tasks.routes import BYTES, DIFF
from gateway.tasks.types import Workshop, actor_of
from gateway.tasks.views import file_views
from sandbox.results import ResultStore, TooLarge, whole
from sandbox.service import Attempt, Task

DIFF_NAME: Final = "diff.patch"
SHOWN_DIFF_BYTES: Final = 32 * 1024 * 1024
_TEXTS: Final = ("diff.patch", "last_message.txt", "prompt.txt", "setup.log", "events.jsonl")
_POLICY: Final = b"default-src 'none'; sandbox; frame-ancestors 'none'"
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,3}")


class FileDesk:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        return {"tasks.diff": self.diff, "tasks.file": self.file}

    async def diff(self, call: Call) -> Reply:
        query: DiffQuery = call.query
        task = await self._shop.service.get(actor_of(call), call.target)
        return await diff_reply(self._shop.results, task, query.attempt)

    async def file(self, call: Call) -> Reply:
        task = await self._shop.service.get(actor_of(call), call.target)
        return await file_reply(self._shop.results, task, call.parts["number"], call.parts["name"])


async def file_reply(results: ResultStore, task: Task, number: str, name: str) -> Reply:
    """The file as a download. Raises GatewayError ``not_found``."""
    attempt = next((one for one in task.attempts if str(one.record.number) == number), None)
    if attempt is None or _NUMBER.fullmatch(number) is None:
        raise absent("file")
    kind = "text/plain; charset=utf-8" if name in _TEXTS else BYTES
    return await _reply(results, attempt, name, name.rpartition("/")[2], kind)


async def diff_reply(results: ResultStore, task: Task, number: int | None) -> Reply:
    """The diff of the attempt, or of the best one. Raises GatewayError ``not_found``."""
    attempt = attempt_of(task, number)
    if attempt is None:
        raise absent("diff")
    name = f"{task.record.id}-{attempt.record.number}.patch"
    return await _reply(results, attempt, DIFF_NAME, name, f"{DIFF}; charset=utf-8")


def attempt_of(task: Task, number: int | None) -> Attempt | None:
    """The one named; else the best; else the first that left a diff (cancelled, timed out)."""
    if number is not None:
        return next((one for one in task.attempts if one.record.number == number), None)
    if task.best is not None:
        return task.best
    return next((one for one in task.attempts if blob_of(one, DIFF_NAME) is not None), None)


def blob_of(attempt: Attempt, name: str) -> str | None:
    """Where a file of this name rests."""
    result = attempt.body.result
    return None if result is None else dict(result.files).get(name)


async def diff_text(results: ResultStore, attempt: Attempt) -> str:
    """The diff as text; empty when there is none, or none that can be put into an answer."""
    blob = blob_of(attempt, DIFF_NAME)
    if blob is None:
        return ""
    try:
        found = await whole(results, blob, SHOWN_DIFF_BYTES)
    except TooLarge:
        return ""
    return "" if found is None else found.decode("utf-8", "replace")


async def sized(results: ResultStore, task: Task) -> list[FileView]:
    """The files with their sizes; one that is gone has none."""
    blobs = {(one.record.number, name): blob for one in task.attempts if one.body.result is not None
             for name, blob in one.body.result.files}  # fmt: skip
    return [
        msgspec.structs.replace(one, size_bytes=await results.size(blobs[one.attempt, one.name]))
        for one in file_views(task)
    ]


async def _reply(results: ResultStore, attempt: Attempt, name: str, shown: str, kind: str) -> Reply:
    blob = blob_of(attempt, name)
    pieces = None if blob is None else await results.get(blob)
    if pieces is None:
        raise absent("file")
    headers = (
        (b"content-type", kind.encode()),
        (b"content-disposition", disposition(shown)),
        (b"content-security-policy", _POLICY),
    )
    return Reply(None, 200, headers, pieces=pieces)


def disposition(name: str) -> bytes:
    """As an attachment, under a name of plain letters, and the real one as RFC 8187 has it."""
    plain = _ODD.sub("_", name).lstrip(".")[:100] or "file"
    exact = quote(name.encode("utf-8", "replace"), safe="")[:300]
    exact = re.sub(r"%.?$", "", exact)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}".encode()
