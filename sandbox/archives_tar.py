"""What is in a tar file, plain or gzipped? Its regular files and folders, read within bounds.

The library reads headers; what it trusts is bounded here. Rules that hold:

* no header is longer than ``HEADER_MAX``, and no more is unpacked than the rules allow, headers counted;
* links, devices, sparse files and undecodable names refuse the archive;
* a file that ends before it should is damaged, not short.

Reads the file that it is given and writes nothing. Which names are taken is said in archives_rules.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, Final, cast

from sandbox.archives_rules import MIB, ArchiveRules, BadArchive, Member, shown

HEADER_MAX: Final = MIB
_PIECE: Final = 256 * 1024
_BLOCK: Final = 512
_DAMAGED: Final = (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError, OSError, zlib.error)


class _Bounded(io.RawIOBase):
    """A file that is read in bounded pieces and not beyond ``end``."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        super().__init__()
        self._file = file
        self._end = end

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_MAX:
            raise BadArchive("a header is too long")
        if self._file.tell() > self._end:
            raise BadArchive("it unpacks to more than is taken")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self._end:
            raise BadArchive("it unpacks to more than is taken")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def tar_members(file: IO[bytes], rules: ArchiveRules) -> Iterator[Member]:
    """The entries in their order. Raises BadArchive, also while a member is read."""
    file.seek(0)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb")) if packed else file
    bounded = _Bounded(plain, rules.total_bytes + rules.entries * 4 * _BLOCK + HEADER_MAX)
    try:
        archive = tarfile.open(  # noqa: SIM115 - members read from it later; the file is the caller's
            fileobj=cast("Any", bounded), mode="r:", encoding="utf-8", errors="strict"
        )
        while (info := archive.next()) is not None:
            yield _member(archive, info)
        _check_end(bounded, archive)
    except BadArchive:
        raise
    except _DAMAGED:
        raise BadArchive("it is not a whole tar file, plain or gzipped") from None


def _check_end(bounded: _Bounded, archive: tarfile.TarFile) -> None:
    """A tar file ends with an empty block; one that just stops was cut."""
    bounded.seek(archive.offset)
    if bounded.read(_BLOCK) != bytes(_BLOCK):
        raise BadArchive("it was cut: its end is missing")


def _member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if not (info.isdir() or info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or info.issparse():
        raise BadArchive(f"{shown(info.name)} is a link, a device or sparse: pack files and folders alone")
    size = 0 if info.isdir() else info.size
    return Member(info.name, info.isdir(), bool(info.mode & 0o111), size, partial(_content, archive, info))


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    left = info.size
    try:
        file = archive.extractfile(info)
        assert file is not None
        while left:
            piece = file.read(min(_PIECE, left))
            if not piece:
                raise EOFError
            left -= len(piece)
            yield piece
    except BadArchive:
        raise
    except _DAMAGED:
        raise BadArchive(f"the content of {shown(info.name)} is damaged") from None
