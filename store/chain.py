"""How do audit records hang together?

Each record is numbered from 1 without gaps, and its hash is SHA-256 over the hash before it and a canonical text of
the record: a JSON array of its fields in the order of ``AuditRecord``, details as their own JSON text. A record that is
changed, left out or put in breaks the chain at its place; a missing tail shows against the head that the store keeps.

Pure: no clock, no I/O. The flat row made here is what backends keep, so what is hashed is what is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from store.records import AuditRecord

GENESIS: Final = "0" * 64
"""``prev_hash`` of the first record."""

Row: TypeAlias = tuple[Any, ...]
"""seq, the twelve fields of AuditRecord in order (``detail`` as JSON text), prev_hash, hash."""

_LARGEST: Final = 2**63 - 1
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode  # a record never fails for an odd detail
_decode: Final = msgspec.json.Decoder(list[tuple[str, Any]]).decode


def to_row(record: AuditRecord, seq: int, prev_hash: str) -> Row:
    """The record as it is kept, numbered and chained. Text that is not valid Unicode is made so."""
    try:
        return _to_row(record, seq, prev_hash)
    except UnicodeEncodeError:
        return _to_row(_clean(record), seq, prev_hash)


def _to_row(record: AuditRecord, seq: int, prev_hash: str) -> Row:
    fields = (
        seq,
        float(record.at_s),
        record.actor,
        record.action,
        record.outcome,
        record.tenant_id,
        record.key_id,
        record.request_id,
        record.target,
        record.model,
        _counted(record.input_tokens),
        _counted(record.output_tokens),
        _encode(record.detail).decode() if record.detail else "[]",
    )
    return (*fields, prev_hash, _hash(prev_hash, fields))


def from_row(row: Row) -> AuditRecord:
    """The record that :func:`to_row` was given, with its number and hashes."""
    detail = () if row[12] == "[]" else tuple(_decode(row[12]))
    fields = (*row[1:12], detail, row[0], *row[13:])
    return AuditRecord(*fields)


def broken_at(rows: Iterable[Row], seq: int, last_hash: str) -> tuple[int, str, str | None]:
    """Follows the chain from (``seq``, ``last_hash``): the last good seq, its hash, and what is wrong after it."""
    for row in rows:
        if row[0] != seq + 1:
            return seq, last_hash, f"record {seq + 1} is missing: record {row[0]} follows record {seq}"
        if row[13] != last_hash:
            return seq, last_hash, f"record {row[0]} does not follow the record before it"
        if row[14] != _hash(last_hash, row[:13]):
            return seq, last_hash, f"record {row[0]} was changed"
        seq, last_hash = row[0], row[14]
    return seq, last_hash, None


def _hash(prev_hash: str, fields: Row) -> str:
    return hashlib.sha256(prev_hash.encode() + _encode(fields)).hexdigest()


def _counted(tokens: int | None) -> int | None:
    return tokens if tokens is None or -_LARGEST <= tokens <= _LARGEST else _LARGEST


def _clean(record: AuditRecord) -> AuditRecord:
    values = {name: _cleaned(getattr(record, name)) for name in AuditRecord.__struct_fields__}
    return AuditRecord(**values)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, tuple):
        return tuple(_cleaned(item) for item in value)
    return value
