"""A worker that plays its part: it takes an attempt from the store, and ends it with what a test says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sandbox.bodies import read_attempt, write_attempt
from sandbox.results import ResultStore, pieces
from sandbox.service import Task, TaskService
from sandbox.types import Ended, Phase, RunResult, Usage
from store.base import TaskStore
from store.task_records import AttemptRecord, AttemptState

DIFF = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n hello\n+world\n"


@dataclass
class PlayedWorker:
    """``taken`` are attempts that it has, the latest last."""

    records: TaskStore
    results: ResultStore
    service: TaskService
    taken: list[AttemptRecord] = field(default_factory=list)

    async def lease(self) -> None:
        """Takes the next attempt, and is in its agent phase."""
        leased = await self.records.lease_attempt("worker-1", 30.0, 99)
        assert leased is not None
        self.taken.append(leased)
        body = replace(read_attempt(leased.body), phase=Phase.AGENT)
        await self.records.put_attempt(replace(leased, body=write_attempt(body)))
        await self.service.settle(leased.task_id)

    async def end(self, ended: Ended = Ended.DONE, diff: str = DIFF, files: dict[str, bytes] | None = None) -> Task:
        """Ends the latest that it took."""
        leased = self.taken.pop()
        named = []
        for number, (name, data) in enumerate({"diff.patch": diff.encode(), **(files or {})}.items()):
            blob = f"{leased.tenant_id}/{leased.task_id}/{leased.number}/file{number}"
            await self.results.put(blob, pieces(data), 10**7)
            named.append((name, blob))
        added = sum(line.startswith("+") and not line.startswith("+++") for line in diff.splitlines())
        passed = True if ended is Ended.DONE else None
        result = RunResult(ended, "Done.", 0, "thread-1", Usage(100, 0, 10), tuple(named), 1, added, 0, passed)
        body = replace(read_attempt(leased.body), phase=Phase.AGENT, result=result)
        await self.records.put_attempt(replace(leased, state=AttemptState.ENDED, body=write_attempt(body)))
        return await self.service.settle(leased.task_id)
