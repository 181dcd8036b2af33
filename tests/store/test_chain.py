"""A chained row is its record, and the chain names the first place where it does not hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from store.chain import GENESIS, Row, broken_at, from_row, to_row
from store.records import AuditRecord
from tests.fakes.records import make_audit

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
optional = st.none() | text
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text
)
records = st.builds(
    AuditRecord,
    at_s=st.floats(0, 4e9),
    actor=text,
    action=text,
    outcome=text,
    tenant_id=optional,
    key_id=optional,
    request_id=optional,
    target=optional,
    model=optional,
    input_tokens=st.none() | st.integers(0, 2**63 - 1),
    output_tokens=st.none() | st.integers(0, 2**63 - 1),
    detail=st.lists(st.tuples(text, scalars), max_size=3).map(tuple),
)


def chained(*made: AuditRecord) -> list[Row]:
    rows: list[Row] = []
    for seq, record in enumerate(made, 1):
        rows.append(to_row(record, seq, rows[-1][14] if rows else GENESIS))
    return rows


@given(records)
def test_a_row_gives_its_record_back(record: AuditRecord) -> None:
    (row,) = chained(record)
    found = from_row(row)
    assert (found.seq, found.prev_hash, found.hash) == (1, GENESIS, row[14])
    for name in AuditRecord.__struct_fields__:
        if name not in ("seq", "prev_hash", "hash"):
            assert getattr(found, name) == getattr(record, name)


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_a_change_of_any_field_of_any_row_is_found_there(made: list[AuditRecord], data: st.DataObject) -> None:
    rows = chained(*made)
    assert broken_at(rows, 0, GENESIS) == (len(rows), rows[-1][14], None)
    at = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.integers(1, 14))
    changed: list[Any] = list(rows[at])
    changed[field] = data.draw(text.filter(lambda value: value != changed[field]))
    rows[at] = tuple(changed)
    seq, _, fault = broken_at(rows, 0, GENESIS)
    assert seq == at
    assert fault is not None
    assert f"record {at + 1}" in fault


@given(st.lists(records, min_size=2, max_size=5), st.data())
def test_a_row_left_out_or_swapped_is_found(made: list[AuditRecord], data: st.DataObject) -> None:
    rows = chained(*made)
    at = data.draw(st.integers(0, len(rows) - 2))
    assert broken_at(rows[:at] + rows[at + 1 :], 0, GENESIS)[0] == at
    assert broken_at([*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]], 0, GENESIS)[0] == at


def test_fields_do_not_run_into_each_other() -> None:
    one = to_row(make_audit(actor="ab", outcome="c"), 1, GENESIS)
    two = to_row(make_audit(actor="a", outcome="bc"), 1, GENESIS)
    assert one[14] != two[14]


def test_an_odd_detail_does_not_stop_the_log() -> None:
    row = to_row(make_audit(detail=(("path", object), ("text", "\ud800"))), 1, GENESIS)
    assert from_row(row).detail == (("path", "<class 'object'>"), ("text", "?"))
