"""How one request has fared so far: what the relay loop asks before an attempt and tells after it.

The loop itself keeps no state: tried accounts, the rejected credential, whether foreign reasoning has been dropped
and how often the route failed all live here. Decisions are the router's pure functions; this type only remembers
what they need, and carries them out on the request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.adapt import turn_metadata, with_installation, without_foreign_reasoning
from gateway.parse import owner_digest
from gateway.types import Dialect, RelayRequest
from ops.clock import Clock
from router.retry import RetryBudget
from router.types import Outcome, OutcomeKind, RetryAction, RetryState, RetryVerb, RouteQuery
from store.records import Account, Credential
from upstream.errors import UpstreamError
from upstream.types import RawHeaders, UpstreamRequest

TURN_STATE = b"x-codex-turn-state"
TURN_METADATA = b"x-codex-turn-metadata"
_NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class Journey:
    """One request under way. ``owners`` maps the digests of its encrypted parts to the accounts that made them, as
    far as they are known; ``attempt`` counts from 1."""

    request: RelayRequest
    owners: dict[bytes, str]
    max_attempts: int
    budget: RetryBudget
    clock: Clock
    attempt: int = 0
    tried: set[str] = field(default_factory=set)
    innocent: set[str] = field(default_factory=set)
    pinned: str | None = None
    rejected: Credential | None = None
    stripped: bool = False
    reconnected: bool = False
    route_attempts: int = 0
    waited_s: float = 0.0
    moved: bool = False
    last_error: Exception | None = None

    def query(self) -> RouteQuery:
        """What the router needs to pick an account for the next attempt."""
        request = self.request
        return RouteQuery(
            model=request.model,
            affinity=request.affinity,
            owner=self.pinned or self._owner(),
            pools=request.caller.pools,
            excluded=frozenset(self.tried) if self.tried else _NOBODY,
            deadline_s=request.deadline_s,
        )

    def _owner(self) -> str | None:
        """The account of the newest part whose owner is known."""
        if self.owners and not self.stripped:
            for digest in self.request.owners:
                if (account_id := self.owners.get(digest)) is not None:
                    return account_id
        return None

    def upstream_request(self, account: Account) -> UpstreamRequest:
        """The call as this account must carry it: its installation id, and nothing that another account sealed."""
        request = self.request
        adapted, headers = request.adapted, request.headers
        codex = request.dialect is Dialect.CODEX
        if foreign := self._foreign(account.id):
            adapted = without_foreign_reasoning(adapted, foreign)
            headers = [pair for pair in headers if pair[0] != TURN_STATE or self._digest(pair[1]) not in foreign]
            self.moved = True
        if codex and account.installation_id:
            headers = _with_installation(headers, account.installation_id)
        return UpstreamRequest(
            body=with_installation(adapted, account.installation_id, codex),
            client_headers=headers,
            codex_client=codex,
            request_id=request.id,
            fresh=self.reconnected,
        )

    def _digest(self, value: bytes) -> bytes:
        return owner_digest(self.request.caller.tenant_id, value)

    def _foreign(self, account_id: str) -> frozenset[bytes]:
        """Digests of the parts that ``account_id`` cannot open."""
        if not self.request.owners:
            return frozenset()
        if self.stripped:
            return frozenset(self.request.owners)
        return frozenset(digest for digest, owner in self.owners.items() if owner != account_id)

    def state(self, error: Exception | None = None) -> RetryState:
        """Where the request stands now, for router.retry."""
        return RetryState(
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            committed=False,
            now_s=self.clock.monotonic_s(),
            deadline_s=self.request.deadline_s,
            refreshed=self.rejected is not None,
            stripped=self.stripped or not self.request.owners,
            reconnected=self.reconnected,
            reused_connection=isinstance(error, UpstreamError) and error.reused,
            budget=self.budget.allow(),
            route_attempts=self.route_attempts,
            waited_s=self.waited_s,
        )

    def note(self, account_id: str, outcome: Outcome, error: Exception) -> None:
        """Remembers a failed attempt before the next step is decided."""
        self.last_error = error
        self.route_attempts += outcome.kind is OutcomeKind.ROUTE
        self.pinned = None
        self.tried.add(account_id)
        if outcome.kind is OutcomeKind.ROUTE:
            self.innocent.add(account_id)

    def ask_the_innocent(self) -> bool:
        """When nobody else is left: accounts that met a fault of the route alone may be asked again. Once."""
        innocent, self.innocent = self.innocent, set()
        self.tried -= innocent
        return bool(innocent)

    def follow(self, action: RetryAction, account_id: str = "", credential: Credential | None = None) -> None:
        """Prepares the next attempt as decided; the account stays for REFRESH_SAME and SAME."""
        if action.charged:
            self.budget.spend()
        if action.verb in (RetryVerb.REFRESH_SAME, RetryVerb.SAME):
            self.tried.discard(account_id)
            self.pinned = account_id
            if action.verb is RetryVerb.SAME:
                self.reconnected = True
            else:
                self.rejected = credential
        elif action.verb is RetryVerb.STRIP_AND_MOVE:
            self.stripped = True
            self.tried.discard(account_id)
        elif action.verb is RetryVerb.WAIT:
            self.tried.clear()
            self.waited_s += action.wait_s


def _with_installation(headers: RawHeaders, installation_id: str) -> RawHeaders:
    return [
        (name, turn_metadata(value, installation_id) if name == TURN_METADATA else value) for name, value in headers
    ]
