"""When an account's record asks for a new login."""

from __future__ import annotations

from auth.standing import MAX_REASON, Standing
from store.errors import Conflict, StoreUnavailable
from store.memory import MemoryStore
from store.records import Account, AccountStatus
from tests.auth.rig import Reports
from tests.fakes.clock import FakeClock
from tests.fakes.logins import account, credential


class Awkward(MemoryStore):
    """Somebody else writes the account first, or nobody can."""

    conflicts = 0
    locked = False

    async def put_account(self, account: Account, expected_version: int) -> Account:
        if self.locked:
            raise StoreUnavailable("locked")
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("changed")
        return await super().put_account(account, expected_version)


async def made() -> tuple[Awkward, Standing, Reports]:
    store, reports = Awkward(FakeClock()), Reports()
    await store.add_account(account(), credential(account(), 0.0))
    return store, Standing(store, reports.hooks()), reports


async def test_a_living_access_token_keeps_the_account_active_with_the_reason_on_record() -> None:
    store, standing, reports = await made()
    assert await standing.refused("acc_1", "refused", False)
    assert await standing.refused("acc_1", "refused", False)
    kept = await store.account("acc_1")
    assert kept is not None
    assert kept.status is AccountStatus.ACTIVE
    assert kept.status_reason == "refused; serves until its access token ends"
    assert len(reports.changed) == 1


async def test_a_dead_one_makes_it_need_a_login_once() -> None:
    store, standing, reports = await made()
    store.conflicts = 2
    for _ in range(3):
        assert await standing.refused("acc_1", "x" * 1000, True)
    kept = await store.account("acc_1")
    assert kept is not None
    assert kept.status is AccountStatus.NEEDS_REAUTH
    assert len(kept.status_reason or "") == MAX_REASON
    assert reports.changed == [kept]


async def test_a_store_that_does_not_answer_is_told_apart_and_a_removed_account_is_no_matter() -> None:
    store, standing, _ = await made()
    store.locked = True
    assert not await standing.refused("acc_1", "refused", True)
    assert await standing.refused("acc_none", "refused", True)
