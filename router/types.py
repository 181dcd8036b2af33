"""The words of routing: what is asked, what is known of an account, what came of an attempt.

Pure data; no I/O, no HTTP. Faults are attributed before they come here: an Outcome says whose fault it was, and
only account faults (and model faults, for that model) make an account rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec


class Cause(StrEnum):
    """Why something rests. A closed set: these are metric labels and HealthRecord causes."""

    USAGE_LIMIT = "usage_limit"  # the plan's window is full; the reset is known
    RATE_LIMITED = "rate_limited"  # throttled, with a time to come back
    RATE_LIMITED_BARE = "rate_limited_bare"  # throttled without one: escalating backoff
    OVERLOADED = "overloaded"
    BROKEN = "broken"  # strikes: resets, timeouts, 5xx
    AUTH = "auth"  # the credential does not work and could not be refreshed
    BLOCKED = "blocked"  # refused by country, workspace or policy
    MODEL = "model"  # the plan lacks the model
    ROUTE = "route"  # nobody's account: DNS, refused, TLS, Cloudflare
    RESERVE = "reserve"


class OutcomeKind(StrEnum):
    OK = "ok"
    RATE_LIMITED = "rate_limited"
    AUTH = "auth"  # 401: the access token was refused
    OVERLOADED = "overloaded"  # 503/529 or an overload code inside a 200 stream
    BROKEN = "broken"  # connection lost, 5xx, timeout before an answer: a strike
    BLOCKED = "blocked"  # 402/403 with an account or workspace reason
    MODEL = "model"  # this account may not use this model
    ROUTE = "route"  # nobody's account
    FOREIGN = "foreign"  # invalid_encrypted_content: the turn holds another account's reasoning
    CLIENT_ERROR = "client_error"  # the request itself is at fault (400, 404, 413, 422)
    CANCELLED = "cancelled"  # the client left; nobody is blamed


ACCOUNT_SCOPE = "account"


def model_scope(model: str) -> str:
    """The scope of a block that holds for one model of an account."""
    return f"model:{model}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to.

    ``retry_after_s`` is relative, ``resets_at_s`` Unix; either may be None (bare). ``authoritative`` says that the
    time came from a body or header about the plan's window, and may be shown to a client. ``scope`` is
    ``account`` or ``model:<slug>``. ``cause`` overrides the default cause of the kind. ``sent``: the request may
    have reached the upstream. ``evidence`` is short, redacted and safe to print. ``after_refresh`` (AUTH only): a
    credential that had just been refreshed was refused too, or it cannot be refreshed; then the account's breaker
    opens at once, while an AUTH without it is one strike.
    """

    kind: OutcomeKind
    scope: str = ACCOUNT_SCOPE
    cause: Cause | None = None
    evidence: str = ""
    status: int | None = None
    sent: bool = True
    retry_after_s: float | None = None
    resets_at_s: float | None = None
    authoritative: bool = False
    plan_type: str | None = None
    after_refresh: bool = False


OK = Outcome(OutcomeKind.OK)
CANCELLED = Outcome(OutcomeKind.CANCELLED)


class RouteQuery(msgspec.Struct, frozen=True):
    """All that the router may know of a request. (A Struct: one is made per attempt, at a fifth of the price.)

    ``affinity`` is a tenant-salted digest or None. ``owner`` is the account that the turn's encrypted parts belong
    to: a constraint, unless None. ``pools`` empty: every pool. ``excluded`` accounts were tried already.
    ``deadline_s`` is monotonic.
    """

    model: str
    affinity: bytes | None = None
    owner: str | None = None
    pools: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    deadline_s: float = float("inf")


class NoAccountReason(StrEnum):
    NONE_CONFIGURED = "none_configured"  # no account at all, or none in these pools
    EXHAUSTED = "exhausted"  # all that could serve are cooling after usage or rate limits
    UNUSABLE = "unusable"  # all disabled or in need of a login; with retry_after_s: resting after faults of their own
    BUSY = "busy"  # all that could serve are at their concurrency limit
    OWNER_OUT = "owner_out"  # the owner cannot serve; another could, without its reasoning
    MODEL_UNAVAILABLE = "model_unavailable"  # no account has the model
    ROUTE_DOWN = "route_down"  # the global breaker is open
    EXCLUDED = "excluded"  # every account that could serve has been tried


class NoAccount(Exception):
    """No account can take the query now. Nothing was sent.

    ``retry_after_s``: when it is worth coming back (None: unknown). ``resets_at_s``: the earliest authoritative
    reset, for EXHAUSTED only. ``plan_type``: of the account that resets first.
    """

    def __init__(
        self,
        reason: NoAccountReason,
        *,
        retry_after_s: float | None = None,
        resets_at_s: float | None = None,
        plan_type: str | None = None,
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.resets_at_s = resets_at_s
        self.plan_type = plan_type


class RetryVerb(StrEnum):
    REFRESH_SAME = "refresh_same"  # refresh the credential, then the same account once more
    SAME = "same"  # the same account on a new connection (a reused one was dead)
    NEXT_ACCOUNT = "next_account"
    STRIP_AND_MOVE = "strip_and_move"  # drop foreign reasoning, then any account
    WAIT = "wait"  # every account rests, one comes back within seconds
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class RetryAction:
    """What to do next. ``charged``: take one from the retry budget, this retry could amplify an overload."""

    verb: RetryVerb
    wait_s: float = 0.0
    charged: bool = False


GIVE_UP = RetryAction(RetryVerb.GIVE_UP)


@dataclass(frozen=True, slots=True)
class RetryState:
    """Where the request stands when an attempt has failed; ``attempt`` counts from 1.

    ``reused_connection``: the failed attempt used a pooled connection and got no byte back.
    ``budget``: the fleet-wide retry budget admits one more. ``route_attempts``: route faults so far, this one
    included. ``waited_s``: seconds already spent in WAIT.
    """

    attempt: int
    max_attempts: int
    committed: bool
    now_s: float
    deadline_s: float
    refreshed: bool = False
    stripped: bool = False
    reconnected: bool = False
    reused_connection: bool = False
    budget: bool = True
    route_attempts: int = 0
    waited_s: float = 0.0


class AccountState(StrEnum):
    """How an account stands, in one word; a closed set (metric labels)."""

    OK = "ok"
    COOLING = "cooling"
    OPEN = "open"
    HALF_OPEN = "half_open"
    DISABLED = "disabled"
    NEEDS_REAUTH = "needs_reauth"


class Window(Protocol):
    """One rate-limit window as an upstream reports it; structural, so that the router knows no upstream type."""

    @property
    def name(self) -> str: ...
    @property
    def used_percent(self) -> float: ...
    @property
    def window_minutes(self) -> int | None: ...
    @property
    def resets_at_s(self) -> float | None: ...


class Moment(NamedTuple):
    """One instant on both clocks: ``mono_s`` for waiting and judging, ``wall_s`` (Unix) for what is stored or shown."""

    mono_s: float
    wall_s: float

    def to_mono(self, wall_s: float) -> float:
        return self.mono_s + (wall_s - self.wall_s)

    def to_wall(self, mono_s: float) -> float:
        return self.wall_s + (mono_s - self.mono_s)


@dataclass(frozen=True, slots=True)
class PoolRules:
    """The settings' values that routing rests on; the names are those of the ``[router]`` section.

    ``per_account_concurrency`` is this worker's share (0: no limit). ``takeover_s``: so long other workers wait for
    the verdict of the one that may probe first. ``placements_max``: most affinity keys, and most owners, in memory.
    """

    breaker_failures: int = 5
    breaker_open_s: float = 30.0
    breaker_open_max_s: float = 900.0
    breaker_successes: int = 2
    cooldown_base_s: float = 5.0
    cooldown_max_s: float = 7 * 86_400.0
    probe_interval_s: float = 300.0
    affinity_ttl_s: float = 3600.0
    owner_ttl_s: float = 7 * 86_400.0
    per_account_concurrency: int = 0
    policy: str = "round_robin"
    reserve_percent: float = 0.0
    takeover_s: float = 5.0
    placements_max: int = 100_000
