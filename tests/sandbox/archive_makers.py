"""Archives as honest and as hostile people make them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field


async def pieces(data: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@dataclass
class Entry:
    """One entry of a zip file; what is None is told truthfully."""

    name: str | bytes
    data: bytes = b""
    mode: int = 0o100644
    flags: int = 0x800
    method: int = 8
    size: int | None = None
    crc: int | None = None
    packed: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    made_by: int = 3
    extra: bytes = field(default=b"")


def zip_of(*entries: Entry, prefix: bytes = b"", comment: bytes = b"", gap: bytes = b"") -> bytes:
    body, directory = bytearray(prefix), bytearray()
    for one in entries:
        raw = one.name if isinstance(one.name, bytes) else one.name.encode()
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(one.data) + packer.flush() if one.method == 8 else one.data
        crc = zlib.crc32(one.data) if one.crc is None else one.crc
        size = len(one.data) if one.size is None else one.size
        said = len(packed) if one.packed is None else one.packed
        offset = len(body) if one.offset is None else one.offset
        local = raw if one.local_name is None else one.local_name
        body += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, one.flags, one.method, 0, 33, crc, said, size, len(local), 0
        )
        body += local + packed
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", one.made_by << 8 | 20, 20, one.flags, one.method, 0, 33, crc, said, size,
            len(raw), len(one.extra), 0, 0, 0, (one.mode << 16) & 0xFFFFFFFF, offset,
        ) + raw + one.extra  # fmt: skip
    count = len(entries) & 0xFFFF
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory) + gap + end + comment


def tar_of(
    files: Mapping[str, bytes], *extra: tarfile.TarInfo, packed: bool = False, form: int = tarfile.PAX_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return gzip.compress(out.getvalue()) if packed else out.getvalue()


def special(name: str, kind: bytes, target: str = "x") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
