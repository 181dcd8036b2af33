"""A sealed value opens in its place, whole, under its key; nowhere and nohow else."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store.errors import SealBroken, WrongKey
from store.vault import KeyRing, Place, Vault, key_id, sealing_key_id

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
PLACE = Place("credentials", "acct-1", "tokens", 3)
SECRET = b"a refresh token that nobody may read"


def vault(*keys: bytes) -> Vault:
    return Vault(KeyRing(keys or (KEY,)))


@given(st.binary(max_size=500))
def test_what_was_sealed_opens(plaintext: bytes) -> None:
    assert vault().open(vault().seal(plaintext, PLACE), PLACE) == plaintext


@pytest.mark.fault("C32")
@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(vault().seal(SECRET, PLACE))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBroken):
        vault().open(bytes(sealed), PLACE)


@pytest.mark.fault("C32")
def test_every_single_byte_is_guarded() -> None:
    sealed = vault().seal(SECRET, PLACE)
    for at in range(len(sealed)):
        with pytest.raises(SealBroken):
            vault().open(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], PLACE)


@given(st.integers(0, 200), st.binary(max_size=8))
def test_a_cut_or_lengthened_value_is_refused(length: int, tail: bytes) -> None:
    sealed = vault().seal(SECRET, PLACE)
    changed = sealed[:length] + tail
    if changed != sealed:
        with pytest.raises(SealBroken):
            vault().open(changed, PLACE)


@pytest.mark.fault("C32")
@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("sealed_values", "acct-1", "tokens", 3),
        Place("credentials", "acct-2", "tokens", 3),
        Place("credentials", "acct-1", "other", 3),
        Place("credentials", "acct-1", "tokens", 2),
        Place("credentials", "acct-1", "tokens", 4),
    ],
)
def test_a_value_does_not_open_in_another_table_row_column_or_version(elsewhere: Place) -> None:
    with pytest.raises(SealBroken):
        vault().open(vault().seal(SECRET, PLACE), elsewhere)


texts = st.text(max_size=6)
places = st.builds(Place, texts, texts, texts, st.integers(0, 20))


@given(places, places)
@example(Place("ab", "c", "d", 1), Place("a", "bc", "d", 1))
@example(Place("a", "b", "c", 11), Place("a", "b", "c1", 1))
def test_no_two_places_share_an_encoding(one: Place, two: Place) -> None:
    sealed = vault().seal(SECRET, one)
    if one == two:
        assert vault().open(sealed, two) == SECRET
    else:
        with pytest.raises(SealBroken):
            vault().open(sealed, two)


def test_parts_of_two_values_of_one_place_do_not_mix() -> None:
    first, second = vault().seal(SECRET, PLACE), vault().seal(SECRET, PLACE)
    for cut in (21, 69, 81):  # after the wrapped key's nonce, the wrapped key, the nonce
        with pytest.raises(SealBroken):
            vault().open(first[:cut] + second[cut:], PLACE)


def test_sealing_never_repeats_itself() -> None:
    sealed = [vault().seal(SECRET, PLACE) for _ in range(50)]
    for start, end in ((9, 21), (21, 69), (69, 81), (81, None)):
        assert len({value[start:end] for value in sealed}) == 50
    assert all(SECRET not in value for value in sealed)


def test_a_key_id_that_is_not_allowed_is_refused_even_if_the_key_would_fit() -> None:
    sealed = vault().seal(SECRET, PLACE)
    with pytest.raises(SealBroken, match="not among the configured keys"):
        vault(OTHER_KEY).open(sealed, PLACE)
    disguised = sealed[:1] + key_id(OTHER_KEY) + sealed[9:]
    for keys in itertools.permutations((KEY, OTHER_KEY)):
        with pytest.raises(SealBroken):
            vault(*keys).open(disguised, PLACE)


def test_the_first_key_seals_and_the_others_still_open() -> None:
    old = vault(KEY).seal(SECRET, PLACE)
    both = vault(OTHER_KEY, KEY)
    assert both.open(old, PLACE) == SECRET
    new = both.seal(SECRET, PLACE)
    assert sealing_key_id(old) == key_id(KEY)
    assert sealing_key_id(new) == key_id(OTHER_KEY) == both.ring.current_id
    assert sealing_key_id(b"short") == b""


def test_a_ring_needs_whole_keys() -> None:
    for keys in ([], [b"short"], [KEY, KEY + b"x"]):
        with pytest.raises(WrongKey):
            KeyRing(keys)


def test_neither_ring_nor_error_shows_a_key_or_the_content() -> None:
    ring = KeyRing([KEY])
    assert KEY.hex() not in repr(ring)
    assert repr(KEY)[2:-1] not in repr(ring)
    with pytest.raises(SealBroken) as caught:
        vault().open(vault().seal(SECRET, PLACE)[:-1] + b"x", PLACE)
    assert SECRET.decode() not in str(caught.value)
    assert "\n" not in str(caught.value)
