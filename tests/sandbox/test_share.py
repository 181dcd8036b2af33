"""Links for people without a key: a changed byte, an ended life or a taken-back link leads nowhere."""

from __future__ import annotations

import pytest

from sandbox.share import LONGEST_S, Shares
from store.memory import MemoryStore
from store.records import Document
from tests.fakes.clock import FakeClock

KEY = b"k" * 32


class Counting(MemoryStore):
    """Counts how often it is asked."""

    asked = 0

    async def document(self, kind: str, document_id: str) -> Document | None:
        self.asked += 1
        return await super().document(kind, document_id)


async def test_a_link_leads_to_its_task_until_it_ends() -> None:
    clock = FakeClock()
    shares = Shares(MemoryStore(clock), KEY, clock)
    token, share = await shares.make("t1", "acme", "ann", 3600)
    assert await shares.find(token.reveal()) == share
    assert (share.task_id, share.tenant_id) == ("t1", "acme")
    clock.advance(3600)
    assert await shares.find(token.reveal()) is None


async def test_every_changed_byte_leads_nowhere_without_asking_the_store() -> None:
    clock = FakeClock()
    store = Counting(clock)
    shares = Shares(store, KEY, clock)
    token, _ = await shares.make("t1", "acme", "ann", 3600)
    plain, store.asked = token.reveal(), 0
    for place in range(len(plain)):
        for other in ("A" if plain[place] != "A" else "B", "9" if plain[place] != "9" else "8", "é", ""):
            changed = plain[:place] + other + plain[place + 1 :]
            assert await shares.find(changed) is None or changed == plain
    assert store.asked == 0
    assert await Shares(store, b"o" * 32, clock).find(plain) is None


async def test_a_link_is_taken_back_by_its_own_task_only() -> None:
    clock = FakeClock()
    shares = Shares(MemoryStore(clock), KEY, clock)
    token, share = await shares.make("t1", "acme", "ann", 3600)
    await shares.make("t2", "acme", "ann", 3600)
    assert [one.id for one in await shares.of("t1")] == [share.id]
    assert not await shares.revoke("t2", share.id)
    assert await shares.revoke("t1", share.id)
    assert not await shares.revoke("t1", share.id)
    assert await shares.find(token.reveal()) is None
    assert await shares.of("t1") == ()


@pytest.mark.parametrize("lives_s", [0, -1, LONGEST_S + 1])
async def test_no_link_lives_for_ever(lives_s: float) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="90 days"):
        await Shares(MemoryStore(clock), KEY, clock).make("t1", "acme", "ann", lives_s)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Shares(MemoryStore(), b"short", FakeClock())
