"""Conversations stay where they are warm, owners are remembered, and memory is bounded."""

from __future__ import annotations

from router.affinity import Placements
from router.types import Moment
from store.records import Placement

WALL_S = 1_795_000_000.0


def at(mono_s: float) -> Moment:
    return Moment(mono_s, WALL_S + mono_s)


def placements(most: int = 10) -> Placements:
    return Placements(affinity_ttl_s=100.0, owner_ttl_s=1000.0, most=most)


def test_a_wish_lives_its_time_from_the_last_use() -> None:
    """Use prolongs it; without use it ends."""
    one = placements()
    one.place(b"k", "a1", 0.0)
    assert one.wish(b"k", 90.0) == "a1"
    assert one.wish(b"k", 180.0) == "a1"
    assert one.wish(b"k", 281.0) is None
    assert one.sizes() == (0, 0)


def test_the_least_recently_used_goes_first() -> None:
    """The memory holds its bound whatever comes."""
    one = placements(most=3)
    for key in (b"a", b"b", b"c"):
        one.place(key, "a1", 0.0)
    one.wish(b"a", 1.0)
    one.place(b"d", "a1", 2.0)
    assert one.wish(b"b", 3.0) is None
    assert one.wish(b"a", 3.0) == "a1"
    for number in range(1000):
        one.own([number.to_bytes(4, "big")], "a1", 4.0)
    assert one.sizes() == (3, 3)


def test_the_newest_known_owner_counts() -> None:
    """Digests come newest first; unknown ones are passed over."""
    one = placements()
    one.own([b"old"], "a1", 0.0)
    one.own([b"new"], "a2", 0.0)
    assert one.owner([b"unknown", b"new", b"old"], 1.0) == "a2"
    assert one.owner([b"unknown"], 1.0) is None


def test_changes_are_told_once_and_understood_by_another() -> None:
    """What one worker placed, another one finds, in its own time."""
    one, other = placements(), placements()
    one.place(b"k", "a1", 0.0)
    one.own([b"o"], "a2", 0.0)
    told = one.take_changes(at(0.0))
    assert {(placement.kind, placement.account_id) for placement in told} == {("affinity", "a1"), ("owner", "a2")}
    assert one.take_changes(at(0.0)) == []
    other.apply(told, Moment(77_000.0, WALL_S))
    assert other.wish(b"k", 77_010.0) == "a1"
    assert other.owner([b"o"], 77_010.0) == "a2"
    assert other.take_changes(Moment(77_010.0, WALL_S)) == []


def test_a_wish_in_use_is_told_again_before_the_others_forget_it() -> None:
    """When half of its time is gone, a use tells the others."""
    one = placements()
    one.place(b"k", "a1", 0.0)
    one.take_changes(at(0.0))
    one.wish(b"k", 40.0)
    assert one.take_changes(at(40.0)) == []
    one.wish(b"k", 60.0)
    assert [placement.expires_at_s for placement in one.take_changes(at(60.0))] == [WALL_S + 160.0]


def test_older_news_does_not_move_a_conversation_back() -> None:
    """The later placement wins, in whichever order they arrive."""
    one = placements()
    one.place(b"k", "a2", 50.0)
    one.apply([Placement("affinity", b"k", "a1", WALL_S + 120.0)], at(60.0))
    assert one.wish(b"k", 61.0) == "a2"
    one.apply([Placement("affinity", b"k", "a3", WALL_S + 155.0)], at(60.0))
    assert one.wish(b"k", 61.0) == "a3"


def test_expired_far_and_unknown_placements_do_no_harm() -> None:
    """A wrong clock elsewhere cannot pin a conversation for ever, and a newer version's kinds are passed over."""
    one = placements()
    one.apply(
        [
            Placement("affinity", b"past", "a1", WALL_S - 5),
            Placement("affinity", b"far", "a1", WALL_S + 1e9),
            Placement("later-kind", b"k", "a1", WALL_S + 50),
        ],
        at(0.0),
    )
    assert one.wish(b"past", 0.0) is None
    assert one.wish(b"k", 0.0) is None
    assert one.sizes() == (1, 0)
    assert one.wish(b"far", 101.0) is None
