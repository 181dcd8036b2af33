"""Every metric of the gateway, its labels from closed sets, and how the sum over workers is taken.

Rules that hold:

* a label takes only values of a set that is written here; anything else counts as ``other``, so that no client and
  no upstream can grow the number of series. ``account_ref`` is a short hash, for a bounded number of accounts;
* no label holds a key, tenant, model or path: those are questions for the audit log;
* series that code on the hot path touches are made once and kept, a change is one dictionary look-up and one add;
* with ``PROMETHEUS_MULTIPROC_DIR`` set before this module is first imported, every worker writes its own files
  there and :meth:`Metrics.render` of any worker answers the sum over all (gauges of dead workers excluded).

The supervisor of several workers sets the variable for them alone, keeps no series itself, and calls :func:`mark_dead`
when a worker is gone. docs/metrics.md lists what :data:`CATALOGUE` lists.
"""

from __future__ import annotations

import hashlib
import os
import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

OTHER: Final = "other"
MULTIPROC_ENV: Final = "PROMETHEUS_MULTIPROC_DIR"

ROUTES: Final = (
    "responses", "chat_completions", "models", "codex_responses", "codex_models", "wham", "whoami", "healthz",
    "readyz", "metrics", "tasks", "admin", "console", "none",
)  # fmt: skip
STATUS_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
OUTCOMES: Final = ("ok", "failed", "client_error", "limited", "shed", "no_account", "cancelled", "unauthenticated")
ATTEMPT_OUTCOMES: Final = (
    "ok", "cancelled", "client_error", "route", "broken", "foreign",
    "connect_refused", "connect_timeout", "dns_error", "tls_error", "protocol_error", "redirect", "upstream_blocked",
    "rate_limited", "auth", "blocked", "model", "overloaded", "server_error", "conn_lost_pre", "header_timeout",
    "ttfb_timeout", "request", "foreign_reasoning", "truncated", "idle", "event_too_large", "budget",
)  # fmt: skip
END_REASONS: Final = (
    "completed", "incomplete", "upstream_failed", "truncated", "idle", "budget", "event_too_large", "protocol_error",
    "client_gone", "client_stalled", "draining", "revoked", "failed",
)  # fmt: skip
REFRESH_RESULTS: Final = (
    "refreshed", "adopted", "transient", "uncertain", "replayed", "permanent", "persist_conflict", "persist_failed",
    "mismatch",
)  # fmt: skip
ALERT_KINDS: Final = (
    "needs_reauth", "refresh_broken", "refresh_not_persisted", "refresh_overruled", "scopes_lost", "upstream_blocked",
    "redirect",
)  # fmt: skip
WEBHOOK_RESULTS: Final = ("delivered", "retried", "dead")
SHED_REASONS: Final = (
    "overloaded", "inflight", "draining", "not_configured", "store_unavailable", "audit_full", "no_accounts",
    "rate_limited", "too_many_streams", "header_timeout", "body_timeout", "body_too_large", "head_too_large",
)  # fmt: skip
RETRY_VERBS: Final = ("refresh_same", "same", "next_account", "strip_and_move", "wait", "give_up")
TOKEN_KINDS: Final = ("input", "cached", "output", "reasoning")
BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}
POOL_STATES: Final = ("ready", "cooling", "open", "half_open", "busy", "disabled", "needs_reauth")
MAX_ACCOUNT_REFS: Final = 256
_OUTCOMES: Final = frozenset(OUTCOMES)

_REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_TTFB_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 3, 5, 10, 20, 40, 80, 120)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Description:
    """One metric as documented. ``labels`` maps a label to its values; None stands for a bounded pseudonym."""

    name: str
    kind: Kind
    help: str
    labels: tuple[tuple[str, tuple[str, ...] | None], ...] = ()
    buckets: tuple[float, ...] = ()
    multiprocess: Literal["livesum", "livemax", "max"] = "livesum"


def _d(name: str, kind: Kind, text: str, *labels: tuple[str, tuple[str, ...] | None]) -> Description:
    return Description(name, kind, text, labels)


CATALOGUE: Final = {
    one.name: one
    for one in (
        _d("relay_requests_total", "counter", "Requests answered.",
           ("route", ROUTES), ("status_class", STATUS_CLASSES), ("outcome", OUTCOMES)),
        Description("relay_request_seconds", "histogram", "From the request's head to the end of its answer.",
                    (("route", ROUTES),), _REQUEST_BUCKETS),
        Description("relay_inflight", "gauge", "Model calls in work."),
        Description("relay_streams", "gauge", "Attempts at the upstream in work, streams included."),
        _d("relay_attempts_total", "counter", "Attempts at the upstream, by what came of them.",
           ("outcome", ATTEMPT_OUTCOMES)),
        _d("relay_retries_total", "counter", "Decisions after a failed attempt, or when no account was there.",
           ("verb", RETRY_VERBS)),
        Description("relay_upstream_ttfb_seconds", "histogram", "From the start of an attempt to its first event.",
                    buckets=_TTFB_BUCKETS),
        _d("relay_stream_end_total", "counter", "Streams that began, by why they ended.", ("reason", END_REASONS)),
        _d("relay_events_total", "counter", "Server-sent events relayed."),
        _d("relay_tokens_total", "counter", "Tokens that the upstream reported.", ("kind", TOKEN_KINDS)),
        _d("relay_shed_total", "counter", "Requests refused before an attempt.", ("reason", SHED_REASONS)),
        _d("relay_refresh_total", "counter", "Token refreshes, by result.", ("result", REFRESH_RESULTS)),
        _d("relay_alerts_total", "counter", "What a person should see, by kind.", ("kind", ALERT_KINDS)),
        _d("relay_webhooks_total", "counter", "Webhook messages, by what came of a try.", ("result", WEBHOOK_RESULTS)),
        Description("relay_breaker_state", "gauge", "Breaker of an account: 0 closed, 1 half open, 2 open.",
                    (("account_ref", None),), multiprocess="livemax"),
        Description("relay_pool_accounts", "gauge", "Accounts by state, as the worker that sees most counts them.",
                    (("state", POOL_STATES),), multiprocess="livemax"),
        _d("relay_desync_total", "counter", "Upstream connections dropped because bytes came that nobody asked for."),
        _d("relay_upstream_seq_anomaly_total", "counter", "Streams whose sequence numbers were not in order."),
        _d("relay_audit_dropped_total", "counter", "Audit records lost because the queue was full."),
        _d("relay_log_dropped_total", "counter", "Log lines lost because nobody read them."),
        Description("relay_loop_lag_seconds", "gauge", "Worst delay of the event loop within a minute.",
                    multiprocess="livemax"),
        Description("relay_hot_store_degraded", "gauge", "1 while the shared hot state cannot be reached.",
                    multiprocess="livemax"),
        Description("relay_build_info", "gauge", "1; the label is the version.", (("version", None),),
                    multiprocess="max"),
    )
}  # fmt: skip


def account_ref(account_id: str) -> str:
    """The pseudonym of an account in metrics: 8 hex digits, the same in every worker and after a restart."""
    return hashlib.sha256(b"account_ref:" + account_id.encode()).hexdigest()[:8]


class Tally:
    """A counter with one closed label, or none.

    Counting is an addition to a number of ours; :meth:`fold` hands on what has come since. The numbers only grow and
    are never swapped away, so that a fold on another thread loses nothing; folds themselves exclude each other.
    """

    __slots__ = ("_children", "_counted", "_handed", "_other")

    def __init__(self, description: Description, registry: CollectorRegistry) -> None:
        names = [label for label, _ in description.labels]
        counter = Counter(description.name, description.help, names, registry=registry)
        self._counted: dict[str, float] = {}
        self._handed: dict[str, float] = {}
        if not names:
            self._children: dict[str, Callable[[float], None]] = {}
            self._other: Callable[[float], None] = counter.inc
            return
        values = description.labels[0][1] or ()
        self._children = {value: counter.labels(value).inc for value in values}
        self._other = counter.labels(OTHER).inc

    def inc(self, value: str = "", amount: float = 1) -> None:
        """Adds to the series of ``value``; to ``other`` when it is none of the set."""
        counted = self._counted
        if value not in counted and value not in self._children:
            value = OTHER
        counted[value] = counted.get(value, 0) + amount

    def fold(self) -> None:
        """Hands on what was counted since the last call."""
        for value, total in list(self._counted.items()):
            new = total - self._handed.get(value, 0)
            if new:
                self._handed[value] = total
                self._children.get(value, self._other)(new)


class Spread:
    """One series of a histogram, counted as :class:`Tally` counts: our numbers that only grow, given on by ``fold``.

    The library has no call for many observations at once, so its buckets are added to directly; a test compares the
    exposition with one that was observed value by value.
    """

    __slots__ = ("_bounds", "_child", "_counts", "_handed", "_handed_sum", "_sum")

    def __init__(self, child: Histogram) -> None:
        self._child: Any = child
        self._bounds: list[float] = self._child._upper_bounds
        self._counts = [0] * len(self._bounds)
        self._handed = [0] * len(self._bounds)
        self._sum = self._handed_sum = 0.0

    def observe(self, amount: float) -> None:
        """Counts one value, at least 0 and not NaN."""
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def fold(self) -> None:
        """Hands on what was counted since the last call."""
        for at, total in enumerate(self._counts):
            if total != self._handed[at]:
                self._child._buckets[at].inc(total - self._handed[at])
                self._handed[at] = total
        total_sum = self._sum
        if total_sum != self._handed_sum:
            self._child._sum.inc(total_sum - self._handed_sum)
            self._handed_sum = total_sum


class Metrics:
    """All series of one process. Built once by the composition root; a test builds its own over a fresh registry."""

    def __init__(self, registry: CollectorRegistry | None = None, *, version: str = "0") -> None:
        self._registry = registry or CollectorRegistry()
        self._directory = os.environ.get(MULTIPROC_ENV)
        self._tallies: list[Tally] = []
        self._folding = threading.Lock()
        self._counted_requests: dict[tuple[str, int, str], int] = {}
        self._handed_requests: dict[tuple[str, int, str], int] = {}
        self.attempts = self._tally("relay_attempts_total")
        self.retries = self._tally("relay_retries_total")
        self.stream_end = self._tally("relay_stream_end_total")
        self.events = self._tally("relay_events_total")
        self.tokens = self._tally("relay_tokens_total")
        self.shed = self._tally("relay_shed_total")
        self.refresh = self._tally("relay_refresh_total")
        self.alerts = self._tally("relay_alerts_total")
        self.webhooks = self._tally("relay_webhooks_total")
        self.desync = self._tally("relay_desync_total")
        self.seq_anomaly = self._tally("relay_upstream_seq_anomaly_total")
        self.audit_dropped = self._tally("relay_audit_dropped_total")
        self.log_dropped = self._tally("relay_log_dropped_total")
        self.inflight = self._gauge("relay_inflight")
        self.streams = self._gauge("relay_streams")
        self.loop_lag = self._gauge("relay_loop_lag_seconds")
        self.hot_store_degraded = self._gauge("relay_hot_store_degraded")
        self.ttfb = Spread(self._histogram("relay_upstream_ttfb_seconds"))
        self._breaker = self._gauge("relay_breaker_state")
        self._breaker_refs: dict[str, str] = {}
        pool = self._gauge("relay_pool_accounts")
        self._pool = {state: pool.labels(state) for state in POOL_STATES}
        self._requests = self._counter("relay_requests_total")
        seconds = self._histogram("relay_request_seconds")
        self._seconds = {route: Spread(seconds.labels(route)) for route in (*ROUTES, OTHER)}
        self._gauge("relay_build_info").labels(version).set(1)

    def request(self, route: str, status: int, outcome: str, seconds: float) -> None:
        """One answered request. ``route`` is a word of ROUTES, ``outcome`` one of OUTCOMES."""
        key = (
            route if route in self._seconds else OTHER,
            status // 100 if 100 <= status < 600 else 0,
            outcome if outcome in _OUTCOMES else OTHER,
        )
        counted = self._counted_requests
        counted[key] = counted.get(key, 0) + 1
        self._seconds[key[0]].observe(seconds)

    def usage(self, input_tokens: int, cached_tokens: int, output_tokens: int, reasoning_tokens: int) -> None:
        """The token counts of one answer; zeros cost nothing."""
        for kind, amount in zip(
            TOKEN_KINDS, (input_tokens, cached_tokens, output_tokens, reasoning_tokens), strict=True
        ):
            if amount > 0:
                self.tokens.inc(kind, amount)

    def breaker(self, account_id: str, state: str) -> None:
        """The breaker of an account is now ``closed``, ``half_open`` or ``open``."""
        ref = self._breaker_refs.get(account_id)
        if ref is None:
            ref = account_ref(account_id) if len(self._breaker_refs) < MAX_ACCOUNT_REFS else OTHER
            if ref != OTHER:
                self._breaker_refs[account_id] = ref
        self._breaker.labels(ref).set(BREAKER_STATES.get(state, 0))

    def pool(self, counts: dict[str, int]) -> None:
        """How many accounts are in each state of POOL_STATES; absent states are 0."""
        for state, child in self._pool.items():
            child.set(counts.get(state, 0))

    def fold(self) -> None:
        """Hands what was counted to the registry: before each look at it, and now and then for the other workers."""
        with self._folding:
            for tally in self._tallies:
                tally.fold()
            for spread in (self.ttfb, *self._seconds.values()):
                spread.fold()
            for key, total in list(self._counted_requests.items()):
                new = total - self._handed_requests.get(key, 0)
                if new:
                    self._handed_requests[key] = total
                    status_class = f"{key[1]}xx" if key[1] else OTHER
                    self._requests.labels(key[0], status_class, key[2]).inc(new)

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type. With several workers it reads their files: call it off the loop."""
        self.fold()
        registry = self._registry
        if self._directory is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def _tally(self, name: str) -> Tally:
        tally = Tally(CATALOGUE[name], self._registry)
        self._tallies.append(tally)
        return tally

    def _counter(self, name: str) -> Counter:
        one = CATALOGUE[name]
        return Counter(one.name, one.help, [label for label, _ in one.labels], registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        one = CATALOGUE[name]
        labels = [label for label, _ in one.labels]
        return Gauge(one.name, one.help, labels, registry=self._registry, multiprocess_mode=one.multiprocess)

    def _histogram(self, name: str) -> Histogram:
        one = CATALOGUE[name]
        labels = [label for label, _ in one.labels]
        return Histogram(one.name, one.help, labels, registry=self._registry, buckets=one.buckets)


def mark_dead(pid: int, directory: str | Path) -> None:
    """Forgets the live gauges of a worker that is gone; what it counted stays."""
    for path in Path(directory).glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
