"""Who may begin, finish or abandon a refresh? The rules, apart from where the records rest.

A claim is alive while its row carries its fence and its time is not up; fences of a store only rise, over all
scopes, so the claim with the higher fence is the later one. An intent carries the fence of the exchange that it
announces.

* begin: the claim is alive, and the token that will be sent is the stored one;
* finish: no later exchange was announced. The claim itself may be over: the exchange has happened;
* abandon: the intent is this claim's own. When it is gone, somebody stored newer tokens, and a mark would hit those.

Pure; both backends use it, so they cannot drift apart.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from store.errors import Conflict, NotFound
from store.records import Claim, Credential, RefreshIntent, RefreshState, Secret


def token_digest(token: Secret) -> str:
    """What an intent says of a refresh token: hex SHA-256."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()


def begun(
    held: Claim | None,
    claim: Claim,
    stored: Credential | None,
    open_intent: RefreshIntent | None,
    digest: str,
    now_s: float,
) -> RefreshIntent:
    """The intent to write. Raises NotFound without a credential, Conflict when the claim or the token is stale."""
    if stored is None:
        raise NotFound("the account has no credential")
    if held is None or held.fence != claim.fence or held.expires_at_s <= now_s:
        raise Conflict("the claim on the refresh is no longer held")
    if stored.refresh_token is None or not hmac.compare_digest(token_digest(stored.refresh_token), digest):
        raise Conflict("the stored refresh token is another one")
    if open_intent is not None and hmac.compare_digest(open_intent.token_digest, digest):
        return replace(open_intent, fence=claim.fence, replays=open_intent.replays + 1)
    return RefreshIntent(stored.account_id, digest, claim.fence, now_s)


def check_finish(open_intent: RefreshIntent | None, claim: Claim) -> None:
    """Raises Conflict when a later exchange of this account was announced."""
    if open_intent is not None and open_intent.fence > claim.fence:
        raise Conflict("a later refresh of this account has begun")


def check_abandon(open_intent: RefreshIntent | None, claim: Claim, state: str | None) -> bool:
    """Whether there is something to do. Raises Conflict when the intent is another claim's, or gone under a mark."""
    if open_intent is None and state is None:
        return False
    if open_intent is None or open_intent.fence != claim.fence:
        raise Conflict("the refresh of this account was overtaken")
    return True


def keeps_intent(state: RefreshState | None) -> bool:
    """An unknown outcome stays on record until the token is replaced."""
    return state is RefreshState.UNCERTAIN
