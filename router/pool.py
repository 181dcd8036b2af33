"""Who takes this request: the accounts, their health, and the leases that are out.

AccountPool is the only mutable state of routing; all of it is named in ``__init__``. Rules that hold:

* everything is synchronous and does no I/O: what other workers should know is taken away with ``take_changes`` and
  its kin, what they know is handed in with ``apply`` and its kin;
* a lease is given by: the route's breaker, then the owner (a constraint), then the wish of affinity, then a trial,
  then smooth weighted round robin over those that are well (policy);
* faults are attributed before they cool anything: the route's breaker sees each outcome first;
* a percentage blocks nothing by itself: a full window only says until when, once the upstream has refused;
* judgement rests on monotonic time; Unix time appears in what is stored or shown.

Not safe for threads: one event loop, one pool. The choice is in policy, the machines in health, route, breaker and
cooldown, the words of a refusal in refusal.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from msgspec import structs

from ops.clock import Clock
from router.affinity import Placements
from router.breaker import BreakerState
from router.explain import AccountSnapshot, Explanation, PoolSnapshot, explain_records
from router.feed import Feed, RecordKey, apply_breaker, apply_cooldown, breaker_record, records_of, route_key
from router.fleet import FleetSide
from router.health import BREAKER, COOLDOWN, Key
from router.lease import Lease
from router.policy import fill_first, least_used, rank, take_turn
from router.refusal import refuse, refuse_owner
from router.reserve import reserved
from router.roster import Member, Roster, View
from router.route import WINDOW_S, Blame, RouteBreaker
from router.types import (
    ACCOUNT_SCOPE,
    OK,
    Cause,
    Moment,
    NoAccount,
    NoAccountReason,
    Outcome,
    OutcomeKind,
    PoolRules,
    RouteQuery,
    Window,
)
from store.records import ROUTE, Account, HealthRecord, WindowRecord

STRANGERS_MAX = 1000
"""Health records kept for accounts that are not in the directory yet."""
POLICIES: Final = {"round_robin": take_turn, "least_used": least_used, "fill_first": fill_first}
_FAULTS = frozenset({OutcomeKind.BROKEN, OutcomeKind.OVERLOADED})
_FAULT_CAUSES = frozenset({Cause.BROKEN, Cause.OVERLOADED})


class AccountPool:
    """See the module. ``rng`` gives jitter only; ``worker_id`` is unique in the fleet; ``most`` may be changed."""

    def __init__(self, rules: PoolRules, clock: Clock, rng: random.Random, worker_id: str) -> None:
        self._rules = rules
        self._clock = clock
        self._worker_id = worker_id
        self.most = rules.per_account_concurrency
        self._pick: Callable[[Sequence[Member]], Member] = POLICIES[rules.policy]
        self._roster = Roster(rules, rng, worker_id)
        self._route = RouteBreaker(rng)
        self._feed = Feed(worker_id)
        self._windows_changed: dict[tuple[str, str], WindowRecord] = {}
        self._strangers: dict[RecordKey, HealthRecord] = {}
        self.placements = Placements(
            affinity_ttl_s=rules.affinity_ttl_s, owner_ttl_s=rules.owner_ttl_s, most=rules.placements_max
        )
        self.fleet = FleetSide(self._roster, self._feed, self.placements, self._windows_changed)

    # -- the directory --------------------------------------------------------------------------------------------

    def set_accounts(self, accounts: Sequence[Account]) -> None:
        """The accounts as they are now: adds, updates and removes. Survivors keep health and leases.

        A removed account's leases may still be released. One that is active again after an administrator's act is
        as good as new.
        """
        revived, gone = self._roster.set_accounts(accounts)
        for account_id in gone:
            self._feed.forget(account_id)
        for member in revived:
            self._changed(member, member.health.clear())
        if self._strangers:
            known = [record for record in self._strangers.values() if record.account_id in self._roster.members]
            for record in known:
                del self._strangers[record.account_id, record.scope, record.kind]
            self.apply(known)

    def set_models(self, account_id: str, models: frozenset[str] | None) -> None:
        """The models that an account has; None: unknown, taken to be all. An unknown account is passed over."""
        member = self._roster.members.get(account_id)
        if member is not None and member.models != models:
            member.models = models
            self._roster.changed()

    def models_of(self, account_id: str) -> frozenset[str] | None:
        member = self._roster.members.get(account_id)
        return member.models if member is not None else None

    def accounts(self) -> tuple[Account, ...]:
        return tuple(member.account for member in self._roster.members.values())

    # -- leases ---------------------------------------------------------------------------------------------------

    def lease(self, query: RouteQuery) -> Lease:
        """The right to send one attempt.

        Raises NoAccount, with the reason and when to come back; nothing has changed then.
        """
        now_s = self._clock.monotonic_s()
        if not self._route.closed and not self._route.admits(now_s):
            raise NoAccount(NoAccountReason.ROUTE_DOWN, retry_after_s=self._route.retry_after_s(now_s))
        view = self._roster.view(query.model, query.pools, now_s)
        if query.owner is not None:
            member = self._owner(query, query.owner, now_s)
        elif view.trials or self.most or query.excluded or query.affinity is not None:
            member = self._select(query, view, now_s)
        else:
            member = self._pick(view.clear) if view.clear else None
        if member is None:
            raise refuse(query, self._roster.in_pools(query.pools), now_s)
        return self._lend(member, query.model, now_s)

    def _owner(self, query: RouteQuery, owner_id: str, now_s: float) -> Member | None:
        """The owner, if it can take the query; None if nobody can. Raises OWNER_OUT if only others can."""
        owner = self._roster.members.get(owner_id)
        if owner is not None and owner.may_serve(query) and owner.admits(query.model, now_s, self.most):
            return owner
        others = structs.replace(query, owner=None, affinity=None)
        if self._roster.view(query.model, query.pools, now_s).candidates(others, now_s, self.most) == ([], []):
            return None
        raise refuse_owner(query, owner, now_s)

    def _select(self, query: RouteQuery, view: View, now_s: float) -> Member | None:
        retrying = bool(query.excluded) or not self._route.closed
        clear, trials = view.candidates(query, now_s, self.most, retrying=retrying)
        if query.affinity is None:
            return rank(clear, None, trials, retrying=retrying, pick=self._pick)
        wish_id = self.placements.wish(query.affinity, now_s)
        wish = self._roster.members.get(wish_id) if wish_id is not None else None
        chosen = rank(clear, wish, trials, retrying=retrying, pick=self._pick)
        only_full = wish is not None and view.has(wish) and wish.id not in query.excluded
        if chosen is not None and chosen is not wish and not only_full:
            self.placements.place(query.affinity, chosen.id, now_s)
        return chosen

    def _lend(self, member: Member, model: str, now_s: float) -> Lease:
        slots = member.health.gate(model, now_s).slots
        if slots and member.health.begin_probe(slots, now_s):
            self._feed.mark((member.id, ACCOUNT_SCOPE, BREAKER), self._clock.now_s())
        route_probe = not self._route.closed and self._route.begin_probe(now_s)
        member.inflight += 1
        return Lease(member, model, now_s, slots, route_probe, self)

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        """For Lease.release alone."""
        member = lease.member
        member.inflight -= 1
        if outcome.kind is OutcomeKind.OK and member.health.quiet and self._route.quiet and not lease.probe:
            return
        self._judge(lease, outcome)

    def confirm(self, lease: Lease) -> None:
        """For Lease.confirm alone: trials get their verdict; strikes of a well account wait for the end."""
        if not lease.probe and self._route.quiet:
            return
        now = self.moment()
        self._to_route(lease, OK, now)
        if lease.slots:
            slots, lease.slots = lease.slots, ()
            self._changed(lease.member, lease.member.health.settle(OK, lease.model, lease.started_s, slots, now))
        lease.route_probe = False

    def _judge(self, lease: Lease, outcome: Outcome) -> None:
        now = self.moment()
        member = lease.member
        blame = self._to_route(lease, outcome, now)
        if outcome.kind is OutcomeKind.RATE_LIMITED:
            outcome = self._with_window(member, outcome, now)
        mine = blame is Blame.ACCOUNT
        self._changed(member, member.health.settle(outcome, lease.model, lease.started_s, lease.slots, now, blame=mine))
        if blame is Blame.STORM:
            self._forgive(now.mono_s - WINDOW_S, now.mono_s)
        elif mine and outcome.kind in _FAULTS and not member.health.breaker.closed:
            self._never_everybody(outcome, now)

    def _to_route(self, lease: Lease, outcome: Outcome, now: Moment) -> Blame:
        serving = len(self._roster.serving(now.mono_s)) if outcome.kind in _FAULTS else 0
        blame = self._route.settle(
            outcome,
            lease.member.id,
            started_s=lease.started_s,
            probe=lease.route_probe,
            now_s=now.mono_s,
            serving=serving,
        )
        self._route_changed(now)
        return blame

    def _never_everybody(self, outcome: Outcome, now: Moment) -> None:
        """When the last serving account's breaker has opened, the way is at fault: it is probed, nobody is benched."""
        serving = self._roster.serving(now.mono_s)
        if all(not one.health.breaker.closed and one.health.breaker.cause in _FAULT_CAUSES for one in serving):
            self._route.storm(now.mono_s, f"all {len(serving)} accounts failed, last: {outcome.evidence}")
            self._route_changed(now)
            self._forgive(float("-inf"), now.mono_s)

    def _forgive(self, since_s: float, now_s: float) -> None:
        for member in self._roster.members.values():
            self._changed(member, member.health.forgive(since_s, now_s))

    def _with_window(self, member: Member, outcome: Outcome, now: Moment) -> Outcome:
        """A refusal without a time, from an account whose window is full, is about that window."""
        if outcome.scope != ACCOUNT_SCOPE or outcome.retry_after_s is not None or outcome.resets_at_s is not None:
            return outcome
        full = [
            (window.resets_at_s, window.name)
            for window in member.windows.values()
            if window.used_percent >= 100 and window.resets_at_s is not None and window.resets_at_s > now.wall_s
        ]
        if not full:
            return outcome
        resets_at_s, name = max(full)
        evidence = f"{outcome.evidence} (window {name} is full)".strip()
        return replace(outcome, resets_at_s=resets_at_s, authoritative=True, evidence=evidence)

    # -- health, between workers ----------------------------------------------------------------------------------

    def take_changes(self) -> list[HealthRecord]:
        """What changed here since the last call, for the other workers."""
        pending = self._feed.pending()
        if not pending:
            return []
        now = self.moment()
        current: dict[RecordKey, HealthRecord] = {}
        for account_id in {key[0] for key in pending}:
            for record in self._records(account_id, now):
                current[record.account_id, record.scope, record.kind] = record
        return self._feed.take(current, now)

    def apply(self, records: Iterable[HealthRecord]) -> None:
        """What other workers (or an earlier run) found; the later word wins, own echoes change nothing."""
        now = self.moment()
        for record in records:
            member = self._roster.members.get(record.account_id)
            if member is None and record.account_id != ROUTE:
                if len(self._strangers) < STRANGERS_MAX:
                    self._strangers[record.account_id, record.scope, record.kind] = record
            elif self._feed.is_news(record):
                self._adopt(member, record, now)
        self._roster.changed()

    def _adopt(self, member: Member | None, record: HealthRecord, now: Moment) -> None:
        if member is None:
            self._route.adopt(
                is_open=record.state != BreakerState.CLOSED,
                since_s=now.to_mono(record.since_s),
                until_s=now.to_mono(record.until_s),
                level=record.level,
                evidence=record.evidence,
                now_s=now.mono_s,
            )
            self._route.take_changed()
        elif record.kind == BREAKER:
            apply_breaker(member.health, record, now, self._rules.breaker_open_max_s * 1.2)
        elif record.kind == COOLDOWN and not apply_cooldown(member.health, record, now, self._rules.cooldown_max_s):
            self._feed.mark((member.id, record.scope, COOLDOWN), now.wall_s)

    # -- windows --------------------------------------------------------------------------------------------------

    def note_windows(self, account_id: str, windows: Iterable[Window]) -> None:
        """The rate-limit windows as just reported for an account."""
        member = self._roster.members.get(account_id)
        if member is None:
            return
        seen_at_s = self._clock.now_s()
        for window in windows:
            record = WindowRecord(
                account_id, window.name, window.used_percent, window.window_minutes, window.resets_at_s, seen_at_s
            )
            member.see(record, seen_at_s)
            self._windows_changed[account_id, window.name] = record
        self._keep_reserve(member)

    def _keep_reserve(self, member: Member) -> None:
        reserve = self._rules.reserve_percent
        if reserve:
            now = self.moment()
            self._changed(member, member.health.keep_back(reserved(member.windows.values(), reserve, now.wall_s), now))

    def take_window_changes(self) -> list[WindowRecord]:
        changed = list(self._windows_changed.values())
        self._windows_changed.clear()
        return changed

    def apply_windows(self, records: Iterable[WindowRecord]) -> None:
        """What other workers saw; the later sight wins."""
        for record in records:
            member = self._roster.members.get(record.account_id)
            known = member.windows.get(record.name) if member is not None else None
            if member is not None and (known is None or known.seen_at_s < record.seen_at_s):
                member.see(record, self._clock.now_s())

    # -- probes and acts ------------------------------------------------------------------------------------------

    def due_probes(self) -> list[Account]:
        """Active accounts that rest until far off, are ours to look after, and are due for a look.

        Each is named once per interval: asking puts the next look off.
        """
        now = self.moment()
        due = []
        for member in self._roster.members.values():
            if member.active and member.health.take_due_probe(now):
                self._feed.mark((member.id, ACCOUNT_SCOPE, COOLDOWN), now.wall_s)
                due.append(member.account)
        return due

    def probe_result(self, account_id: str, outcome: Outcome) -> None:
        """The answer of a background probe: OK ends the rest, a refusal renews its evidence, the rest says nothing."""
        member = self._roster.members.get(account_id)
        if member is not None:
            now = self.moment()
            self._changed(member, member.health.probed(outcome, now))
            self._keep_reserve(member)

    def clear(self, account_id: str) -> bool:
        """An operator's act: the account (or ROUTE) counts as well from now on. False when it is unknown."""
        now = self.moment()
        if account_id == ROUTE:
            self._route.reset()
            self._route_changed(now)
            return True
        member = self._roster.members.get(account_id)
        if member is None:
            return False
        self._changed(member, member.health.clear())
        return True

    # -- reports --------------------------------------------------------------------------------------------------

    def explain(self, account_id: str) -> Explanation | None:
        """How the account stands and why; None when it is unknown."""
        member = self._roster.members.get(account_id)
        if member is None:
            return None
        now = self.moment()
        records = self._records(account_id, now) + self._records(ROUTE, now)
        found = explain_records(member.account, records, member.windows.values(), now.wall_s)
        return replace(found, failures=member.health.breaker.failures, inflight=member.inflight)

    def snapshot(self) -> PoolSnapshot:
        now = self.moment()
        accounts = []
        usable = 0
        for member in self._roster.members.values():
            found = explain_records(member.account, self._records(member.id, now), (), now.wall_s)
            usable += found.usable
            accounts.append(AccountSnapshot(member.account, found.state, member.inflight))
        return PoolSnapshot(
            accounts=tuple(accounts),
            counts=dict(Counter(one.state for one in accounts)),
            inflight=sum(one.inflight for one in accounts),
            usable=usable,
            route=self._route.state,
        )

    def moment(self) -> Moment:
        """Now, on both clocks."""
        return Moment(self._clock.monotonic_s(), self._clock.now_s())

    def _records(self, account_id: str, now: Moment) -> list[HealthRecord]:
        if account_id == ROUTE:
            return [] if self._route.closed else [breaker_record(ROUTE, self._route.breaker, self._worker_id, now)]
        member = self._roster.members.get(account_id)
        return records_of(account_id, member.health, now) if member is not None else []

    def _changed(self, member: Member, keys: list[Key]) -> None:
        if not keys:
            return
        self._roster.changed()
        if self._roster.members.get(member.id) is member:
            wall_s = self._clock.now_s()
            for kind, scope in keys:
                self._feed.mark((member.id, scope, kind), wall_s)

    def _route_changed(self, now: Moment) -> None:
        if self._route.take_changed():
            self._feed.mark(route_key(), now.wall_s)
