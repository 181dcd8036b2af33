"""What a request leaves behind: one log line, a few counters, one audit record. Never content.

Called synchronously at the end of each request, so that nothing can come between; each of the three only puts
something into memory.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger

from gateway.exchange import Exchange
from ops.audit import AuditLog
from ops.clock import Clock
from ops.log import summary_of
from ops.metrics import Metrics
from ops.usage import UsageBook
from router.pool import AccountPool
from router.types import AccountState, Outcome
from store.records import AuditRecord
from upstream.pool import ConnectionPool

QUIET_ROUTES = frozenset({"healthz", "readyz", "metrics"})
_OUTCOMES = {
    "invalid_api_key": "unauthenticated",
    "not_configured": "unauthenticated",
    "rate_limited": "limited",
    "overloaded": "shed",
    "draining": "shed",
    "usage_limit_reached": "no_account",
    "no_accounts": "no_account",
}
_POOL_WORDS = {AccountState.OK: "ready"}  # as the command line says it
_BREAKING = frozenset({AccountState.OPEN, AccountState.HALF_OPEN})
_ATTEMPT_WORDS = {
    "completed": "ok",
    "incomplete": "ok",
    "upstream_failed": "ok",  # what the response came to is the client's business, the attempt was good
    "client_gone": "cancelled",
    "client_stalled": "cancelled",
    "draining": "cancelled",
    "revoked": "cancelled",
}
"""What the end of a stream says of its attempt; every other end is the fault's own word."""
_PATH_CHARS = 200
_FOREIGN = ("model", "path", "tenant", "account")
"""Fields of the line whose text is not ours: what clients, operators and upstreams named."""
_LOOKED_AT = frozenset({"admin", "console", "tasks"})
_FOR_A_PERSON = frozenset({"upstream_blocked", "redirect"})
"""Faults that no retry mends: the edge blocks our network, or the backend has moved."""


class Observer:
    """Feeds log, metrics and audit; satisfies the observer Protocols of the loop, the frames and the background."""

    def __init__(
        self,
        log: FilteringBoundLogger,
        metrics: Metrics,
        audit: AuditLog | None,
        clock: Clock,
        tell: Callable[[str, str, str], None] | None = None,
    ) -> None:
        """``tell`` hears every alert (kind, account id, message) besides the log."""
        self._log = log
        self._summary = summary_of(log)
        self._tell = tell
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self.book: UsageBook | None = None
        """Counts use by account, tenant, key and model; None: nobody asks for it."""
        self._breakers: dict[str, str] = {}
        self._desyncs = 0
        self._dropped = 0

    def attempt(self, exchange: Exchange, account_id: str, outcome: Outcome, fault: str, verb: str) -> None:
        """One failed attempt: its fault in one word, what came of it, and what follows."""
        self._metrics.attempts.inc(fault)
        self._metrics.retries.inc(verb)
        if fault in _FOR_A_PERSON:
            self.alert(fault, account_id, outcome.evidence)
        self._log.info(
            "attempt_failed",
            request_id=exchange.id,
            account=account_id,
            attempt=exchange.attempts,
            fault=fault,
            outcome=outcome.kind.value,
            evidence=outcome.evidence,
            upstream_status=outcome.status,
            next=verb,
        )

    def no_account(self, exchange: Exchange, reason: str, verb: str) -> None:
        """Nobody could take the next attempt: why, and what follows."""
        self._metrics.retries.inc(verb)
        self._log.info("no_account", request_id=exchange.id, attempts=exchange.attempts, reason=reason, next=verb)

    def finished(self, exchange: Exchange) -> None:
        """The end of a request, whatever it was."""
        now_s = self._clock.monotonic_s()
        took_s = now_s - exchange.started_s
        self._count(exchange, took_s)
        if exchange.route in QUIET_ROUTES:
            return
        caller, usage = exchange.caller, exchange.usage
        if self._summary is not None:
            self._summary("request", _line(exchange, took_s), _FOREIGN)
        else:
            self._log.info("request", **_line(exchange, took_s))
        if self.book is not None and exchange.account_id is not None and caller is not None:
            names = (exchange.account_id, caller.tenant_id, caller.key_id, exchange.model or "")
            self.book.count(
                names,
                failed=exchange.error_code is not None,
                input_tokens=usage.input_tokens if usage else 0,
                output_tokens=usage.output_tokens if usage else 0,
            )
        if self._audit is not None and not _only_looks(exchange):
            self._audit.record(
                AuditRecord(
                    at_s=self._clock.now_s(),
                    actor=exchange.actor or (f"key:{caller.key_id}" if caller else "anonymous"),
                    action=f"request.{exchange.route}",
                    outcome=exchange.error_code or exchange.outcome,
                    tenant_id=caller.tenant_id if caller else None,
                    key_id=caller.key_id if caller else None,
                    request_id=exchange.id,
                    target=exchange.account_id,
                    model=exchange.model,
                    input_tokens=usage.input_tokens if usage else None,
                    output_tokens=usage.output_tokens if usage else None,
                    detail=(("status", exchange.status), ("attempts", exchange.attempts)),
                )
            )

    def _count(self, exchange: Exchange, took_s: float) -> None:
        metrics = self._metrics
        metrics.request(exchange.route, exchange.status, outcome_word(exchange), took_s)
        if exchange.end is not None:
            metrics.stream_end.inc(exchange.end)
            metrics.events.inc(amount=exchange.events)
            if exchange.disordered:
                metrics.seq_anomaly.inc()
            metrics.attempts.inc(_ATTEMPT_WORDS.get(exchange.end, exchange.end))
        if exchange.first_event_s is not None:
            metrics.ttfb.observe(exchange.first_event_s - exchange.started_s)
        if (usage := exchange.usage) is not None:
            metrics.usage(usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        """A fault of our own: where, without what (messages may hold content)."""
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
        self._log.error("internal_error", request_id=exchange.id, error=type(error).__name__, where=where)

    def shed(self, reason: str) -> None:
        self._metrics.shed.inc(reason)

    def loop_lag(self, seconds: float) -> None:
        self._metrics.loop_lag.set(seconds)

    def shared_state(self, *, reachable: bool) -> None:
        """Whether the other workers' findings can be read and ours be told."""
        self._metrics.hot_store_degraded.set(0 if reachable else 1)

    def refresh(self, event: str, account_id: str) -> None:
        """One word of RefreshEvent about an account's tokens."""
        self._metrics.refresh.inc(event)
        self._log.info("refresh", account=account_id, result=event)

    def alert(self, kind: str, account_id: str, message: str) -> None:
        """Something that a person should see."""
        self._log.error("alert", kind=kind, account=account_id, message=message)
        if self._tell is not None:
            self._tell(kind, account_id, message)

    def sample(self, pool: AccountPool, connections: ConnectionPool, audit: AuditLog | None, inflight: int) -> None:
        """Readings that nobody reports by himself. ``inflight``: model calls in work."""
        snapshot = pool.snapshot()
        metrics = self._metrics
        metrics.pool({_POOL_WORDS.get(state, state.value): count for state, count in snapshot.counts.items()})
        metrics.inflight.set(inflight)
        metrics.streams.set(snapshot.inflight)
        for one in snapshot.accounts:
            breaker = one.state.value if one.state in _BREAKING else "closed"
            if self._breakers.get(one.account.id, "closed") != breaker:
                self._breakers[one.account.id] = breaker
                metrics.breaker(one.account.id, breaker)
        desyncs = connections.stats.desync_detected
        metrics.desync.inc(amount=desyncs - self._desyncs)
        self._desyncs = desyncs
        if audit is not None:
            metrics.audit_dropped.inc(amount=audit.dropped - self._dropped)
            self._dropped = audit.dropped
        metrics.fold()


def _only_looks(exchange: Exchange) -> bool:
    """A page or a reading that an administrator was given is worth a log line; the audit log is for acts and calls."""
    return exchange.route in _LOOKED_AT and exchange.method in ("GET", "HEAD") and exchange.status < 400


def outcome_word(exchange: Exchange) -> str:
    """The closed word for metrics: whose doing the end of the request was."""
    if exchange.outcome in ("client_gone", "cancelled"):
        return "cancelled"
    if exchange.error_code is None:
        return "ok"
    known = _OUTCOMES.get(exchange.error_code)
    if known == "shed" and exchange.attempts:
        known = "failed"  # the upstream's overload, not ours
    return known or ("client_error" if 400 <= exchange.status < 500 else "failed")


def _line(exchange: Exchange, took_s: float) -> dict[str, Any]:
    caller, usage = exchange.caller, exchange.usage
    line: dict[str, Any] = {
        "request_id": exchange.id,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "duration_ms": round(took_s * 1e3, 2),
    }
    if exchange.route == "none":
        line["path"] = exchange.path[:_PATH_CHARS]
    if caller is not None:
        line["tenant"], line["key"] = caller.tenant_id, caller.key_id
    if exchange.error_code is not None:
        line["error_code"] = exchange.error_code
    if exchange.model is not None:
        line |= {
            "model": exchange.model,
            "stream": exchange.stream,
            "account": exchange.account_id,
            "attempts": exchange.attempts,
            "end": exchange.end,
            "bytes_out": exchange.bytes_out,
        }
        if exchange.first_event_s is not None:
            line["ttfe_ms"] = round((exchange.first_event_s - exchange.started_s) * 1e3, 2)
        if usage is not None:
            line["input_tokens"], line["output_tokens"] = usage.input_tokens, usage.output_tokens
        if exchange.adaptations:
            line["adapted"] = exchange.adaptations
        if exchange.moved:
            line["moved"] = True
    return line
