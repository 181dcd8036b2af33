"""A request's attempt has failed, or no account was there: what next?

Pure decisions over where the request stands. Rules that hold:

* nothing is tried again once something was shown to the client (commit), nor past the deadline or the attempts;
* a refused credential: refresh and the same account once, then another; a dead reused connection: the same account
  once; a fault of an account or a model: another account; a fault of the route: two attempts in all;
* foreign reasoning: the request without it, once;
* the retry budget holds back only what can amplify an overload (BROKEN, OVERLOADED, ROUTE). A refusal by quota or
  credential is cheap, is followed by a rest, and must stay unseen while another account is well.

It does not choose the account, sleep, or count; ``RetryBudget`` counts for all requests of one worker.
Source: SRE book ch. 21 (retry budgets), Caddy's tryAgain.
"""

from __future__ import annotations

from collections import deque

from ops.clock import Clock
from router.types import (
    GIVE_UP,
    NoAccount,
    NoAccountReason,
    Outcome,
    OutcomeKind,
    RetryAction,
    RetryState,
    RetryVerb,
)

ROUTE_ATTEMPTS = 2
_NEVER = frozenset({OutcomeKind.OK, OutcomeKind.CLIENT_ERROR, OutcomeKind.CANCELLED})
_CHARGED = frozenset({OutcomeKind.BROKEN, OutcomeKind.OVERLOADED, OutcomeKind.ROUTE})
_WORTH_WAITING = frozenset(
    {NoAccountReason.EXHAUSTED, NoAccountReason.BUSY, NoAccountReason.UNUSABLE, NoAccountReason.OWNER_OUT}
)


def decide(outcome: Outcome, state: RetryState) -> RetryAction:
    """What follows a failed attempt. ``charged`` on the answer: the caller takes one from the budget."""
    kind = outcome.kind
    if kind in _NEVER or state.committed or state.now_s >= state.deadline_s or state.attempt >= state.max_attempts:
        return GIVE_UP
    if kind is OutcomeKind.FOREIGN:
        return GIVE_UP if state.stripped else RetryAction(RetryVerb.STRIP_AND_MOVE)
    if kind is OutcomeKind.AUTH and not state.refreshed and not outcome.after_refresh:
        return RetryAction(RetryVerb.REFRESH_SAME)
    if kind is OutcomeKind.BROKEN and state.reused_connection and not state.reconnected:
        return RetryAction(RetryVerb.SAME)
    if kind is OutcomeKind.ROUTE and state.route_attempts >= ROUTE_ATTEMPTS:
        return GIVE_UP
    charged = kind in _CHARGED
    if charged and not state.budget:
        return GIVE_UP
    return RetryAction(RetryVerb.NEXT_ACCOUNT, charged=charged)


def decide_no_account(no_account: NoAccount, state: RetryState, wait_max_s: float) -> RetryAction:
    """What follows when no account can take the query now.

    WAIT: sleep ``wait_s``, forget which accounts were excluded, and ask again. A wait is offered only when all waits
    of this request together stay within ``wait_max_s`` and the deadline. A route that is down is not waited for:
    the client shall know soon.
    """
    if state.committed or state.now_s >= state.deadline_s:
        return GIVE_UP
    wait_s = no_account.retry_after_s
    if (
        wait_s is not None
        and no_account.reason in _WORTH_WAITING
        and state.waited_s + wait_s <= wait_max_s
        and state.now_s + wait_s < state.deadline_s
    ):
        return RetryAction(RetryVerb.WAIT, wait_s=wait_s)
    if no_account.reason is NoAccountReason.OWNER_OUT and not state.stripped:
        return RetryAction(RetryVerb.STRIP_AND_MOVE)
    return GIVE_UP


class RetryBudget:
    """Charged retries of one worker may be ``ratio`` of its requests over 10 s, plus ``minimum``.

    Counted in slots of one second, so that it costs the same at any rate.
    """

    WINDOW_S = 10

    def __init__(self, ratio: float, minimum: int, clock: Clock) -> None:
        self._ratio = ratio
        self._minimum = minimum
        self._clock = clock
        self._slots: deque[list[int]] = deque()  # [second, requests, retries], oldest first
        self._requests = 0
        self._retries = 0

    def request(self) -> None:
        """One client request has come in."""
        self._slot()[1] += 1
        self._requests += 1

    def allow(self) -> bool:
        """One more retry would stay within the budget. Takes nothing."""
        self._slot()
        return self._retries < self._ratio * self._requests + self._minimum

    def spend(self) -> None:
        """A charged retry is made."""
        self._slot()[2] += 1
        self._retries += 1

    def _slot(self) -> list[int]:
        second = int(self._clock.monotonic_s())
        slots = self._slots
        if slots and slots[-1][0] == second:
            return slots[-1]
        while slots and slots[0][0] <= second - self.WINDOW_S:
            _, requests, retries = slots.popleft()
            self._requests -= requests
            self._retries -= retries
        slots.append([second, 0, 0])
        return slots[-1]
