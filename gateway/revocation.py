"""A key that is revoked, expires or loses its tenant stops serving at once, and not only for new requests.

Requests in work are listed under the key they came with; ``look``, called every few seconds, cancels those whose
key is no longer live. Nothing is asked while a stream runs, so a block costs nothing, and a client that takes no
bytes cannot put the question off.
"""

from __future__ import annotations

import asyncio

from auth.keys import KeyDirectory
from ops.clock import Clock


class RunningRequests:
    """The requests in work of this process, by task."""

    def __init__(self, keys: KeyDirectory, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._running: dict[asyncio.Task[object], str] = {}
        self._revoked: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def enter(self, key_id: str) -> asyncio.Task[object]:
        """The current task works for ``key_id`` from now on; ``leave`` with what is returned must follow."""
        task = _current()
        self._running[task] = key_id
        return task

    def leave(self, task: asyncio.Task[object]) -> None:
        self._running.pop(task, None)
        self._revoked.discard(task)

    def look(self) -> int:
        """Cancels what runs under keys that are no longer live; how many that were."""
        now_s = self._clock.now_s()
        dead = {key_id for key_id in set(self._running.values()) if not self._keys.is_live(key_id, now_s)}
        if not dead:
            return 0
        ended = [task for task, key_id in self._running.items() if key_id in dead and task not in self._revoked]
        self._revoked.update(ended)
        for task in ended:
            task.cancel()
        return len(ended)

    def revoked(self) -> bool:
        """Whether the cancellation that the current task has met is ours; then it is taken back."""
        task = _current()
        if task not in self._revoked:
            return False
        self._revoked.discard(task)
        task.uncancel()
        return True


def _current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task
