"""A vault that serves learns of other keys from their source, cheaply, and never loses what it can open."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import SealBroken, WrongKey
from store.keyfile import FileKeys
from store.vault import ASK_EVERY_S, KeyRing, Place, Vault, key_id, sealing_key_id
from tests.fakes.clock import FakeClock

PLACE = Place("t", "r", "c", 1)
OLD, NEW = b"o" * 32, b"n" * 32


class Source:
    """Counts how often it is asked. ``marked`` False: only loading tells."""

    def __init__(self, *keys: bytes, marked: bool = True) -> None:
        self.keys, self.marked, self.loads, self.broken, self.changes = keys, marked, 0, False, 0

    def set(self, *keys: bytes) -> None:
        self.keys, self.changes = keys, self.changes + 1

    def load(self) -> KeyRing:
        self.loads += 1
        if self.broken:
            raise WrongKey("away")
        return KeyRing(self.keys)

    def mark(self) -> object | None:
        return self.changes if self.marked else None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def served(source: Source, clock: FakeClock) -> Vault:
    vault = Vault(source.load(), source, clock)
    vault.seal(b"", PLACE)
    return vault


def test_a_key_that_came_since_opens_at_once_and_seals_from_the_next_look_on(clock: FakeClock) -> None:
    source = Source(OLD)
    vault = served(source, clock)
    source.set(NEW, OLD)
    assert vault.open(Vault(KeyRing([NEW])).seal(b"x", PLACE), PLACE) == b"x"
    assert sealing_key_id(vault.seal(b"x", PLACE)) == key_id(NEW)


def test_a_promotion_is_seen_within_a_second_by_whoever_seals(clock: FakeClock) -> None:
    source = Source(OLD, NEW)
    vault = served(source, clock)
    source.set(NEW, OLD)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == key_id(OLD)
    clock.advance(1.0)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == key_id(NEW)


def test_a_source_that_has_not_changed_is_not_read_again(clock: FakeClock) -> None:
    source = Source(OLD)
    vault = served(source, clock)
    before = source.loads
    for _ in range(100):
        clock.advance(1.0)
        vault.seal(b"x", PLACE)
    assert source.loads == before


def test_unknown_ids_cannot_make_it_ask_and_ask(clock: FakeClock) -> None:
    source = Source(OLD, marked=False)
    vault = served(source, clock)
    before = source.loads
    foreign = Vault(KeyRing([NEW])).seal(b"x", PLACE)
    for _ in range(100):
        with pytest.raises(SealBroken, match="not among the configured keys"):
            vault.open(foreign, PLACE)
    assert source.loads == before + 1
    source.set(OLD, NEW)
    clock.advance(5.0)
    assert vault.open(foreign, PLACE) == b"x"


def test_a_source_that_only_loading_tells_is_asked_once_a_minute(clock: FakeClock) -> None:
    source = Source(OLD, NEW, marked=False)
    vault = served(source, clock)
    source.set(NEW, OLD)
    clock.advance(ASK_EVERY_S - 1)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == key_id(OLD)
    clock.advance(1)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == key_id(NEW)


def test_a_source_that_is_away_changes_nothing_and_is_taken_over_when_it_is_back(clock: FakeClock) -> None:
    source = Source(OLD)
    vault = served(source, clock)
    sealed = vault.seal(b"x", PLACE)
    source.set(NEW, OLD)
    source.broken = True
    for _ in range(20):
        clock.advance(1.0)
        assert vault.open(vault.seal(b"y", PLACE), PLACE) == b"y"
    source.broken = False
    clock.advance(5.0)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == key_id(NEW)
    assert vault.open(sealed, PLACE) == b"x"


def test_a_retired_key_opens_nothing_more_but_one_that_vanished_does(clock: FakeClock) -> None:
    source = Source(OLD)
    vault = served(source, clock)
    sealed = vault.seal(b"x", PLACE)
    for keys in ((OLD, NEW), (NEW, OLD), (NEW,)):
        source.set(*keys)
        clock.advance(1.0)
        vault.look()
    with pytest.raises(SealBroken):
        vault.open(sealed, PLACE)
    sealed = vault.seal(b"x", PLACE)
    source.set(OLD)  # another file was put in its place
    clock.advance(1.0)
    assert sealing_key_id(vault.seal(b"y", PLACE)) == key_id(OLD)
    assert vault.open(sealed, PLACE) == b"x"


def test_rewrapping_keeps_the_ciphertext_and_refuses_what_is_damaged() -> None:
    old, both = Vault(KeyRing([OLD])), Vault(KeyRing([NEW, OLD]))
    sealed = old.seal(b"x", PLACE)
    again = both.rewrap(sealed, PLACE)
    assert again[69:] == sealed[69:]
    assert sealing_key_id(again) == key_id(NEW)
    assert Vault(KeyRing([NEW])).open(again, PLACE) == b"x"
    assert both.rewrap(again, PLACE) == again
    for broken in (sealed[:-1] + b"!", sealed[:20] + b"!" + sealed[21:], b"short"):
        with pytest.raises(SealBroken):
            both.rewrap(broken, PLACE)
    with pytest.raises(SealBroken):
        both.rewrap(sealed, Place("t", "r", "c", 2))


def test_files_are_noticed_by_their_mark(tmp_path: Path, clock: FakeClock) -> None:
    keys = FileKeys(tmp_path / "vault.key")
    keys.create()
    vault = Vault(keys.load(), keys, clock)
    new = keys.make()
    keys.add(new)
    keys.promote(new.id)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == new.id
    (tmp_path / "vault.key").unlink()
    clock.advance(1.0)
    assert sealing_key_id(vault.seal(b"x", PLACE)) == new.id


def test_a_ring_that_opens_another_seals_as_before() -> None:
    ring = KeyRing([NEW]).opening(KeyRing([OLD, NEW]))
    assert ring.ids == (key_id(NEW), key_id(OLD))
    assert ring.current_id == key_id(NEW)
