"""How does an account leave: its records first, then its login at the issuer.

Rules that hold:

* the records go first, so that no refresh can begin with a token that was ended;
* ending the login at the issuer is best effort: when it does not work, the tokens are forgotten all the same, and the
  caller is told, so that the owner can end the session himself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from auth.refresh import RefreshStore
from store.records import Secret


class Revoker(Protocol):
    """Whoever can end a login at the issuer. Never raises for what the issuer or the network does."""

    async def revoke(self, refresh_token: Secret) -> bool: ...


@dataclass(frozen=True, slots=True)
class Departure:
    """``removed`` False: there was no such account. ``revoked``: the issuer said that the login has ended."""

    removed: bool
    revoked: bool


async def leave(store: RefreshStore, issuer: Revoker, account_id: str) -> Departure:
    """Removes the account and ends its login. Raises StoreError; then nothing was removed, and nothing revoked.

    Cancelled, the account may be gone without its login having been ended.
    """
    credential = await store.credential(account_id)
    if not await store.remove_account(account_id):
        return Departure(removed=False, revoked=False)
    if credential is None or credential.refresh_token is None:
        return Departure(removed=True, revoked=False)
    return Departure(removed=True, revoked=await issuer.revoke(credential.refresh_token))
