"""Whose are the sealed parts: learned from what goes down, looked up when they come back, never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.ownership import SECOND_LOOK_S, Ownership
from gateway.parse import owner_digest
from gateway.types import RelayRequest
from router.affinity import AFFINITY, OWNER, Placements
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from tests.fakes.backend import event, make_caller, make_request
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_placement

A, B = owner_digest("t1", b"sealed-a"), owner_digest("t1", b"sealed-b")


class Shared(MemoryStore):
    """Counts what it is asked; may be away."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.asked: list[tuple[str, tuple[bytes, ...]]] = []
        self.away = False

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        self.asked.append((kind, tuple(digests)))
        if self.away:
            raise StoreUnavailable("locked")
        return await super().placements(kind, digests)


class Desk:
    def __init__(self, *, others: bool = False) -> None:
        self.clock = FakeClock()
        self.shared = Shared(self.clock)
        self.placements = Placements(affinity_ttl_s=3600.0, owner_ttl_s=7200.0, most=100)
        self.ownership = Ownership(self.placements, self.shared, self.clock, others=others)

    async def tell(self, kind: str, digest: bytes, account_id: str) -> None:
        """As another worker publishes it."""
        expires_s = self.clock.now_s() + 1000.0
        await self.shared.place([make_placement(digest, account_id, kind=kind, expires_at_s=expires_s)])

    async def owners(self, request: RelayRequest | None = None) -> dict[bytes, str]:
        return await self.ownership.owners_of(request or make_request(owners=[B, A]))

    def learn(self, block: bytes, account_id: str = "a0", tenant: str = "t1") -> None:
        self.ownership.learn(make_request(caller=make_caller(tenant)), account_id, block)


def item(sealed: str, kind: str = "response.output_item.done") -> bytes:
    return event(kind, item='{"type":"reasoning","encrypted_content":"%s"}' % sealed)  # noqa: UP031 - braces are data


async def test_what_went_down_is_known_when_it_comes_up() -> None:
    desk = Desk()
    desk.learn(item("sealed-a") + event("response.output_text.delta", delta='"x"') + item("sealed-b"))
    assert await desk.owners() == {A: "a0", B: "a0"}
    assert desk.shared.asked == [], "the store is asked for what this process has not seen"


async def test_a_tenants_parts_mean_nothing_to_another_tenant() -> None:
    desk = Desk()
    desk.learn(item("sealed-a"), tenant="t2")
    assert await desk.owners() == {}


@pytest.mark.parametrize(
    "block",
    [
        item("sealed-a", "response.output_item.added"),
        item(""),
        event("response.output_item.done", item="null"),
        event("response.output_item.done", item='{"encrypted_content":7}'),
        event("response.output_item.done", item='{"encrypted_content"'),
        b'data: {"type":"response.output_item.done","encrypted_content":"sealed-a"}\n\n',
        b'data: "encrypted_content"\n\n',
        b"",
    ],
)
async def test_what_is_no_finished_sealed_item_teaches_nothing_and_hurts_nobody(block: bytes) -> None:
    desk = Desk()
    desk.learn(block)
    assert desk.placements.sizes() == (0, 0)


async def test_a_turn_state_binds_as_a_sealed_part_does() -> None:
    desk = Desk()
    headers = [(b"date", b"now"), (b"x-codex-turn-state", b"sealed-a")]
    desk.ownership.learn_turn_state(make_request(), "a1", headers)
    assert await desk.owners() == {A: "a1"}


async def test_what_another_worker_learned_is_looked_up_once_and_kept() -> None:
    desk = Desk()
    await desk.tell(OWNER, A, "a1")
    assert await desk.owners() == {A: "a1"}
    assert desk.shared.asked == [(OWNER, (B, A))]
    assert await desk.owners(make_request(owners=[A])) == {A: "a1"}
    assert len(desk.shared.asked) == 1


async def test_only_what_is_missing_is_asked_for() -> None:
    desk = Desk()
    desk.learn(item("sealed-b"))
    await desk.owners()
    assert desk.shared.asked == [(OWNER, (A,))]


async def test_a_request_without_sealed_parts_asks_nobody() -> None:
    desk = Desk()
    assert await desk.owners(make_request(affinity=b"c")) == {}
    assert desk.shared.asked == []


async def test_a_store_that_is_away_constrains_nothing_and_what_is_known_stays_known() -> None:
    desk = Desk(others=True)
    desk.learn(item("sealed-b"))
    desk.shared.away = True
    assert await desk.owners() == {B: "a0"}
    assert await desk.owners(make_request(affinity=b"c")) == {}


async def test_beside_other_workers_it_looks_a_second_time_for_what_nobody_knows_yet() -> None:
    desk = Desk(others=True)
    task = asyncio.create_task(desk.owners(make_request(owners=[A])))
    await asyncio.sleep(0.001)
    assert len(desk.shared.asked) == 1
    await desk.tell(OWNER, A, "a1")
    desk.clock.advance(SECOND_LOOK_S)
    assert await task == {A: "a1"}
    assert len(desk.shared.asked) == 2


async def test_beside_other_workers_the_wish_of_a_conversation_is_looked_up() -> None:
    desk = Desk(others=True)
    await desk.tell(AFFINITY, b"c", "a2")
    assert await desk.owners(make_request(affinity=b"c")) == {}
    assert desk.placements.wish(b"c", desk.clock.monotonic_s()) == "a2"
    await desk.owners(make_request(affinity=b"c"))
    assert desk.shared.asked == [(AFFINITY, (b"c",))], "known by now"


async def test_an_owner_says_more_than_a_wish() -> None:
    desk = Desk(others=True)
    desk.learn(item("sealed-a"))
    await desk.owners(make_request(owners=[A], affinity=b"c"))
    assert desk.shared.asked == []
