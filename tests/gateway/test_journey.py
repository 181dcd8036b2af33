"""What a request remembers from attempt to attempt, and what each decision changes of it."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from gateway.adapt import Adapted
from gateway.journey import Journey
from gateway.parse import owner_digest
from gateway.types import Dialect, RelayRequest
from router.retry import RetryBudget
from router.types import CANCELLED, Outcome, OutcomeKind, RetryAction, RetryVerb
from tests.fakes.backend import make_caller, make_request
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_credential
from tests.fakes.routing import MODEL, ROUTE_FAULT, account
from upstream.errors import FaultKind, UpstreamError

BROKEN = Outcome(OutcomeKind.BROKEN)
ERROR = UpstreamError(FaultKind.SERVER)
SEALED = Adapted(
    MODEL,
    MODEL,
    True,
    b'{"model":"m","input":',
    b'[{"type":"reasoning","encrypted_content":"a"},{"type":"reasoning","encrypted_content":"b"}]',
    sealed=((0, b"A"), (1, b"B")),
)


def journey(request: RelayRequest | None = None, owners: dict[bytes, str] | None = None, budget: int = 10) -> Journey:
    clock = FakeClock()
    return Journey(request or make_request(), owners or {}, 3, RetryBudget(0.0, budget, clock), clock)


def test_the_router_hears_all_that_it_may_know() -> None:
    request = make_request(affinity=b"conversation", caller=make_caller(pools=("blue",)), deadline_s=77.0)
    query = journey(request).query()
    assert (query.model, query.affinity, query.pools, query.deadline_s) == (MODEL, b"conversation", ("blue",), 77.0)
    assert (query.owner, query.excluded) == (None, frozenset())


def test_the_newest_part_whose_owner_is_known_binds() -> None:
    under_way = journey(make_request(owners=[b"new", b"mid", b"old"]), {b"old": "a0", b"mid": "a1"})
    assert under_way.query().owner == "a1"


def test_a_failed_account_is_not_asked_again() -> None:
    under_way = journey()
    under_way.note("a0", BROKEN, ERROR)
    under_way.follow(RetryAction(RetryVerb.NEXT_ACCOUNT))
    under_way.note("a1", BROKEN, ERROR)
    assert under_way.query().excluded == {"a0", "a1"}
    assert under_way.last_error is ERROR


def test_refresh_same_pins_the_account_and_remembers_what_was_refused() -> None:
    under_way = journey()
    credential = make_credential("a0")
    under_way.note("a0", Outcome(OutcomeKind.AUTH), ERROR)
    under_way.follow(RetryAction(RetryVerb.REFRESH_SAME), "a0", credential)
    assert (under_way.query().owner, under_way.query().excluded) == ("a0", frozenset())
    assert under_way.rejected is credential
    assert under_way.state().refreshed
    assert not under_way.state().reconnected


def test_same_pins_the_account_and_asks_for_a_new_connection() -> None:
    under_way = journey()
    under_way.note("a0", BROKEN, ERROR)
    under_way.follow(RetryAction(RetryVerb.SAME), "a0")
    assert under_way.query().owner == "a0"
    assert under_way.upstream_request(account(0)).fresh
    assert under_way.state().reconnected
    assert not under_way.state().refreshed


def test_a_pin_holds_for_one_attempt() -> None:
    under_way = journey()
    under_way.note("a0", BROKEN, ERROR)
    under_way.follow(RetryAction(RetryVerb.SAME), "a0")
    under_way.note("a0", BROKEN, ERROR)
    under_way.follow(RetryAction(RetryVerb.NEXT_ACCOUNT))
    assert (under_way.query().owner, under_way.query().excluded) == (None, frozenset({"a0"}))


def test_stripping_frees_the_turn_from_its_owner_and_the_owner_may_serve_too() -> None:
    under_way = journey(make_request(owners=[b"A"], adapted=SEALED), {b"A": "a0"})
    under_way.note("a0", Outcome(OutcomeKind.FOREIGN), ERROR)
    under_way.follow(RetryAction(RetryVerb.STRIP_AND_MOVE), "a0")
    assert (under_way.query().owner, under_way.query().excluded) == (None, frozenset())
    assert under_way.state().stripped


def test_stripping_without_an_account_keeps_those_that_were_tried() -> None:
    under_way = journey()
    under_way.note("a0", BROKEN, ERROR)
    under_way.follow(RetryAction(RetryVerb.STRIP_AND_MOVE))
    assert under_way.query().excluded == {"a0"}


def test_waiting_forgets_who_was_tried_and_adds_up() -> None:
    under_way = journey()
    under_way.note("a0", BROKEN, ERROR)
    for _ in range(2):
        under_way.follow(RetryAction(RetryVerb.WAIT, wait_s=1.5))
    assert under_way.query().excluded == frozenset()
    assert under_way.state().waited_s == 3.0


def test_a_charged_step_takes_from_the_budget_of_all_and_others_do_not() -> None:
    under_way = journey(budget=1)
    under_way.follow(RetryAction(RetryVerb.NEXT_ACCOUNT))
    assert under_way.state().budget
    under_way.follow(RetryAction(RetryVerb.NEXT_ACCOUNT, charged=True))
    assert not under_way.state().budget


def test_faults_of_the_route_are_counted_apart() -> None:
    under_way = journey()
    for outcome in (ROUTE_FAULT, BROKEN, ROUTE_FAULT, CANCELLED):
        under_way.note("a0", outcome, ERROR)
    assert under_way.state().route_attempts == 2


@pytest.mark.parametrize(
    ("error", "reused"),
    [(UpstreamError(FaultKind.LOST, reused=True), True), (ERROR, False), (ValueError(), False), (None, False)],
)
def test_the_state_says_whether_a_pooled_connection_was_dead(error: Exception | None, reused: bool) -> None:
    assert journey().state(error).reused_connection is reused


def test_a_request_without_sealed_parts_has_nothing_to_strip() -> None:
    assert journey().state().stripped
    assert not journey(make_request(owners=[b"A"])).state().stripped


# what goes up


def has_moved(under_way: Journey) -> bool:
    return under_way.moved


def body(under_way: Journey, number: int) -> str:
    return b"".join(under_way.upstream_request(account(number)).body).decode()


def test_the_owner_gets_everything_and_a_stranger_nothing_of_it() -> None:
    turn_state = [(b"x-codex-turn-state", b"s"), (b"session_id", b"1")]
    state = owner_digest("t1", b"s")
    request = make_request(owners=[state, b"B", b"A"], adapted=SEALED, headers=turn_state)
    under_way = journey(request, {state: "a0", b"A": "a0", b"B": "a0"})
    own = under_way.upstream_request(account(0))
    assert '"a"' in body(under_way, 0)
    assert own.client_headers == turn_state
    assert not has_moved(under_way)
    foreign = under_way.upstream_request(account(1))
    assert "encrypted_content" not in body(under_way, 1)
    assert foreign.client_headers == [(b"session_id", b"1")]
    assert has_moved(under_way)
    assert '"a"' in body(under_way, 0), "the request itself is not changed"


def test_of_two_owners_each_gets_its_own_part() -> None:
    under_way = journey(make_request(owners=[b"B", b"A"], adapted=SEALED), {b"A": "a0", b"B": "a1"})
    assert ('"a"' in body(under_way, 0), '"b"' in body(under_way, 0)) == (True, False)
    assert ('"a"' in body(under_way, 1), '"b"' in body(under_way, 1)) == (False, True)


def test_parts_of_unknown_owners_go_up_until_the_backend_refuses_them() -> None:
    under_way = journey(make_request(owners=[b"B", b"A"], adapted=SEALED))
    assert "encrypted_content" in body(under_way, 0)
    assert not has_moved(under_way)
    under_way.follow(RetryAction(RetryVerb.STRIP_AND_MOVE), "a0")
    assert "encrypted_content" not in body(under_way, 0)
    assert has_moved(under_way)


def test_a_codex_clients_metadata_carries_the_installation_of_the_account() -> None:
    metadata = [(b"x-codex-turn-metadata", b'{"installation_id":"the-clients-own","x":1}'), (b"session_id", b"1")]
    adapted = structs.replace(SEALED, client_metadata=b'{"x-codex-installation-id":"the-clients-own"}')
    request = make_request(headers=metadata, dialect=Dialect.CODEX, adapted=adapted)
    sent = journey(request).upstream_request(account(0, installation_id="of-a0"))
    assert sent.codex_client
    assert json.loads(dict(sent.client_headers)[b"x-codex-turn-metadata"])["installation_id"] == "of-a0"
    assert dict(sent.client_headers)[b"session_id"] == b"1"
    assert json.loads(b"".join(sent.body))["client_metadata"] == {"x-codex-installation-id": "of-a0"}
    assert request.headers == metadata


def test_an_sdk_clients_call_names_no_installation_of_its_own() -> None:
    sent = journey().upstream_request(account(0, installation_id="of-a0"))
    assert not sent.codex_client
    assert json.loads(b"".join(sent.body))["model"] == MODEL
