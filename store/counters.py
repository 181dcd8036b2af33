"""How do the workers of one machine count together: requests per window, and streams that run now?

Through one small SQLite file of its own, or, for a single process, in its memory. The file holds counters only and
may be lost at any moment (``synchronous = OFF``): then counting starts again from nothing.

Rules that hold:

* calls are synchronous and cost tens of microseconds; one that meets another worker's write waits for it, at most
  ``busy_timeout_s``, then raises StoreUnavailable with nothing counted. What to do then is the caller's policy;
* windows are fixed and begin with their first hit (that is what ``limits`` FixedWindowRateLimiter asks for);
* a stream is counted under its owner, one worker, so that what a dead worker held can be cleared;
* several names are taken together or not at all.

The storages implement ``limits.storage.Storage``; the moving and sliding strategies are not supported.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

from limits.storage import Storage

from ops.clock import Clock
from store.errors import StoreUnavailable, StoreUnusable
from store.private_file import make_private_folders
from store.sqlite_file import translated

T = TypeVar("T")
_SWEEP_EVERY: Final = 1000
_LEAST_SQLITE: Final = (3, 35, 0)  # RETURNING

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS windows (
        key TEXT NOT NULL PRIMARY KEY, hits INTEGER NOT NULL, ends_at_s REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS streams (
        name TEXT NOT NULL, owner TEXT NOT NULL, running INTEGER NOT NULL, PRIMARY KEY (name, owner)
    ) WITHOUT ROWID""",
)


class Streams(Protocol):
    """Counts of streams that run now, by name. A name is a key or a tenant."""

    def acquire(self, limits: Sequence[tuple[str, int]]) -> str | None:
        """Takes one stream of every (name, most at once); None when all were had.

        Otherwise nothing was taken, and the first name that is full is returned. Raises StoreUnavailable, with
        nothing taken.
        """

    def release(self, names: Sequence[str]) -> None:
        """Gives one stream of each name back; a name that this owner does not hold is left alone."""

    def running(self, name: str) -> int:
        """How many streams run under ``name``, over all owners."""

    def clear_owner(self, owner: str) -> None:
        """Forgets what ``owner`` held: it is dead."""


class CounterFile:
    """The connection of one process to the shared file. Not for use over a fork, nor by several threads."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 0.05) -> None:
        """Opens the file, or makes it with mode 0600. Raises StoreUnusable or StoreUnavailable."""
        if sqlite3.sqlite_version_info < _LEAST_SQLITE:
            raise StoreUnusable(f"SQLite {sqlite3.sqlite_version} is too old for shared counters; 3.35 is needed")
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        make_private_folders(path.parent)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=max(busy_timeout_s, 2.0))
        except OSError as error:
            raise StoreUnusable(f"counter file {path} cannot be opened ({error.strerror})") from None
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")
            for table in _TABLES:
                self._db.execute(table)
            self._db.execute("PRAGMA busy_timeout = " + str(round(busy_timeout_s * 1000)))
        except sqlite3.Error as error:
            self._db.close()
            raise translated(error, path, busy_timeout_s) from error

    def query(self, statement: str, values: Sequence[object] = ()) -> int | float | None:
        """The first value of the first row, if there is one. One statement is one transaction."""
        try:
            row = self._db.execute(statement, values).fetchone()
        except sqlite3.Error as error:  # damage, too, is only a lost counter
            raise StoreUnavailable(str(translated(error, self._path, self._busy_timeout_s))) from error
        return None if row is None else row[0]

    def begin(self) -> None:
        self.query("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.query("COMMIT")

    def undo(self) -> None:
        """Ends the transaction without a trace, if one is open."""
        if self._db.in_transaction:
            self._db.rollback()

    def close(self) -> None:
        self._db.close()


def fresh_counters(path: Path) -> None:
    """Removes what a former run left, so that counting starts from nothing. Call it while no worker runs."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        try:
            name.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnusable(f"counter file {name} cannot be replaced ({error.strerror})") from None
    CounterFile(path).close()


class SharedCounters(Storage):
    """Fixed windows that all processes of one machine count into."""

    STORAGE_SCHEME: list[str] | None = None

    def __init__(self, file: CounterFile, clock: Clock) -> None:
        super().__init__()
        self._file = file
        self._clock = clock
        self._until_sweep = _SWEEP_EVERY

    @property
    def base_exceptions(self) -> type[Exception]:
        return StoreUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Hits in the window, these included. A window that has ended begins anew. Raises StoreUnavailable."""
        now_s = self._clock.now_s()
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._until_sweep = _SWEEP_EVERY
            self._file.query("DELETE FROM windows WHERE ends_at_s <= ?", (now_s,))
        hits = self._file.query(
            """INSERT INTO windows (key, hits, ends_at_s) VALUES (?, ?, ?)
            ON CONFLICT (key) DO UPDATE SET
                hits = CASE WHEN ends_at_s <= ? THEN excluded.hits ELSE hits + excluded.hits END,
                ends_at_s = CASE WHEN ends_at_s <= ? THEN excluded.ends_at_s ELSE ends_at_s END
            RETURNING hits""",
            (key, amount, now_s + expiry, now_s, now_s),
        )
        return int(hits or 0)

    def get(self, key: str) -> int:
        statement = "SELECT hits FROM windows WHERE key = ? AND ends_at_s > ?"
        return int(self._file.query(statement, (key, self._clock.now_s())) or 0)

    def stand(self, key: str) -> tuple[int, float]:
        """(:meth:`get`, :meth:`get_expiry`) in one go."""
        return self.get(key), self.get_expiry(key)

    def get_expiry(self, key: str) -> float:
        """Unix seconds at which the window ends; now when none is open."""
        now_s = self._clock.now_s()
        ends_at_s = self._file.query("SELECT ends_at_s FROM windows WHERE key = ?", (key,))
        return max(now_s, ends_at_s or 0.0)

    def check(self) -> bool:
        try:
            self._file.query("SELECT count(*) FROM windows")
        except StoreUnavailable:
            return False
        return True

    def reset(self) -> int | None:
        counted = self._file.query("SELECT count(*) FROM windows")
        self._file.query("DELETE FROM windows")
        return int(counted or 0)

    def clear(self, key: str) -> None:
        self._file.query("DELETE FROM windows WHERE key = ?", (key,))


class LocalCounters(Storage):
    """Fixed windows of one process, by a clock that is given."""

    STORAGE_SCHEME: list[str] | None = None

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[str, tuple[int, float]] = {}
        self._until_sweep = _SWEEP_EVERY

    @property
    def base_exceptions(self) -> type[Exception]:
        return StoreUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now_s = self._clock.now_s()
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._until_sweep = _SWEEP_EVERY
            self._windows = {name: window for name, window in self._windows.items() if window[1] > now_s}
        hits, ends_at_s = self._windows.get(key, (0, 0.0))
        if ends_at_s <= now_s:
            hits, ends_at_s = 0, now_s + expiry
        self._windows[key] = (hits + amount, ends_at_s)
        return hits + amount

    def get(self, key: str) -> int:
        hits, ends_at_s = self._windows.get(key, (0, 0.0))
        return hits if ends_at_s > self._clock.now_s() else 0

    def stand(self, key: str) -> tuple[int, float]:
        """(:meth:`get`, :meth:`get_expiry`) in one go."""
        now_s = self._clock.now_s()
        window = self._windows.get(key)
        return window if window is not None and window[1] > now_s else (0, now_s)

    def get_expiry(self, key: str) -> float:
        return max(self._clock.now_s(), self._windows.get(key, (0, 0.0))[1])

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        counted = len(self._windows)
        self._windows.clear()
        return counted

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


class SharedStreams:
    """Streams over all processes of one machine; ``owner`` names this one, and no other ever."""

    def __init__(self, file: CounterFile, owner: str) -> None:
        self._file = file
        self._owner = owner

    def acquire(self, limits: Sequence[tuple[str, int]]) -> str | None:
        if not limits:
            return None
        self._file.begin()
        try:
            for name, limit in limits:
                if self.running(name) >= limit:
                    return name
                self._file.query(
                    """INSERT INTO streams (name, owner, running) VALUES (?, ?, 1)
                    ON CONFLICT (name, owner) DO UPDATE SET running = running + 1""",
                    (name, self._owner),
                )
            self._file.commit()
        finally:
            self._file.undo()
        return None

    def release(self, names: Sequence[str]) -> None:
        if not names:
            return
        self._file.begin()
        try:
            for name in names:
                self._file.query(
                    "UPDATE streams SET running = running - 1 WHERE name = ? AND owner = ? AND running > 0",
                    (name, self._owner),
                )
            self._file.commit()
        finally:
            self._file.undo()

    def running(self, name: str) -> int:
        return int(self._file.query("SELECT sum(running) FROM streams WHERE name = ?", (name,)) or 0)

    def clear_owner(self, owner: str) -> None:
        self._file.query("DELETE FROM streams WHERE owner = ?", (owner,))


class LocalStreams:
    """Streams of one process."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: dict[str, int] = {}

    def acquire(self, limits: Sequence[tuple[str, int]]) -> str | None:
        taken: list[str] = []
        for name, limit in limits:
            if self.running(name) >= limit:
                self.release(taken)
                return name
            self._running[name] = self.running(name) + 1
            taken.append(name)
        return None

    def release(self, names: Sequence[str]) -> None:
        for name in names:
            left = self.running(name) - 1
            if left > 0:
                self._running[name] = left
            else:
                self._running.pop(name, None)

    def running(self, name: str) -> int:
        return self._running.get(name, 0)

    def clear_owner(self, owner: str) -> None:
        if owner == self._owner:
            self._running.clear()
