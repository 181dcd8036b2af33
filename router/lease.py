"""The right to send one attempt to one account, and the duty to say what came of it.

A lease counts as one stream in flight from its making to its release. Rules that hold:

* ``release`` works once; later calls do nothing, so that a ``finally`` may always call it;
* leaving the context without a release is CANCELLED: nobody is blamed;
* ``confirm`` tells that the account answers (the first event is here), long before the stream ends: a trial gets its
  verdict then, and others may use the account again. It gives nothing back and may be left out.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from router.roster import Member
from router.types import CANCELLED, Outcome
from store.records import Account


class Lender(Protocol):
    """The pool, as a lease sees it."""

    def settle(self, lease: Lease, outcome: Outcome) -> None: ...
    def confirm(self, lease: Lease) -> None: ...


class Lease:
    """Made by AccountPool.lease(). ``account`` is as it was then; ``started_s`` is monotonic."""

    __slots__ = ("_lender", "_open", "account", "member", "model", "route_probe", "slots", "started_s")

    def __init__(
        self, member: Member, model: str, started_s: float, slots: tuple[str, ...], route_probe: bool, lender: Lender
    ) -> None:
        self.account: Account = member.account
        self.member = member
        self.model = model
        self.started_s = started_s
        self.slots = slots
        self.route_probe = route_probe
        self._lender = lender
        self._open = True

    @property
    def probe(self) -> bool:
        """The account or the route is on trial by this lease."""
        return bool(self.slots) or self.route_probe

    @property
    def released(self) -> bool:
        return not self._open

    def confirm(self) -> None:
        """The first event has come. Does nothing after a release."""
        if self._open:
            self._lender.confirm(self)

    def release(self, outcome: Outcome) -> None:
        """The verdict; the stream is no longer in flight. Never raises for an account that is gone."""
        if self._open:
            self._open = False
            self._lender.settle(self, outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(CANCELLED)

    def __repr__(self) -> str:
        return f"<Lease {self.account.id} {'open' if self._open else 'released'}>"
