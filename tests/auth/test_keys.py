"""Client keys: their form, and one refusal for every key that does not count."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.errors import InvalidKey, NotConfigured
from auth.keys import PEPPER_NAME, KeyDirectory, KeyRing, parse_duration_s
from store.memory import MemoryStore
from store.records import ClientKey, Limits, Tenant

NOW_S = 1_795_000_000.0
RING = KeyRing(b"p" * 32)
TENANT = Tenant(id="t1", name="team", pools=("blue",), limits=Limits(concurrent_streams=7))


def directory(*keys: ClientKey, tenants: tuple[Tenant, ...] = (TENANT,)) -> KeyDirectory:
    found = KeyDirectory(RING, Limits(requests_per_minute=60), Limits(requests_per_minute=600, concurrent_streams=9))
    found.load(keys, tenants)
    return found


def bearer(key: str) -> bytes:
    return b"Bearer " + key.encode()


def test_a_key_looks_as_promised_and_its_record_does_not_hold_it() -> None:
    plain, record = RING.mint("t1", now_s=NOW_S)
    match = re.fullmatch(r"at-cr-([a-z0-9]{10,})-([A-Za-z0-9_]{32,})", plain.reveal())
    assert match is not None
    assert match[1] == record.id
    assert match[2] not in repr(record) + repr(plain)
    assert match[2].encode() not in record.digest
    assert RING.mint("t1", now_s=NOW_S)[0] != plain


def test_an_accepted_key_is_its_caller_with_effective_limits() -> None:
    plain, record = RING.mint(
        "t1", now_s=NOW_S, models=("m",), scopes=frozenset({"relay", "admin"}), limits=Limits(concurrent_streams=2)
    )
    for _ in range(2):
        caller = directory(record).authenticate(bearer(plain.reveal()), NOW_S)
        assert (caller.tenant_id, caller.tenant_name, caller.key_id) == ("t1", "team", record.id)
        assert caller.scopes == {"relay", "admin"}
        assert (caller.models, caller.pools) == (("m",), ("blue",))
        assert caller.key_limits == Limits(60, 2)
        assert caller.tenant_limits == Limits(600, 7)


def test_a_scope_that_does_not_exist_cannot_be_given() -> None:
    with pytest.raises(ValueError, match="unknown scope 'root'"):
        RING.mint("t1", now_s=NOW_S, scopes=frozenset({"root"}))


@pytest.mark.fault("C9")
def test_every_refusal_is_the_same() -> None:
    plain, record = RING.mint("t1", now_s=NOW_S)
    good = plain.reveal()
    other, _ = RING.mint("t1", now_s=NOW_S)
    foreign, _ = KeyRing(b"q" * 32).mint("t1", now_s=NOW_S)
    messages = set()
    for keys, tenants, header in (
        (record, TENANT, bearer(other.reveal())),
        (record, TENANT, bearer(foreign.reveal())),
        (record, TENANT, bearer(good[:-1] + ("A" if good[-1] != "A" else "B"))),
        (record, TENANT, bearer(good.upper())),
        (record, TENANT, bearer(good + " ")),
        (record, TENANT, b"Basic " + good.encode()),
        (record, TENANT, good.encode()),
        (record, TENANT, b"Bearer  " + good.encode()),
        (record, TENANT, b"Bearer ' OR 1=1 --"),
        (record, TENANT, b"x" * 100_000),
        (record, TENANT, b""),
        (record, TENANT, None),
        (replace(record, expires_at_s=NOW_S), TENANT, bearer(good)),
        (replace(record, revoked_at_s=NOW_S - 1), TENANT, bearer(good)),
        (record, replace(TENANT, enabled=False), bearer(good)),
        (record, replace(TENANT, id="t2"), bearer(good)),
        (replace(record, digest=b""), TENANT, bearer(good)),
    ):
        with pytest.raises(InvalidKey) as refused:
            directory(keys, tenants=(tenants,)).authenticate(header, NOW_S)
        messages.add(str(refused.value))
    assert len(messages) == 1


def test_without_any_key_the_door_is_closed_and_says_why() -> None:
    for header in (None, b"Bearer x", bearer(RING.mint("t1", now_s=NOW_S)[0].reveal())):
        with pytest.raises(NotConfigured):
            directory().authenticate(header, NOW_S)


def test_what_was_recognised_ends_with_expiry_and_with_a_reload() -> None:
    plain, record = RING.mint("t1", now_s=NOW_S, expires_at_s=NOW_S + 10)
    known = directory(record)
    assert known.authenticate(bearer(plain.reveal()), NOW_S).key_id == record.id
    with pytest.raises(InvalidKey):
        known.authenticate(bearer(plain.reveal()), NOW_S + 10)
    assert known.authenticate(bearer(plain.reveal()), NOW_S).key_id == record.id
    assert known.is_live(record.id, NOW_S)
    known.load([replace(record, revoked_at_s=NOW_S)], [TENANT])
    with pytest.raises(InvalidKey):
        known.authenticate(bearer(plain.reveal()), NOW_S)
    assert not known.is_live(record.id, NOW_S)
    assert not known.is_live("nobody", NOW_S)


def test_the_scheme_is_taken_in_any_case_as_rfc_9110_says() -> None:
    plain, record = RING.mint("t1", now_s=NOW_S)
    assert directory(record).authenticate(b"bearer " + plain.reveal().encode(), NOW_S).key_id == record.id


def test_many_different_headers_do_not_grow_the_memory_of_accepted_ones() -> None:
    minted = [RING.mint("t1", now_s=NOW_S) for _ in range(3)]
    known = directory(*(record for _, record in minted))
    for number in range(6000):
        with pytest.raises(InvalidKey):
            known.authenticate(b"Bearer %d" % number, NOW_S)
    for plain, record in minted:
        assert known.authenticate(bearer(plain.reveal()), NOW_S).key_id == record.id
    assert len(known) == 3


@given(st.binary(max_size=300))
def test_no_header_of_any_bytes_is_accepted_or_breaks(header: bytes) -> None:
    _, record = RING.mint("t1", now_s=NOW_S)
    with pytest.raises(InvalidKey):
        directory(record).authenticate(header, NOW_S)


async def test_all_processes_get_the_same_pepper_out_of_the_store() -> None:
    store = MemoryStore()
    first = await store.sealed_value(PEPPER_NAME, os.urandom(32))
    assert await store.sealed_value(PEPPER_NAME, os.urandom(32)) == first
    with pytest.raises(ValueError, match="at least 32 bytes"):
        KeyRing(b"short")


@pytest.mark.parametrize(("text", "seconds"), [("90d", 90 * 86400), ("12h", 43200), ("30m", 1800), ("45s", 45)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "0d", "1.5h", "9999999w", "1y", "1d2h", "١d"])
def test_other_texts_are_refused_as_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_s(text)
