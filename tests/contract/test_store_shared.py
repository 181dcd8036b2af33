"""Hot state: what every store promises about health, windows, placements and the cursor over them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.base import HEALTHY_KEPT_S, Store
from store.records import ROUTE
from tests.fakes.clock import FakeClock
from tests.fakes.records import NOW_S, make_health, make_placement, make_window


async def test_a_new_store_has_no_changes(store: Store) -> None:
    changes = await store.changes(0)
    assert (changes.health, changes.windows, changes.cursor) == ((), (), 0)


async def test_what_one_handle_publishes_the_other_reads_once(store: Store, other: Store) -> None:
    route = make_health(ROUTE, kind="breaker", next_probe_s=NOW_S + 5)
    await store.publish([make_health(), route], [make_window()])
    first = await other.changes(0)
    assert first.health == (make_health(), route)
    assert first.windows == (make_window(),)
    second = await other.changes(first.cursor)
    assert (second.health, second.windows, second.cursor) == ((), (), first.cursor)


async def test_a_cursor_gets_the_later_records_only_and_zero_gets_all(store: Store, other: Store) -> None:
    await store.publish([make_health("a"), make_health("b")], [make_window("a")])
    cursor = (await store.changes(0)).cursor
    await other.publish([make_health("a", updated_at_s=NOW_S + 1)], [make_window("c")])
    later = await store.changes(cursor)
    assert [record.account_id for record in later.health] == ["a"]
    assert [record.account_id for record in later.windows] == ["c"]
    everything = await store.changes(0)
    assert [record.account_id for record in everything.health] == ["b", "a"]
    assert [record.account_id for record in everything.windows] == ["a", "c"]


async def test_a_cursor_of_a_store_that_was_lost_gets_everything(store: Store) -> None:
    await store.publish([make_health()], [])
    assert (await store.changes(1_000_000)).health == (make_health(),)


async def test_hot_state_leaves_the_directory_revision(store: Store) -> None:
    before = (await store.changes(0)).directory_revision
    await store.publish([make_health()], [make_window()])
    await store.place([make_placement()])
    assert (await store.changes(0)).directory_revision == before


async def test_the_later_record_wins_whichever_comes_last(store: Store, other: Store) -> None:
    new = make_health(updated_at_s=NOW_S + 10, cause="new")
    window = make_window(seen_at_s=NOW_S + 10, used_percent=90.0)
    await store.publish([new], [window])
    cursor = (await store.changes(0)).cursor
    await other.publish([make_health(cause="old")], [make_window(used_percent=1.0)])
    assert (await store.changes(0)).health == (new,)
    assert (await store.changes(0)).windows == (window,)
    late = await store.changes(cursor)
    assert (late.health, late.windows) == ((), ())
    same_time = replace(new, cause="corrected")
    await other.publish([same_time], [])
    assert (await store.changes(cursor)).health == (same_time,)


async def test_scopes_and_kinds_have_records_of_their_own(store: Store) -> None:
    records = [
        make_health(scope="account"),
        make_health(scope="model:gpt-5"),
        make_health(scope="account", kind="breaker"),
    ]
    await store.publish(records, [make_window(name="primary"), make_window(name="secondary")])
    assert (await store.changes(0)).health == tuple(records)
    assert [window.name for window in (await store.changes(0)).windows] == ["primary", "secondary"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=4), max_size=6))
async def test_a_follower_ends_with_what_is_stored(store: Store, batches: list[list[tuple[str, int]]]) -> None:
    seen: dict[str, float] = {}
    cursor = (await store.changes(0)).cursor
    touched = {name for batch in batches for name, _ in batch}
    for batch in batches:
        await store.publish([make_health(name, updated_at_s=NOW_S + age_s) for name, age_s in batch], [])
        changes = await store.changes(cursor)
        cursor = changes.cursor
        seen.update({record.account_id: record.updated_at_s for record in changes.health})
    stored = {record.account_id: record.updated_at_s for record in (await store.changes(0)).health}
    assert {name: stored[name] for name in seen} == seen
    assert set(seen) <= touched


async def test_placements_are_found_by_kind_and_digest_until_they_expire(
    store: Store, other: Store, clock: FakeClock
) -> None:
    await store.place(
        [
            make_placement(b"one", "a"),
            make_placement(b"two", "b", expires_at_s=NOW_S + 10),
            make_placement(b"one", "c", kind="owner"),
        ]
    )
    assert await other.placements("affinity", [b"one", b"two", b"three"]) == {b"one": "a", b"two": "b"}
    assert await other.placements("owner", [b"one", b"two"]) == {b"one": "c"}
    clock.advance(10)
    assert await other.placements("affinity", [b"one", b"two"]) == {b"one": "a"}
    assert await other.placements("affinity", []) == {}


async def test_a_placement_is_replaced(store: Store) -> None:
    await store.place([make_placement(b"one", "a"), make_placement(b"one", "b")])
    assert await store.placements("affinity", [b"one"]) == {b"one": "b"}
    await store.place([make_placement(b"one", "c", expires_at_s=NOW_S - 1)])
    assert await store.placements("affinity", [b"one"]) == {}


async def test_nothing_to_write_is_no_error(store: Store) -> None:
    await store.publish([], [])
    await store.place([])
    assert await store.purge() == 0


async def test_purging_removes_what_is_over_and_counts_it(store: Store, clock: FakeClock) -> None:
    await store.place([make_placement(b"short", expires_at_s=NOW_S + 10), make_placement(b"long")])
    await store.publish(
        [
            make_health("healthy", until_s=NOW_S + 5),
            make_health("resting", until_s=NOW_S + 10 * HEALTHY_KEPT_S),
        ],
        [],
    )
    clock.advance(20)
    assert await store.purge() == 1
    assert len((await store.changes(0)).health) == 2
    clock.advance(HEALTHY_KEPT_S)
    assert await store.purge() == 2
    assert [record.account_id for record in (await store.changes(0)).health] == ["resting"]
