"""What is in a zip file? Its central directory, read by one strict reader, and its contents, held against it.

The directory alone says what is there; a local header must agree with it in its name and place. Rules that hold:

* the end record is the last thing in the file, the directory lies right before it, and nothing overlaps;
* stored and deflated entries alone; nothing encrypted, no zip64 (what is taken is smaller than that);
* a content is inflated no further than it said, and must come to its size and its CRC.

Reads the file that it is given and writes nothing. Which names are taken is said in archives_rules.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Final

from sandbox.archives_rules import ArchiveRules, BadArchive, Member, shown

_END: Final = struct.Struct("<4s4H2LH")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_COMMENT_MAX: Final = 65_535
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_UTF8: Final = 0x800
_ZIP64: Final = 0xFFFFFFFF
_UNIX: Final = 3
_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Entry:
    raw_name: bytes
    name: str
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int
    mode: int


def zip_members(file: IO[bytes], rules: ArchiveRules) -> Iterator[Member]:
    """The entries in the order of the directory. Raises BadArchive, also while a member is read."""
    size = file.seek(0, 2)
    start, end = _directory(file, size)
    if end - start > rules.entries * (_ENTRY.size + rules.name_bytes):
        raise BadArchive(f"it has more than {rules.entries} entries")
    file.seek(start)
    directory = file.read(end - start)
    entries = []
    at = 0
    while at < len(directory):
        entry, at = _entry(directory, at)
        entries.append(entry)
        if len(entries) > rules.entries:
            raise BadArchive(f"it has more than {rules.entries} entries")
    places = _places(file, entries, start)
    for entry, place in zip(entries, places, strict=True):
        is_folder = entry.name.endswith("/")
        if is_folder and entry.size_bytes:
            raise BadArchive(f"the folder {shown(entry.name)} has a content")
        read = partial(_content, file, entry, place)
        yield Member(entry.name, is_folder, bool(entry.mode & 0o111), entry.size_bytes, read)


def _directory(file: IO[bytes], size: int) -> tuple[int, int]:
    """Where the central directory begins and ends."""
    tail_at = max(0, size - _END.size - _COMMENT_MAX)
    file.seek(tail_at)
    tail = file.read(size - tail_at)
    found = []
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + _END.size <= len(tail):
            fields = _END.unpack_from(tail, at)
            if at + _END.size + fields[7] == len(tail):
                found.append((tail_at + at, fields))
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if len(found) != 1:
        raise BadArchive("it is not a zip file, or has more than one end")
    place, (_, disk, first_disk, here, entries, length, start, _) = found[0]
    if _ZIP64 in (length, start):
        raise BadArchive("zip64 is not taken: pack fewer or smaller files")
    if disk or first_disk or here != entries:
        raise BadArchive("it is a part of a zip file in several parts")
    if start + length != place:
        raise BadArchive("its directory is not where it should be")
    return start, place


def _entry(directory: bytes, at: int) -> tuple[_Entry, int]:
    if at + _ENTRY.size > len(directory) or directory[at : at + 4] != b"PK\x01\x02":
        raise BadArchive("its directory is damaged")
    fields = _ENTRY.unpack_from(directory, at)
    made_by, flags, method = fields[1] >> 8, fields[3], fields[4]
    crc, packed, size, name_size, extra_size, comment_size = fields[7:13]
    disk, attributes, offset = fields[13], fields[15], fields[16]
    begin = at + _ENTRY.size
    end = begin + name_size + extra_size + comment_size
    if end > len(directory):
        raise BadArchive("its directory is damaged")
    raw = directory[begin : begin + name_size]
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise BadArchive(f"the name {shown(raw.decode('latin-1'))} is not UTF-8") from None
    if flags & _ENCRYPTED:
        raise BadArchive(f"{shown(name)} is encrypted")
    if method not in (0, 8):
        raise BadArchive(f"{shown(name)} is packed in a way that is not taken: use deflate")
    if disk or _ZIP64 in (packed, size, offset):
        raise BadArchive("zip64 is not taken: pack fewer or smaller files")
    mode = attributes >> 16 if made_by == _UNIX else 0
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadArchive(f"{shown(name)} is a link or a device: pack files and folders alone")
    if (stat.S_IFMT(mode) == stat.S_IFDIR) and not name.endswith("/"):
        raise BadArchive(f"{shown(name)} is a folder by its mode and a file by its name")
    return _Entry(raw, name, method, crc, packed, size, offset, mode), end


def _places(file: IO[bytes], entries: list[_Entry], end: int) -> list[int]:
    """Where each content begins. Raises BadArchive when headers disagree or entries overlap."""
    places = [0] * len(entries)
    taken_to = 0
    for index in sorted(range(len(entries)), key=lambda one: entries[one].offset):
        entry = entries[index]
        file.seek(entry.offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise BadArchive(f"{shown(entry.name)} is not where the directory says")
        fields = _LOCAL.unpack(head)
        if file.read(fields[9]) != entry.raw_name or fields[2] & _ENCRYPTED or fields[3] != entry.method:
            raise BadArchive(f"the headers of {shown(entry.name)} disagree")
        places[index] = entry.offset + _LOCAL.size + fields[9] + fields[10]
        if entry.offset < taken_to or places[index] + entry.packed_bytes > end:
            raise BadArchive(f"{shown(entry.name)} overlaps another entry")
        taken_to = places[index] + entry.packed_bytes
    return places


def _content(file: IO[bytes], entry: _Entry, place: int) -> Iterator[bytes]:
    left, size, crc = entry.packed_bytes, 0, 0
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method else None
    held = b""
    at = place
    while True:
        if not held and left:
            file.seek(at)
            held = file.read(min(_PIECE, left))
            if not held:
                break
            left -= len(held)
            at += len(held)
        if inflate is None:
            piece, held = held, b""
        else:
            try:
                piece = inflate.decompress(held, _PIECE)
            except zlib.error:
                raise BadArchive(f"the content of {shown(entry.name)} is damaged") from None
            held = inflate.unconsumed_tail
        size += len(piece)
        if size > entry.size_bytes:
            raise BadArchive(f"{shown(entry.name)} is larger than it says")
        crc = zlib.crc32(piece, crc)
        if piece:
            yield piece
        elif not held and not left:
            break
        if inflate is not None and inflate.eof:
            break
    if size != entry.size_bytes or crc != entry.crc or (inflate is not None and (not inflate.eof or held or left)):
        raise BadArchive(f"the content of {shown(entry.name)} is not what its header says")
