"""How an account leaves: records first, then the login at the issuer."""

from __future__ import annotations

import pytest

from auth.leaving import Departure, leave
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from store.records import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.logins import account, credential


class Issuer:
    def __init__(self, store: MemoryStore, *, answer: bool = True) -> None:
        self.store = store
        self.answer = answer
        self.ended: list[str] = []

    async def revoke(self, refresh_token: Secret) -> bool:
        assert await self.store.accounts() == ()
        self.ended.append(refresh_token.reveal())
        return self.answer


async def stored() -> MemoryStore:
    clock = FakeClock()
    store = MemoryStore(clock)
    await store.add_account(account(1), credential(account(1), clock.now_s(), refresh="rt_live"))
    return store


@pytest.mark.parametrize("answer", [True, False])
async def test_the_login_is_ended_once_the_records_are_gone(answer: bool) -> None:
    store = await stored()
    issuer = Issuer(store, answer=answer)
    assert await leave(store, issuer, "acc_1") == Departure(removed=True, revoked=answer)
    assert issuer.ended == ["rt_live"]
    assert await leave(store, issuer, "acc_1") == Departure(removed=False, revoked=False)
    assert issuer.ended == ["rt_live"]


async def test_a_store_that_is_away_ends_nothing() -> None:
    class Away(MemoryStore):
        async def remove_account(self, account_id: str) -> bool:
            raise StoreUnavailable("away")

    clock = FakeClock()
    store = Away(clock)
    await store.add_account(account(1), credential(account(1), clock.now_s()))
    issuer = Issuer(store)
    with pytest.raises(StoreUnavailable):
        await leave(store, issuer, "acc_1")
    assert issuer.ended == []
