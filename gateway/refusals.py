"""Does the upstream refuse one login, or everybody's?

An account whose fresh token is refused needs a new login, which only a person can give it. An upstream that refuses
everybody for a while looks the same from each account, and must not cost the operator all logins. So the verdict waits
for a witness. Rules that hold:

* an account is condemned when another one is served by an attempt that began after the refusal, at most ``WINDOW_S``
  after it;
* without such a witness nothing goes on record: the account rests by its breaker and is tried again;
* an account that is served itself is cleared.

Pure, no clock: times are monotonic and come in by parameter. At most one entry per account.
"""

from __future__ import annotations

from typing import Final

from store.records import Account

WINDOW_S: Final = 60.0


class Refusals:
    """Accounts whose fresh token was refused lately, waiting for a witness. One per process."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Account, float]] = {}

    def refused(self, account: Account, now_s: float) -> None:
        """A token of ``account`` that had just been refreshed was refused."""
        self._waiting[account.id] = (account, now_s)

    def served(self, account_id: str, started_s: float) -> list[Account]:
        """``account_id`` was served by an attempt that began at ``started_s``: who is condemned by that, each once."""
        waiting = self._waiting
        if not waiting:
            return []
        waiting.pop(account_id, None)
        heard = [entry for entry in waiting.values() if entry[1] <= started_s]
        for account, _ in heard:
            del waiting[account.id]
        return [account for account, refused_s in heard if started_s - refused_s <= WINDOW_S]
