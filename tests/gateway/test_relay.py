"""THE loop: what each verdict leads to, and that a cancellation anywhere leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from auth.errors import CredentialError, NeedsReauth, RefreshUnavailable
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.handshake import Handshake
from gateway.ownership import Ownership
from gateway.parse import owner_digest
from gateway.relay import OpenedStream, Relay, RelayPolicy
from router.pool import AccountPool
from router.retry import RetryBudget
from router.types import Outcome, RouteQuery
from store.memory import MemoryStore
from tests.fakes.backend import (
    CREATED,
    DELTA,
    FakeCodex,
    FakeResponse,
    FakeTokens,
    make_exchange,
    make_request,
)
from tests.fakes.clock import FakeClock
from tests.fakes.routing import MODEL, lease_of, pool_of, usage_limit
from upstream.errors import FaultKind, UpstreamError

REFUSED = UpstreamError(FaultKind.AUTH, "401", status=401)


@dataclass
class Ear:
    """Hears what the observer would."""

    attempts: list[tuple[str, str, str]] = field(default_factory=list)
    searches: list[tuple[str, str]] = field(default_factory=list)

    def attempt(self, exchange: Exchange, account_id: str, outcome: Outcome, fault: str, verb: str) -> None:
        self.attempts.append((account_id, fault, verb))

    def no_account(self, exchange: Exchange, reason: str, verb: str) -> None:
        self.searches.append((reason, verb))

    @property
    def verbs(self) -> list[str]:
        return [verb for _, _, verb in self.attempts]


class Bench:
    """A loop round a real pool, with the upstream and the tokens as fakes."""

    def __init__(self, accounts: int = 2, attempts: int = 3, wait_max_s: float = 5.0, budget: int = 10) -> None:
        self.clock = FakeClock()
        self.pool: AccountPool = pool_of(accounts, self.clock)
        self.codex, self.tokens, self.ear = FakeCodex(), FakeTokens(), Ear()
        self.exchange = make_exchange()
        self.relay = Relay(
            pool=self.pool,
            tokens=self.tokens.real(),
            codex=self.codex.real(),
            handshake=Handshake(0.1, self.clock),
            ownership=Ownership(self.pool.placements, MemoryStore(self.clock), self.clock),
            budget=RetryBudget(0.0, budget, self.clock),
            policy=RelayPolicy(attempts, wait_max_s),
            clock=self.clock,
            observer=self.ear,
        )

    async def open(self, **request: Any) -> OpenedStream:
        return await self.relay.open(make_request(**request), self.exchange)

    async def refusal(self, **request: Any) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.open(**request)
        assert self.inflight == 0
        return caught.value

    @property
    def inflight(self) -> int:
        return self.pool.snapshot().inflight

    @property
    def served_by(self) -> list[str]:
        return [sent.account_id for sent in self.codex.sent]


def fault(kind: FaultKind, **members: Any) -> UpstreamError:
    return UpstreamError(kind, "made up", **members)


def good(**members: Any) -> FakeResponse:
    return FakeResponse(CREATED + DELTA, **members)


async def test_the_first_account_that_is_well_serves_and_its_lease_stays_open() -> None:
    bench = Bench()
    bench.codex.answers.append(answer := good())
    opened = await bench.open()
    assert opened.held == CREATED + DELTA
    assert not answer.closed
    assert bench.inflight == 1
    assert not opened.lease.released
    assert (bench.exchange.attempts, bench.exchange.account_id) == (1, opened.lease.account.id)
    assert not bench.ear.attempts
    assert not bench.ear.searches


@pytest.mark.parametrize(
    "kind", [FaultKind.RATE_LIMITED, FaultKind.OVERLOADED, FaultKind.SERVER, FaultKind.LOST, FaultKind.BLOCKED]
)
async def test_a_fault_of_an_account_is_another_accounts_stream(kind: FaultKind) -> None:
    bench = Bench()
    bench.codex.answers += [fault(kind), good()]
    opened = await bench.open()
    assert len(set(bench.served_by)) == 2
    assert opened.lease.account.id == bench.served_by[1]
    assert bench.ear.attempts == [(bench.served_by[0], kind.value, "next_account")]
    assert bench.exchange.attempts == 2
    assert bench.inflight == 1


async def test_a_failure_inside_the_handshake_is_another_accounts_stream_and_its_own_is_closed() -> None:
    bench = Bench()
    broken = FakeResponse(CREATED, fault(FaultKind.TRUNCATED))
    bench.codex.answers += [broken, good()]
    opened = await bench.open()
    assert broken.closed
    assert opened.held == CREATED + DELTA, "nothing of the failed attempt goes down"
    assert bench.ear.verbs == ["next_account"]


async def test_a_dead_connection_is_replaced_by_a_new_one_to_the_same_account_once() -> None:
    bench = Bench(attempts=4)
    dead = fault(FaultKind.LOST, reused=True)
    bench.codex.answers += [dead, dead, good()]
    await bench.open()
    first, second, third = bench.codex.sent
    assert first.account_id == second.account_id != third.account_id
    assert (first.request.fresh, second.request.fresh) == (False, True)
    assert bench.ear.verbs == ["same", "next_account"]


async def test_a_refused_token_is_renewed_once_and_the_same_account_is_asked_again() -> None:
    bench = Bench()
    bench.codex.answers += [REFUSED, good()]
    opened = await bench.open()
    first, second = bench.codex.sent
    assert first.account_id == second.account_id == opened.lease.account.id
    assert first.token != second.token
    assert bench.tokens.renewed == [first.account_id]
    assert bench.ear.verbs == ["refresh_same"]
    explained = bench.pool.explain(first.account_id)
    assert explained is not None
    assert (explained.failures or 0, bench.tokens.condemned) == (0, []), "a refusal that a refresh mends blames nobody"


@pytest.mark.fault("B21")
async def test_an_account_whose_fresh_token_is_refused_is_condemned_by_the_next_ones_success() -> None:
    bench = Bench()
    bench.codex.answers += [REFUSED, REFUSED, good()]
    opened = await bench.open()
    refused = bench.served_by[0]
    assert bench.ear.verbs == ["refresh_same", "next_account"]
    assert bench.tokens.condemned == [refused]
    assert opened.lease.account.id != refused


@pytest.mark.fault("B21")
async def test_an_upstream_that_refuses_everybody_costs_no_login() -> None:
    bench = Bench(accounts=5, wait_max_s=0.0)
    for n in range(5):
        bench.codex.by_account[f"a{n}"] = lambda: REFUSED
    for _ in range(40):
        with contextlib.suppress(GatewayError):
            await bench.open()
        bench.clock.advance(20.0)
    assert set(bench.tokens.renewed) == {f"a{n}" for n in range(5)}
    assert bench.tokens.condemned == []
    bench.codex.by_account.clear()
    bench.clock.advance(1000.0)
    bench.codex.answers.append(good())
    await bench.open()
    assert bench.tokens.condemned == [], "the upstream is back: what it said while it was out is void"


async def test_a_cancellation_while_an_account_is_condemned_gives_the_witness_back() -> None:
    bench = Bench()
    bench.codex.answers += [REFUSED, REFUSED, (answer := good())]
    bench.tokens.condemning = asyncio.Event()
    task = asyncio.create_task(bench.open())
    await bench.tokens.asked.wait()
    assert bench.tokens.condemned
    await cancelled(task)
    assert answer.closed
    assert bench.inflight == 0


async def test_foreign_reasoning_is_dropped_once_and_the_answer_says_so() -> None:
    bench = Bench()
    bench.codex.answers += [fault(FaultKind.FOREIGN, status=400), good()]
    await bench.open(owners=[b"unknown"])
    assert bench.ear.verbs == ["strip_and_move"]
    assert bench.exchange.moved


async def test_foreign_reasoning_without_anything_to_drop_is_the_clients_answer() -> None:
    bench = Bench()
    bench.codex.answers.append(fault(FaultKind.FOREIGN, status=400))
    assert (await bench.refusal()).code == "invalid_encrypted_content"
    assert bench.ear.verbs == ["give_up"]


async def test_a_fault_of_the_request_is_told_to_the_client_and_tried_once() -> None:
    bench = Bench()
    bench.codex.answers.append(fault(FaultKind.REQUEST, status=400, code="bad_thing", message="no", param="x"))
    error = await bench.refusal()
    assert (error.status, error.code, error.param) == (400, "bad_thing", "x")
    assert bench.exchange.attempts == 1


async def test_a_route_that_is_down_is_tried_twice_and_no_account_is_blamed() -> None:
    bench = Bench(accounts=5, attempts=5)
    bench.codex.answers += [fault(FaultKind.CONNECT, sent=False)] * 5
    assert (await bench.refusal()).status == 502
    assert bench.ear.verbs == ["next_account", "give_up"]
    assert [why.failures or 0 for n in range(5) if (why := bench.pool.explain(f"a{n}"))] == [0] * 5


async def test_attempts_are_bounded() -> None:
    bench = Bench(accounts=9, attempts=3)
    bench.codex.answers += [fault(FaultKind.RATE_LIMITED, status=429)] * 9
    assert (await bench.refusal()).status == 429
    assert bench.exchange.attempts == len(bench.codex.sent) == 3


async def test_a_spent_retry_budget_ends_the_tries_that_could_amplify_an_overload() -> None:
    bench = Bench(accounts=4, attempts=4, budget=1)
    bench.codex.answers += [fault(FaultKind.OVERLOADED)] * 4
    assert (await bench.refusal()).code == "overloaded"
    assert len(bench.codex.sent) == 2


async def test_past_its_deadline_nothing_is_tried_again() -> None:
    bench = Bench()
    bench.codex.answers += [fault(FaultKind.SERVER), good()]
    await bench.refusal(deadline_s=bench.clock.monotonic_s())
    assert len(bench.codex.sent) == 1


@pytest.mark.parametrize("error", [NeedsReauth("gone"), RefreshUnavailable("later")])
async def test_an_account_without_a_token_is_passed_over_before_anything_is_sent(error: CredentialError) -> None:
    bench = Bench()
    bench.tokens.broken["a0"] = error
    bench.codex.answers += [good(), good()]
    assert {(await bench.open()).lease.account.id for _ in range(2)} == {"a1"}
    assert bench.served_by == ["a1", "a1"]
    assert bench.tokens.condemned == []


async def test_when_no_account_has_a_token_nothing_is_sent() -> None:
    bench = Bench()
    bench.tokens.broken = {f"a{n}": NeedsReauth("gone") for n in range(2)}
    assert (await bench.refusal()).code == "no_accounts"
    assert bench.codex.sent == []


async def test_when_the_refresh_does_not_come_through_another_account_serves() -> None:
    bench = Bench()
    bench.tokens.unrenewable = {f"a{n}": RefreshUnavailable("later") for n in range(2)}
    bench.codex.answers += [REFUSED, good()]
    await bench.open()
    assert bench.ear.verbs == ["refresh_same", "next_account"]
    assert len(set(bench.served_by)) == 2


async def test_it_waits_for_an_account_that_is_nearly_back() -> None:
    bench = Bench(accounts=1)
    lease_of(bench.pool, "a0").release(usage_limit(bench.clock, 3.0))
    bench.codex.answers.append(good())
    task = asyncio.create_task(bench.open())
    await asyncio.sleep(0.001)
    assert bench.ear.searches == [("exhausted", "wait")]
    assert not task.done()
    bench.clock.advance(4.0)
    await task
    assert bench.inflight == 1


async def test_it_does_not_wait_longer_than_allowed_and_says_when_to_come_back() -> None:
    bench = Bench(accounts=1, wait_max_s=5.0)
    lease_of(bench.pool, "a0").release(usage_limit(bench.clock, 3600.0))
    error = await bench.refusal()
    assert (error.status, error.code) == (429, "usage_limit_reached")
    assert error.retry_after_s == pytest.approx(3600, abs=1)
    assert bench.ear.searches == [("exhausted", "give_up")]


async def test_without_accounts_the_client_is_told() -> None:
    bench = Bench(accounts=0)
    assert (await bench.refusal()).code == "no_accounts"
    assert bench.exchange.attempts == 0


async def test_after_attempts_the_last_fault_says_more_than_that_nobody_is_left() -> None:
    bench = Bench(accounts=1)
    bench.codex.answers.append(fault(FaultKind.SERVER, status=500))
    error = await bench.refusal()
    assert (error.status, error.code) == (502, "upstream_error")
    assert bench.ear.searches == [("excluded", "give_up")]


async def test_windows_are_told_to_the_pool_when_their_words_have_changed() -> None:
    bench = Bench(accounts=1)
    same = good(window=10.0)
    same.windows = []
    for answer, seen in ((good(window=10.0), 10.0), (same, 10.0), (good(window=20.0), 20.0)):
        bench.codex.answers.append(answer)
        await bench.open()
        explained = bench.pool.explain("a0")
        assert explained is not None
        assert [window.used_percent for window in explained.windows] == [seen]


async def test_a_turn_state_of_the_answer_binds_the_next_turn_to_its_account() -> None:
    bench = Bench(accounts=5)
    bench.codex.answers.append(good(headers=[(b"x-codex-turn-state", b"sealed")]))
    opened = await bench.open()
    owners = await bench.relay.ownership.owners_of(make_request(owners=[owner_digest("t1", b"sealed")]))
    assert set(owners.values()) == {opened.lease.account.id}


# cancellation


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_while_the_token_is_awaited_gives_the_lease_back() -> None:
    bench = Bench()
    bench.tokens.gate = asyncio.Event()
    task = asyncio.create_task(bench.open())
    await bench.tokens.asked.wait()
    assert bench.inflight == 1
    await cancelled(task)
    assert_nobody_is_blamed(bench)


async def test_a_cancellation_while_the_call_goes_up_gives_the_lease_back() -> None:
    bench = Bench()
    bench.codex.answers.append(asyncio.Event())
    task = asyncio.create_task(bench.open())
    await bench.codex.asked.wait()
    await cancelled(task)
    assert_nobody_is_blamed(bench)


@pytest.mark.parametrize("before", [(), (CREATED,)], ids=["before the first event", "inside the handshake"])
async def test_a_cancellation_while_events_are_held_closes_the_response(before: tuple[bytes, ...]) -> None:
    bench = Bench()
    bench.codex.answers.append(answer := FakeResponse(*before, asyncio.Event()))
    task = asyncio.create_task(bench.open())
    await answer.asked.wait()
    await cancelled(task)
    assert answer.closed
    assert_nobody_is_blamed(bench)


async def test_a_cancellation_while_waiting_for_an_account_holds_nothing() -> None:
    bench = Bench(accounts=1)
    lease_of(bench.pool, "a0").release(usage_limit(bench.clock, 3.0))
    task = asyncio.create_task(bench.open())
    await asyncio.sleep(0.001)
    await cancelled(task)
    assert bench.inflight == 0


async def test_a_fault_of_our_own_gives_the_lease_back_too() -> None:
    bench = Bench()
    with pytest.raises(IndexError):
        await bench.open()
    assert_nobody_is_blamed(bench)


def assert_nobody_is_blamed(bench: Bench) -> None:
    assert bench.inflight == 0
    assert bench.ear.attempts == []
    for n in range(2):
        bench.pool.lease(RouteQuery(MODEL, owner=f"a{n}"))
