"""Who is there, and who of them could take a request for this model from these pools right now?

Members are accounts with what changes about them. Views are the answer kept ready: the members that are well and
those on trial, per (model, pools). A view holds until something changes or until the first moment at which time
alone could change it, so that a lease on the healthy path looks at nothing but a ready list.

An account whose models are unknown is taken to have them all. Removing an account keeps its member alive for the
leases that are out. It does not choose, and it does not judge outcomes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from router.health import FOREVER_S, AccountHealth, Standing
from router.reserve import room_percent
from router.types import ACCOUNT_SCOPE, PoolRules, RouteQuery
from store.records import Account, AccountStatus, WindowRecord

VIEWS_MAX = 64
"""Model names come from clients: views of many names are rebuilt rather than kept."""


class Member:
    """One account in this worker's eyes."""

    __slots__ = ("account", "health", "id", "inflight", "models", "room", "standing", "weight", "windows")

    def __init__(self, account: Account, health: AccountHealth) -> None:
        self.id = account.id
        self.account = account
        self.health = health
        self.models: frozenset[str] | None = None
        self.inflight = 0
        self.weight = max(0, account.weight)
        self.standing = 0
        self.room = 100.0
        self.windows: dict[str, WindowRecord] = {}

    def see(self, record: WindowRecord, wall_s: float) -> None:
        """A window as it was just reported."""
        self.windows[record.name] = record
        self.room = room_percent(self.windows.values(), wall_s)

    @property
    def active(self) -> bool:
        """Neither disabled nor in need of a login."""
        return self.account.enabled and self.account.status is AccountStatus.ACTIVE

    def has(self, model: str) -> bool:
        return self.models is None or model in self.models

    def may_serve(self, query: RouteQuery) -> bool:
        """Health aside, the query is for this one: active, of its pools, with its model, not tried yet."""
        if query.pools and self.account.pool not in query.pools:
            return False
        return self.active and self.has(query.model) and self.id not in query.excluded

    def admits(self, model: str, now_s: float, most: int) -> bool:
        """A lease could go out now: health lets it, its trial slots are free, the limit ``most`` (0: none) holds."""
        if most and self.inflight >= most:
            return False
        gate = self.health.gate(model, now_s)
        if gate.standing is Standing.TRIAL:
            return self.health.probing.isdisjoint(gate.slots)
        return gate.standing is Standing.CLEAR


Tier = tuple[list[Member], list[Member]]
"""Those that are well and those on trial, of one pool."""


class View:
    """The members that could serve one (model, pools) until ``until_s``: a tier for each pool, in the tenant's order.

    ``clear`` and ``trials`` are those of the first tier that has any: later ones are for when it is full or tried.
    """

    __slots__ = ("clear", "tiers", "trials", "until_s")

    def __init__(self, tiers: list[Tier], until_s: float) -> None:
        self.tiers = tiers
        self.clear, self.trials = tiers[0] if tiers else ([], [])
        self.until_s = until_s

    def has(self, member: Member) -> bool:
        """It is well and of one of the tiers."""
        return any(member in clear for clear, _ in self.tiers)

    def candidates(self, query: RouteQuery, now_s: float, most: int, *, retrying: bool = False) -> Tier:
        """(well, on trial) among those that were not tried, have a free slot and are below the limit ``most``: of the
        first tier that has any. After a failure a well one of a later tier comes before one on trial."""
        excluded = query.excluded
        second: Tier = ([], [])
        for well, tried in self.tiers:
            clear = well
            if excluded or most:
                clear = [one for one in well if one.id not in excluded and (not most or one.inflight < most)]
            trials = [one for one in tried if one.id not in excluded and one.admits(query.model, now_s, most)]
            if clear or (trials and not retrying):
                return clear, trials
            second = second if second[1] else (clear, trials)
        return second


class Roster:
    """All members by id, and the views."""

    def __init__(self, rules: PoolRules, rng: random.Random, worker_id: str) -> None:
        self._rules = rules
        self._rng = rng
        self._worker_id = worker_id
        self.members: dict[str, Member] = {}
        self._views: dict[tuple[str, tuple[str, ...]], View] = {}

    def set_accounts(self, accounts: Sequence[Account]) -> tuple[list[Member], list[str]]:
        """Takes over the list: (members whose health is worth clearing, ids that are gone).

        Survivors keep their health. An account that was disabled or signed out and is active again has been acted
        upon by a person: its old faults say nothing any more.
        """
        before, revived = self.members, []
        members: dict[str, Member] = {}
        for account in accounts:
            member = before.get(account.id)
            if member is None:
                member = Member(account, AccountHealth(self._rules, self._rng, self._worker_id))
            elif member.account != account:
                was_active = member.active
                member.account = account
                member.weight = max(0, account.weight)
                if member.active and not was_active:
                    revived.append(member)
            members[account.id] = member
        self.members = members
        self.changed()
        return revived, [account_id for account_id in before if account_id not in members]

    def changed(self) -> None:
        """Something that views rest on has changed."""
        self._views.clear()

    def view(self, model: str, pools: tuple[str, ...], now_s: float) -> View:
        key = (model, pools)
        view = self._views.get(key)
        if view is None or now_s >= view.until_s:
            if len(self._views) >= VIEWS_MAX:
                self._views.clear()
            view = self._views[key] = self._build(model, pools, now_s)
        return view

    def in_pools(self, pools: tuple[str, ...]) -> Iterable[Member]:
        if not pools:
            return self.members.values()
        return [member for member in self.members.values() if member.account.pool in pools]

    def serving(self, now_s: float) -> list[Member]:
        """The members that would take requests if no breaker stood open."""
        found = []
        for member in self.members.values():
            cooldown = member.health.cooldowns.get(ACCOUNT_SCOPE)
            if member.active and (cooldown is None or not cooldown.in_force(now_s)):
                found.append(member)
        return found

    def _build(self, model: str, pools: tuple[str, ...], now_s: float) -> View:
        tiers: dict[str, Tier] = {pool: ([], []) for pool in pools or ("",)}
        until_s = FOREVER_S
        for member in self.in_pools(pools):
            if not member.active or not member.has(model):
                continue
            gate = member.health.gate(model, now_s)
            until_s = min(until_s, gate.changes_s)
            clear, trials = tiers[member.account.pool if pools else ""]
            if gate.standing is Standing.CLEAR:
                clear.append(member)
            elif gate.standing is Standing.TRIAL:
                trials.append(member)
        return View([tier for tier in tiers.values() if tier[0] or tier[1]], until_s)
