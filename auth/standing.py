"""When does an account's record say that it needs a new login?

A refused refresh token does not end the access token: the account keeps serving until that dies or is refused. So the
record first carries only the reason, and becomes ``needs_reauth`` when nothing serves any more. Both are
compare-and-put; a change that somebody else makes meanwhile is read and kept.
"""

from __future__ import annotations

from dataclasses import replace

from auth.hooks import RefreshHooks
from store.base import AccountStore
from store.errors import Conflict, NotFound, StoreError
from store.records import Account, AccountStatus

TRIES = 5
MAX_REASON = 300


class Standing:
    """Writes the status of accounts. One per process."""

    def __init__(self, store: AccountStore, hooks: RefreshHooks) -> None:
        self._store = store
        self._hooks = hooks

    async def refused(self, account_id: str, reason: str, dead: bool) -> bool:
        """Puts the reason on record, and ``needs_reauth`` when the access token is ``dead`` too.

        Returns whether the store holds it now; False when it did not answer: it is tried again at the next occasion.
        """
        for _ in range(TRIES):
            try:
                account = await self._store.account(account_id)
                if account is None:
                    return True
                wanted = _wanted(account, reason, dead)
                if wanted == account:
                    return True
                self._hooks.changed(await self._store.put_account(wanted, account.version))
            except Conflict:
                continue
            except NotFound:
                return True
            except StoreError:
                return False
            return True
        return False


def _wanted(account: Account, reason: str, dead: bool) -> Account:
    if account.status is AccountStatus.NEEDS_REAUTH:
        return account
    if dead:
        return replace(account, status=AccountStatus.NEEDS_REAUTH, status_reason=reason[:MAX_REASON])
    return replace(account, status_reason=f"{reason}; serves until its access token ends"[:MAX_REASON])
