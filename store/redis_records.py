"""How is something changed in Redis as one atomic and durable step, and how do we know that it is still our Redis?

Records rest in a fixed set of hashes, one per table, all under ``{PREFIX}:d:``; the braces keep them in one slot of a
cluster. A change is made in two steps: ``look`` reads what the decision needs as of one moment, Python decides by the
same rules as every store, and ``commit`` writes it by one Lua script, only if every field that was looked at still has
the value it had. Otherwise it is decided anew.

Rules that hold:

* every script first compares the store's epoch, a random name that was sealed when the store began. A server that was
  flushed, or came up empty, has another one or none: StoreUnavailable, never an empty answer;
* the count of commits only rises. When the server shows a lower one than this process has seen, it has lost its last
  writes (a crash under ``appendfsync everysec``, a failover): that is told once, by StoreUnavailable and in the log,
  before anything is decided upon the older records;
* time is the server's own, read inside the scripts; a clock that is given instead is for tests;
* where the server can say so (WAITAOF, from Redis 7.2 on) a durable write returns after its disk has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Generic, TypeAlias, TypeVar

from ops.clock import Clock
from ops.log import get_logger
from store.errors import StoreUnavailable
from store.redis_link import LuaScript, RedisLink, Word, lua_script

T = TypeVar("T")
Query: TypeAlias = tuple[Word, ...]
Op: TypeAlias = tuple[Word, ...]
"""Command, table, words."""

_TRIES: Final = 200  # somebody else succeeds each time: this many writers at once are too many
_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.02
_MOST_WORDS: Final = 1000  # arguments of one operation inside a script


class Table(IntEnum):
    """Where each table stands among the keys of a script. Add at the end only."""

    META = 1
    COUNTERS = 2
    ACCOUNTS = 3
    CHATGPT = 4  # ChatGPT account id -> account id
    CREDENTIALS = 5
    INTENTS = 6
    CLAIMS = 7
    TENANTS = 8
    TENANT_NAMES = 9  # name -> tenant id
    KEYS = 10
    VALUES = 11
    DOCUMENTS = 12
    DOCUMENT_NAMES = 13  # sorted by name
    DOCUMENT_ENDS = 14  # sorted by expiry
    HEALTH = 15
    WINDOWS = 16
    CHANGES = 17  # sorted by number
    PLACEMENTS = 18
    PLACEMENT_ENDS = 19  # sorted by expiry
    AUDIT = 20  # a stream
    AUDIT_HEAD = 21
    AUDIT_TIMES = 22  # sorted by time
    TASKS = 23
    TASK_NAMES = 24  # sorted by name
    TASK_BRIEFS = 25  # tenant and state
    TASK_REPEATS = 26  # tenant and idempotency -> task id
    ATTEMPTS = 27
    ATTEMPT_NAMES = 28  # sorted by name
    ATTEMPTS_OPEN = 29  # those that have not ended
    TASK_LINES = 30  # how many lines a log has
    TASK_LOG = 31


_SORTED: Final = frozenset(
    {
        Table.DOCUMENT_NAMES, Table.DOCUMENT_ENDS, Table.CHANGES, Table.PLACEMENT_ENDS, Table.AUDIT_TIMES,
        Table.TASK_NAMES, Table.ATTEMPT_NAMES,
    }
)  # fmt: skip


def redis_type(table: Table) -> bytes:
    """What the TYPE command says of the table's key."""
    return b"stream" if table is Table.AUDIT else b"zset" if table in _SORTED else b"hash"


def keys_under(prefix: str) -> tuple[str, ...]:
    """The names of all tables, in the order that the scripts know."""
    return tuple(f"{{{prefix}}}:d:{table.name.lower()}" for table in Table)


@dataclass(frozen=True, slots=True)
class Seen:
    """The answers to the queries of a look, in their order, and the server's time."""

    now_s: float
    found: list[Any]


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What to write, and what the call returns once it is written. Without ``ops`` nothing is written.

    The write is refused from ``before_s`` on by the server's clock.
    """

    result: T
    ops: Sequence[Op] = ()
    before_s: float | None = None


def get(table: Table, field: bytes | str) -> Query:
    """One field of a table: its bytes, or None. A commit expects it unchanged."""
    return ("get", table.value, field)


def whole(table: Table) -> Query:
    """A whole table: field, value, field, value. A commit does not look at it again."""
    return ("all", table.value)


def page(index: Table, rows: Table, low: bytes, high: bytes, limit: int, *, down: bool = False) -> Query:
    """Rows of a sorted index between two names (as ZRANGEBYLEX writes them): name, row, name, row."""
    return ("page", index.value, rows.value, low, high, limit, "down" if down else "up")


def touch() -> Op:
    """Raises the directory revision."""
    return ("TOUCH", Table.COUNTERS.value)


def drop(table: Table, command: str, fields: Sequence[bytes]) -> list[Op]:
    """HDEL or ZREM of many, in operations that a script can take."""
    return [(command, table.value, *fields[at : at + _MOST_WORDS]) for at in range(0, len(fields), _MOST_WORDS)]


def pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """What HGETALL or a page gave, by twos."""
    return list(zip(flat[::2], flat[1::2], strict=True))


class RedisRecords:
    """The tables of one store on one server, once it has been opened (store.redis_open)."""

    def __init__(
        self, link: RedisLink, prefix: str, epoch: str, clock: Clock | None, *, wait_for_disk: bool = False,
        replicas: int = 0,
    ) -> None:  # fmt: skip
        """``wait_for_disk`` asks for WAITAOF after durable writes; ``replicas`` is how many must have them as well."""
        self._link = link
        self._keys = keys_under(prefix)
        self._epoch = epoch
        self._clock = clock
        self._commits = 0
        self._wait: tuple[Word, ...] | None = None
        patience_ms = max(1, int(link.timeout_s * 900))
        if wait_for_disk:
            self._wait = ("WAITAOF", 1, replicas, patience_ms)
        elif replicas:
            self._wait = ("WAIT", replicas, patience_ms)
        self._wanted = [1, replicas] if wait_for_disk else [replicas]
        self._scripts = {name: lua_script("prelude", name) for name in ("look", "commit", "publish", "changes", "purge",
                                                                        "append")}  # fmt: skip

    @property
    def link(self) -> RedisLink:
        return self._link

    def key(self, table: Table) -> str:
        """The name of the table's key."""
        return self._keys[table - 1]

    async def look(self, *queries: Query) -> Seen:
        """Answers as of one moment. Raises StoreUnavailable."""
        answer = await self.run("look", *(word for query in queries for word in query), again=True)
        assert answer is not None  # it expects nothing
        return Seen(float(answer[1]), answer[2])

    async def transact(
        self, queries: Sequence[Query], decide: Callable[[Seen], Decision[T]], *, durable: bool = True
    ) -> T:
        """Looks, decides and writes until nobody wrote in between.

        What ``decide`` raises goes to the caller with nothing written. Raises StoreUnavailable; then the write has
        happened whole or not at all.
        """
        for turn in range(_TRIES):
            seen = await self.look(*queries)
            decision = decide(seen)
            if not decision.ops or await self._commit(queries, seen, decision, durable):
                return decision.result
            await self.pause(turn)
        raise StoreUnavailable(f"{self._link.where} has too many writers at once; try again")

    async def pause(self, turn: int) -> None:
        """Lets another writer finish, longer each time."""
        await asyncio.sleep(min(_LONGEST_PAUSE_S, _PAUSE_S * turn))

    async def write(self, ops: Sequence[Op], *, durable: bool = True) -> None:
        """Writes whatever is there."""
        await self._commit((), Seen(0.0, []), Decision(None, ops), durable)

    async def _commit(self, queries: Sequence[Query], seen: Seen, decision: Decision[Any], durable: bool) -> bool:
        expected: list[Word] = []
        for query, found in zip(queries, seen.found, strict=True):
            if query[0] == "get":
                expected += [query[1], query[2], b"" if found is None else b"v" + found]
        words: list[Word] = ["" if decision.before_s is None else repr(decision.before_s), len(expected) // 3]
        words += expected
        for op in decision.ops:
            words += [len(op), *(word.value if isinstance(word, Table) else word for word in op)]
        answer = await self.run("commit", *words, durable=durable)
        return answer is not None

    async def run(self, name: str, *words: Word, durable: bool = False, again: bool = False) -> list[Any] | None:
        """One script of ours: its answer from the count of commits on; None when others wrote in between.

        Raises StoreUnavailable, also when the records are gone or older than they were.
        """
        now = "" if self._clock is None else repr(self._clock.now_s())
        args = (self._epoch, self._commits, now, *words)
        answer = await self._send(self._scripts[name], args, durable, again)
        if answer[0] == b"ok":
            self._commits = max(self._commits, int(answer[1]))
            return list(answer[1:])
        if answer[0] in (b"moved", b"late"):
            return None
        if answer[0] == b"lost":
            raise StoreUnavailable(
                f"{self._link.where} has lost this store's records (flushed or restarted empty); restore its data"
            )
        raise self._went_back(int(answer[1]))

    async def _send(self, script: LuaScript, args: Sequence[Word], durable: bool, again: bool) -> Any:
        if not durable or self._wait is None:
            return await self._link.run(script, self._keys, args, again=again)
        answer, confirmed = await self._link.run_then(script, self._keys, args, self._wait)
        confirmed = confirmed if isinstance(confirmed, list) else [confirmed]
        if any(got < wanted for got, wanted in zip(confirmed, self._wanted, strict=True)):
            raise StoreUnavailable(f"{self._link.where} did not confirm in time that its disk or its replicas have it")
        return answer

    def _went_back(self, commits: int) -> StoreUnavailable:
        lost, self._commits = self._commits - commits, commits
        get_logger().error(
            "store_lost_writes", server=self._link.where, commits=lost,
            next="set appendfsync always, or WAITAOF and replicas; see docs/redis.md",
        )  # fmt: skip
        return StoreUnavailable(
            f"{self._link.where} has lost its last {lost} or more writes (crash or failover); try again to go on with "
            "what it has"
        )
