"""What do workers tell each other about health, and whose word counts?

Turns breakers and rests into HealthRecords and back. Rules that hold:

* one record per (account, scope, kind); the later ``updated_at_s`` wins; our stamps of one key only grow, whatever
  the wall clock does, so that a correction after a clock jump is not taken for old news;
* deadlines travel as Unix seconds and are turned into monotonic ones on arrival, cut to the longest rest allowed;
* ``state`` is closed/open/half_open for a breaker; clear, estimated or authoritative (the deadline is the plan's
  own) for a cooldown;
* what was never bad is not told.

It keeps stamps and last words only; health itself lives in AccountHealth.
"""

from __future__ import annotations

from dataclasses import replace

from router.breaker import Breaker, BreakerState
from router.cooldown import Cooldown
from router.health import BREAKER, COOLDOWN, AccountHealth
from router.types import ACCOUNT_SCOPE, Cause, Moment
from store.records import ROUTE, HealthRecord

RecordKey = tuple[str, str, str]
"""(account id, scope, kind)"""

CLEARED = "clear"
ESTIMATED = "estimated"
AUTHORITATIVE = "authoritative"
STAMP_STEP_S = 0.001
KEYS_MAX = 20_000


def cooldown_record(account_id: str, cooldown: Cooldown, now: Moment) -> HealthRecord:
    """A rest as a record; ``updated_at_s`` is for the feed to stamp."""
    over = cooldown.ended_s is not None
    state = CLEARED if over else AUTHORITATIVE if cooldown.authoritative else ESTIMATED
    return HealthRecord(
        account_id=account_id,
        scope=cooldown.scope,
        kind=COOLDOWN,
        cause=cooldown.cause.value,
        evidence=cooldown.evidence,
        since_s=now.to_wall(cooldown.since_s),
        until_s=now.to_wall(cooldown.until_s if cooldown.ended_s is None else cooldown.ended_s),
        next_probe_s=None if cooldown.next_probe_s is None else now.to_wall(cooldown.next_probe_s),
        level=cooldown.level,
        state=state,
        owner=cooldown.owner,
        updated_at_s=now.wall_s,
    )


def breaker_record(account_id: str, breaker: Breaker, owner: str, now: Moment) -> HealthRecord:
    """A breaker that is not closed as a record."""
    return HealthRecord(
        account_id=account_id,
        scope=ACCOUNT_SCOPE,
        kind=BREAKER,
        cause=breaker.cause.value,
        evidence=breaker.evidence,
        since_s=now.to_wall(breaker.since_s),
        until_s=now.to_wall(breaker.until_s),
        next_probe_s=now.to_wall(breaker.until_s),
        level=breaker.level,
        state=breaker.state.value,
        owner=owner,
        updated_at_s=now.wall_s,
    )


def records_of(account_id: str, health: AccountHealth, now: Moment) -> list[HealthRecord]:
    """All that is worth telling of one account."""
    records = [cooldown_record(account_id, cooldown, now) for cooldown in health.cooldowns.values()]
    if not health.breaker.closed:
        records.append(breaker_record(account_id, health.breaker, health.breaker_owner, now))
    return records


def cause_of(word: str) -> Cause:
    """The cause of a record; a word of a newer version counts as BROKEN."""
    try:
        return Cause(word)
    except ValueError:
        return Cause.BROKEN


def apply_cooldown(health: AccountHealth, record: HealthRecord, now: Moment, longest_s: float) -> bool:
    """Takes over another worker's word on a rest. False when ours outranks it and should be told again."""
    local = health.cooldowns.get(record.scope)
    if record.state == CLEARED:
        if local is not None:
            ended = replace(local, level=record.level, ended_s=now.mono_s, next_probe_s=None)
            if record.level > 0:
                health.cooldowns[record.scope] = ended
            else:
                del health.cooldowns[record.scope]
        return True
    until_s = min(now.to_mono(record.until_s), now.mono_s + longest_s)
    authoritative = record.state == AUTHORITATIVE
    if (
        local is not None
        and local.in_force(now.mono_s)
        and local.authoritative
        and not authoritative
        and until_s < local.until_s
    ):
        return False
    probe_s = None if record.next_probe_s is None else now.to_mono(record.next_probe_s)
    rest = Cooldown(
        scope=record.scope,
        cause=cause_of(record.cause),
        evidence=record.evidence,
        since_s=now.to_mono(record.since_s),
        until_s=until_s,
        next_probe_s=probe_s if probe_s is not None and probe_s < until_s else None,
        level=max(0, record.level),
        authoritative=authoritative,
        owner=record.owner,
        resets_at_s=record.until_s if authoritative else None,
    )
    health.put_cooldown(rest, now.mono_s)
    return True


def apply_breaker(health: AccountHealth, record: HealthRecord, now: Moment, longest_s: float) -> None:
    """Takes over another worker's word on the breaker."""
    if record.state == BreakerState.CLOSED:
        if not health.breaker.closed:
            health.breaker.reset()
        return
    until_s = min(now.to_mono(record.until_s), now.mono_s + longest_s)
    health.breaker.adopt_open(
        now.to_mono(record.since_s), until_s, record.level, cause_of(record.cause), record.evidence
    )
    health.breaker_owner = record.owner


class Feed:
    """Stamps, and which records are yet to be told."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._stamps: dict[RecordKey, float] = {}
        self._pending: dict[RecordKey, None] = {}
        self._told: dict[RecordKey, HealthRecord] = {}

    def mark(self, key: RecordKey, wall_s: float) -> None:
        """This part has changed here and now."""
        last = self._stamps.get(key)
        self._stamps[key] = wall_s if last is None else max(wall_s, last + STAMP_STEP_S)
        self._pending[key] = None
        self._bound()

    def is_news(self, record: HealthRecord) -> bool:
        """Another worker's record is later than what we know; from now on it is what we know."""
        key = (record.account_id, record.scope, record.kind)
        last = self._stamps.get(key)
        if last is not None and record.updated_at_s <= last:
            return False
        self._stamps[key] = record.updated_at_s
        self._pending.pop(key, None)
        self._told[key] = record
        self._bound()
        return True

    def forget(self, account_id: str) -> None:
        for key in [key for key in self._stamps if key[0] == account_id]:
            del self._stamps[key]
            self._pending.pop(key, None)
            self._told.pop(key, None)

    def take(self, current: dict[RecordKey, HealthRecord], now: Moment) -> list[HealthRecord]:
        """The records to tell now; ``current`` is all that is bad, and what is missing there is well again."""
        pending, self._pending = self._pending, {}
        records = []
        for key in pending:
            record = current.get(key)
            if record is None:
                told = self._told.get(key)
                if told is None:
                    continue
                state = BreakerState.CLOSED.value if key[2] == BREAKER else CLEARED
                record = replace(told, until_s=now.wall_s, next_probe_s=None, level=0, state=state)
                record = replace(record, owner=self._worker_id)
            record = replace(record, updated_at_s=self._stamps[key])
            self._told[key] = record
            records.append(record)
        return records

    def retell(self) -> None:
        """Everything that was ever stamped here is to be told again, as it stands now."""
        self._pending |= dict.fromkeys(self._stamps)

    def _bound(self) -> None:
        """Scopes carry model names that clients chose: the oldest memory goes when there are too many."""
        if len(self._stamps) > KEYS_MAX:
            for key in [key for key in self._stamps if key not in self._pending][: KEYS_MAX // 2]:
                del self._stamps[key]
                self._told.pop(key, None)

    def pending(self) -> tuple[RecordKey, ...]:
        return tuple(self._pending)


def route_key() -> RecordKey:
    return (ROUTE, ACCOUNT_SCOPE, BREAKER)
