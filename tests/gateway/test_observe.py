"""What a request leaves behind: a log line, an audit record without content, and words that the metrics know."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

from auth.hooks import RefreshHooks
from gateway.errors import CODES
from gateway.exchange import Exchange
from gateway.observe import Observer, outcome_word
from ops.audit import AuditLog
from ops.metrics import ATTEMPT_OUTCOMES, END_REASONS, OUTCOMES, POOL_STATES, RETRY_VERBS, ROUTES, Metrics
from router.types import AccountState, NoAccountReason, Outcome, OutcomeKind, RetryVerb, RouteQuery
from store.memory import MemoryStore
from store.records import AuditRecord
from tests.fakes.backend import make_exchange
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BLOCKED, pool_of, put
from upstream.dial import Dialer, tls_context
from upstream.errors import FaultKind
from upstream.pool import ConnectionPool
from upstream.types import Usage

ENDS = (
    "completed", "incomplete", "upstream_failed", "client_gone", "client_stalled", "draining", "revoked",
    *(kind.value for kind in (FaultKind.TRUNCATED, FaultKind.IDLE, FaultKind.BUDGET, FaultKind.EVENT_TOO_LARGE)),
    FaultKind.PROTOCOL.value,
)  # fmt: skip


class Desk:
    """An observer with everything round it, and what it wrote."""

    def __init__(self, audit: bool = True) -> None:
        self.clock = FakeClock()
        self.lines = CapturingLogger()
        self.metrics = Metrics()
        self.store = MemoryStore(self.clock)
        self.audit = (
            AuditLog(self.store, flush_s=0.2, queue_size=100, on_full="drop", clock=self.clock) if audit else None
        )
        log = structlog.wrap_logger(
            self.lines, processors=[], wrapper_class=structlog.make_filtering_bound_logger("debug")
        )
        self.observer = Observer(log, self.metrics, self.audit, self.clock)

    @property
    def logged(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [
            (call.method_name, call.kwargs["event"], {k: v for k, v in call.kwargs.items() if k != "event"})
            for call in self.lines.calls
        ]

    def series(self) -> dict[str, float]:
        text = self.metrics.render()[0].decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs if "_created" not in name and float(value)}

    def unknown(self) -> list[str]:
        return [name for name in self.series() if '="other"' in name]

    async def audited(self) -> list[AuditRecord]:
        assert self.audit is not None
        await self.audit.close()
        return list(await self.store.search_audit())


@pytest.fixture
def desk() -> Desk:
    return Desk()


def served(desk: Desk, **changes: Any) -> Exchange:
    whole: dict[str, Any] = {
        "started_s": desk.clock.monotonic_s() - 2.0,
        "model": "gpt-5.4",
        "stream": True,
        "status": 200,
        "account_id": "a0",
        "attempts": 2,
        "moved": True,
        "adaptations": ("dropped:user",),
        "first_event_s": desk.clock.monotonic_s() - 1.5,
        "end": "completed",
        "usage": Usage(7, 1, 3, 2, 10),
        "bytes_out": 99,
        "events": 5,
    }
    return make_exchange(**{**whole, **changes})


def test_the_line_of_a_served_request_says_who_what_by_whom_and_how_long(desk: Desk) -> None:
    desk.observer.finished(served(desk))
    ((level, event, line),) = desk.logged
    assert (level, event) == ("info", "request")
    assert line == {
        "request_id": "req_1", "method": "POST", "route": "responses", "status": 200, "outcome": "ok",
        "duration_ms": 2000.0, "tenant": "t1", "key": "k1", "model": "gpt-5.4", "stream": True, "account": "a0",
        "attempts": 2, "end": "completed", "bytes_out": 99, "ttfe_ms": 500.0, "input_tokens": 7, "output_tokens": 3,
        "adapted": ("dropped:user",), "moved": True,
    }  # fmt: skip


def test_a_refused_request_says_its_code_and_nothing_of_a_model(desk: Desk) -> None:
    desk.observer.finished(make_exchange(caller=None, status=401, outcome="error", error_code="invalid_api_key"))
    ((_, _, line),) = desk.logged
    assert line["error_code"] == "invalid_api_key"
    assert {"tenant", "key", "model", "account", "path"}.isdisjoint(line)


def test_the_path_is_logged_where_the_route_does_not_tell_it(desk: Desk) -> None:
    desk.observer.finished(make_exchange(route="none", path="/wp-login.php", status=404, error_code="not_found"))
    assert desk.logged[0][2]["path"] == "/wp-login.php"
    desk.observer.finished(make_exchange(route="none", path="/" + "a" * 60_000, status=404, error_code="not_found"))
    assert len(desk.logged[1][2]["path"]) == 200


def test_what_is_refused_before_its_route_is_found_has_a_route_that_the_metrics_know(desk: Desk) -> None:
    desk.observer.finished(Exchange("req_1", "POST", "/v1/responses", 0.0, status=401, error_code="invalid_api_key"))
    assert desk.unknown() == []


@pytest.mark.parametrize("route", ["healthz", "readyz", "metrics"])
async def test_probes_are_counted_and_otherwise_passed_over(route: str, desk: Desk) -> None:
    desk.observer.finished(make_exchange(route=route, status=200))
    assert desk.logged == []
    assert await desk.audited() == []
    assert desk.series()[f'relay_requests_total{{outcome="ok",route="{route}",status_class="2xx"}}'] == 1


async def test_the_audit_record_says_who_and_what_came_of_it_and_holds_no_content(desk: Desk) -> None:
    desk.observer.finished(served(desk))
    desk.observer.finished(make_exchange(caller=None, status=401, outcome="error", error_code="invalid_api_key"))
    good, refused = await desk.audited()
    assert (good.actor, good.action, good.outcome, good.target) == ("key:k1", "request.responses", "ok", "a0")
    assert (good.tenant_id, good.key_id, good.request_id, good.model) == ("t1", "k1", "req_1", "gpt-5.4")
    assert (good.input_tokens, good.output_tokens) == (7, 3)
    assert dict(good.detail) == {"status": 200, "attempts": 2}
    assert (refused.actor, refused.outcome, refused.tenant_id) == ("anonymous", "invalid_api_key", None)


def test_an_exchange_has_no_room_for_content() -> None:
    """Whoever adds a member has to say here that it is none."""
    assert {one.name for one in fields(Exchange)} == {
        "id", "method", "path", "started_s", "route", "caller", "model", "stream", "status", "outcome", "error_code",
        "account_id", "attempts", "moved", "adaptations", "extra_headers", "first_event_s", "end", "usage",
        "bytes_out", "events", "disordered", "actor",
    }  # fmt: skip


def test_without_an_audit_log_the_rest_is_the_same() -> None:
    desk = Desk(audit=False)
    desk.observer.finished(served(desk))
    assert len(desk.logged) == 1


# words of closed sets


def test_every_end_of_a_stream_and_of_its_attempt_is_a_word_that_the_metrics_know(desk: Desk) -> None:
    for end in ENDS:
        desk.observer.finished(served(desk, end=end))
        assert f'relay_stream_end_total{{reason="{end}"}}' in desk.series()
    assert desk.unknown() == []
    assert set(ENDS) <= set(END_REASONS)


@pytest.mark.parametrize("code", [*CODES, "a_code_of_the_upstream"])
def test_every_error_has_an_outcome_that_the_metrics_know(code: str, desk: Desk) -> None:
    status = CODES.get(code, (400, ""))[0]
    exchange = make_exchange(status=status, outcome="error", error_code=code)
    assert outcome_word(exchange) in OUTCOMES
    desk.observer.finished(exchange)
    assert desk.unknown() == []


@pytest.mark.parametrize(
    ("exchange", "word"),
    [
        ({"status": 200}, "ok"),
        ({"status": 499, "outcome": "client_gone"}, "cancelled"),
        ({"status": 200, "outcome": "client_gone", "error_code": "x"}, "cancelled"),
        ({"status": 400, "error_code": "invalid_request"}, "client_error"),
        ({"status": 401, "error_code": "invalid_api_key"}, "unauthenticated"),
        ({"status": 429, "error_code": "rate_limited"}, "limited"),
        ({"status": 429, "error_code": "usage_limit_reached"}, "no_account"),
        ({"status": 503, "error_code": "draining"}, "shed"),
        ({"status": 500, "error_code": "internal_error"}, "failed"),
        ({"status": 502, "error_code": "upstream_error"}, "failed"),
        ({"status": 200, "error_code": "upstream_stream_truncated"}, "failed"),
    ],
)
def test_whose_doing_the_end_was(exchange: dict[str, Any], word: str) -> None:
    assert outcome_word(make_exchange(**exchange)) == word


def test_every_fault_every_verb_and_every_reason_is_a_word_that_the_metrics_know(desk: Desk) -> None:
    exchange = make_exchange()
    for verb in RetryVerb:
        for fault in (*(kind.value for kind in FaultKind), *(kind.value for kind in OutcomeKind)):
            desk.observer.attempt(exchange, "a0", Outcome(OutcomeKind.BROKEN), fault, verb.value)
        for reason in NoAccountReason:
            desk.observer.no_account(exchange, reason.value, verb.value)
    assert desk.unknown() == []
    assert set(RETRY_VERBS) == {verb.value for verb in RetryVerb}
    assert {kind.value for kind in FaultKind} <= set(ATTEMPT_OUTCOMES)


def test_refusals_of_the_frames_are_words_that_the_metrics_know(desk: Desk) -> None:
    for reason in ("draining", "inflight", "audit_full"):
        desk.observer.shed(reason)
    assert desk.unknown() == []


def test_routes_are_words_that_the_metrics_know(desk: Desk) -> None:
    for route in ("responses", "models", "healthz", "readyz", "metrics", "wham", "whoami", "none"):
        desk.observer.finished(make_exchange(route=route, status=200))
        assert route in ROUTES
    assert desk.unknown() == []


async def test_the_states_of_the_pool_are_words_that_the_metrics_know(desk: Desk) -> None:
    pool = pool_of(3, desk.clock)
    put(pool, "a0", BLOCKED)
    connections = ConnectionPool(Dialer(tls_context(None), None), desk.clock)
    lease = pool.lease(RouteQuery("m"))
    desk.observer.sample(pool, connections, desk.audit, 2)
    series = desk.series()
    assert sum(value for name, value in series.items() if name.startswith("relay_pool_accounts{")) == 3
    assert (series["relay_inflight"], series["relay_streams"]) == (2, 1)
    lease.release(BLOCKED)
    await connections.aclose()
    assert {"ready" if state is AccountState.OK else state.value for state in AccountState} <= set(POOL_STATES)


# the rest


def test_tokens_first_event_and_order_are_counted(desk: Desk) -> None:
    desk.observer.finished(served(desk, disordered=True))
    series = desk.series()
    assert series["relay_events_total"] == 5
    assert series['relay_tokens_total{kind="input"}'] == 7
    assert series['relay_tokens_total{kind="output"}'] == 3
    assert series["relay_upstream_ttfb_seconds_sum"] == 0.5
    assert series["relay_upstream_seq_anomaly_total"] == 1
    assert series['relay_attempts_total{outcome="ok"}'] == 1


@pytest.mark.parametrize("fault", ["upstream_blocked", "redirect"])
def test_what_no_retry_mends_is_an_alert(fault: str, desk: Desk) -> None:
    desk.observer.attempt(make_exchange(), "a0", Outcome(OutcomeKind.ROUTE, evidence="403 page"), fault, "give_up")
    assert [(level, event) for level, event, _ in desk.logged] == [("error", "alert"), ("info", "attempt_failed")]


def test_a_failed_attempt_says_its_fault_its_evidence_and_what_follows(desk: Desk) -> None:
    outcome = Outcome(OutcomeKind.RATE_LIMITED, evidence="429 usage_limit_reached", status=429)
    desk.observer.attempt(make_exchange(attempts=1), "a0", outcome, "rate_limited", "next_account")
    ((_, event, line),) = desk.logged
    assert event == "attempt_failed"
    assert (line["account"], line["attempt"], line["fault"], line["next"]) == ("a0", 1, "rate_limited", "next_account")
    assert (line["evidence"], line["upstream_status"]) == ("429 usage_limit_reached", 429)


def test_a_fault_of_our_own_is_logged_by_place_and_type_and_never_by_its_message(desk: Desk) -> None:
    with pytest.raises(ValueError, match="secret plans") as caught:
        int("my secret plans")
    desk.observer.crashed(make_exchange(), caught.value)
    ((level, event, line),) = desk.logged
    assert (level, event, line["error"]) == ("error", "internal_error", "ValueError")
    assert line["where"][0].startswith("test_observe.py:")
    assert "secret plans" not in str(line)


def test_refreshes_are_counted_and_logged(desk: Desk) -> None:
    RefreshHooks(event=desk.observer.refresh, alert=desk.observer.alert, changed=lambda account: None).event(
        "refreshed", "a0"
    )
    assert desk.series()['relay_refresh_total{result="refreshed"}'] == 1
    assert desk.logged == [("info", "refresh", {"account": "a0", "result": "refreshed"})]


async def test_audit_records_that_were_lost_are_counted_once() -> None:
    desk = Desk()
    desk.audit = AuditLog(desk.store, flush_s=0.2, queue_size=1, on_full="drop", clock=desk.clock)
    connections = ConnectionPool(Dialer(tls_context(None), None), desk.clock)
    for _ in range(4):
        desk.audit.record(AuditRecord(0.0, "a", "b", "c"))
    for _ in range(2):
        desk.observer.sample(pool_of(1, desk.clock), connections, desk.audit, 0)
    assert desk.series()["relay_audit_dropped_total"] == 3
    await connections.aclose()
    await desk.audit.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("method", "route", "status", "kept"),
    [("GET", "console", 200, 0), ("GET", "admin", 304, 0), ("GET", "admin", 403, 1), ("POST", "admin", 200, 1),
     ("GET", "models", 200, 1)],
)  # fmt: skip
async def test_looking_at_pages_fills_no_audit_log(method: str, route: str, status: int, kept: int) -> None:
    desk = Desk()
    exchange = Exchange("req_1", method, "/x", 0.0, status=status)
    exchange.route = route
    desk.observer.finished(exchange)
    assert desk.audit is not None
    await desk.audit.close()
    assert len(await desk.store.search_audit()) == kept
    assert len(desk.lines.calls) == 1
