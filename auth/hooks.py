"""Who is told what happens to the accounts' tokens?

Plain callables, so that metrics, logs, alerts and the audit log stay outside. They are called on the event loop, must
not block and must not raise. Nothing that they are given is secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from store.records import Account


class RefreshEvent(StrEnum):
    """What came of a refresh: a closed set, fit for a metric label."""

    REFRESHED = "refreshed"
    ADOPTED = "adopted"  # another process (or the spool) had newer tokens
    TRANSIENT = "transient"  # not rotated; the token is as good as before
    UNCERTAIN = "uncertain"  # sent, and no answer
    REPLAYED = "replayed"  # a token of unknown outcome is sent once more
    PERMANENT = "permanent"  # refused for good
    PERSIST_CONFLICT = "persist_conflict"  # a newer login overruled the refresh
    PERSIST_FAILED = "persist_failed"  # the store did not take the new tokens at once
    MISMATCH = "mismatch"  # the issuer answered with another account's tokens


def _no_event(event: str, account_id: str) -> None:
    return None


def _no_alert(kind: str, account_id: str, message: str) -> None:
    return None


def _no_account(account: Account) -> None:
    return None


@dataclass(frozen=True, slots=True)
class RefreshHooks:
    """``event``: one word of RefreshEvent and the account id, for metrics and the log. ``alert``: something a person
    should see, once per occasion. ``changed``: an account record as it was just written (for the audit log and the
    router's snapshot)."""

    event: Callable[[str, str], None] = _no_event
    alert: Callable[[str, str, str], None] = _no_alert
    changed: Callable[[Account], None] = _no_account
