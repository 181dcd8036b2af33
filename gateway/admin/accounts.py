"""``/admin/api/accounts``: the accounts behind the gateway, shown, changed, asked about and removed.

Rules that hold:

* no token is part of any answer; what keeps an account out is told with its evidence and the next step;
* a refresh here takes the same claim and intent as one by a worker: an operator's click cannot burn a login;
* removing takes the account's label as confirmation; its refresh token is given back to the issuer, as well as that
  can be done, and the account is gone whatever the issuer says;
* other workers learn of a change by the store's directory revision.

How an account is described stands in gateway.admin.views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import UNSET

from auth.leaving import Revoker, leave
from gateway.admin import views
from gateway.admin.acts import Acts
from gateway.admin.answers import AccountAnswer, AccountList, RemovedAccount
from gateway.admin.bodies import AccountChange, Confirmation
from gateway.admin.faults import absent
from gateway.admin.probing import probe
from gateway.admin.tenants import must_confirm
from gateway.admin.types import Backend, Call, Handlers, Reply, Tokens
from gateway.admin.usage import WEEK_S
from ops.clock import Clock
from ops.usage import UsageTotal, usage_by
from store.base import Changes, Store
from store.errors import SealBroken
from store.records import Account, Credential


@dataclass(frozen=True, slots=True)
class Outside:
    """Whom the acts on accounts speak to."""

    tokens: Tokens
    backend: Backend
    revoker: Revoker


class Accounts:
    def __init__(self, store: Store, outside: Outside, acts: Acts, clock: Clock) -> None:
        self._store = store
        self._outside = outside
        self._acts = acts
        self._clock = clock

    def handlers(self) -> Handlers:
        return {
            "accounts.list": self.list,
            "accounts.show": self.show,
            "accounts.change": self.change,
            "accounts.probe": self.probe,
            "accounts.refresh": self.refresh,
            "accounts.remove": self.remove,
        }

    async def list(self, _call: Call) -> Reply:
        return Reply(AccountList(items=[*await self.answers(await self._store.accounts())]))

    async def show(self, call: Call) -> Reply:
        return await self._shown(await self._account(call))

    async def change(self, call: Call) -> Reply:
        body: AccountChange = call.body
        old = await self._account(call)
        changes = given(body, ("label", "pool", "weight", "enabled"))
        kept = {name: value for name, value in changes.items() if name != "label"}  # a label may be anything
        async with self._acts.act(call, "account.set", old.id, **kept, relabelled="label" in changes):
            new = await self._store.put_account(replace(old, **changes), body.version or old.version)
        return await self._shown(new)

    async def probe(self, call: Call) -> Reply:
        account = await self._account(call)
        async with self._acts.act(call, "account.probe", account.id) as detail:
            found = await probe(self._store, self._outside.tokens, self._outside.backend, account, self._clock)
            detail.update(allowed=found.report.allowed, ended=len(found.ended))
        return await self._shown(account)

    async def refresh(self, call: Call) -> Reply:
        account = await self._account(call)
        async with self._acts.act(call, "account.refresh", account.id):
            await self._outside.tokens.force(account)
        return await self._shown(await self._store.account(account.id) or account)

    async def remove(self, call: Call) -> Reply:
        body: Confirmation = call.body
        account = await self._account(call)
        must_confirm(body, account.label)
        async with self._acts.act(call, "account.remove", account.id) as detail:
            revoked = detail["revoked"] = await self._leave(account)
        return Reply(RemovedAccount(id=account.id, revoked=revoked))

    async def _leave(self, account: Account) -> bool:
        """Whether the issuer has ended the login. Tokens that do not open are removed and cannot be given back."""
        try:
            return (await leave(self._store, self._outside.revoker, account.id)).revoked
        except SealBroken:
            await self._store.remove_account(account.id)
            return False
        finally:
            self._outside.tokens.invalidate(account.id)

    async def answers(self, accounts: Sequence[Account]) -> tuple[AccountAnswer, ...]:
        """Each account as it stands now."""
        known = await self._store.changes(0)
        used = await usage_by(self._store, "account", self._clock.now_s() - WEEK_S)
        return tuple([await self._answer(one, known, used.get(one.id, UsageTotal())) for one in accounts])

    async def _answer(self, account: Account, known: Changes, used: UsageTotal) -> AccountAnswer:
        now_s = self._clock.now_s()
        shown = views.view(account, await self._credential(account), known.health, known.windows, now_s)
        return views.answer(account, shown, used, now_s)

    async def _credential(self, account: Account) -> Credential | None:
        """None when it does not open: such an account is shown, and can be removed."""
        try:
            return await self._store.credential(account.id)
        except SealBroken:
            return None

    async def _shown(self, account: Account) -> Reply:
        return Reply((await self.answers([account]))[0])

    async def _account(self, call: Call) -> Account:
        account = await self._store.account(call.target)
        if account is None:
            raise absent("account")
        return account


def given(body: msgspec.Struct, names: Sequence[str]) -> dict[str, Any]:
    """The members of ``names`` that the client sent."""
    return {name: value for name in names if (value := getattr(body, name)) is not UNSET}
