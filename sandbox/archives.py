"""How does an uploaded zip or tar become the files of a workspace without being unpacked here?

It is kept as it came (in memory, then in an unnamed file), checked entry by entry, and given out again as a tar stream
of our own making: folders first, then files, owned by the agent, modes 0644 and 0755, one fixed time. The engine
unpacks that inside the container's volume. Rules that hold:

* everything that the archive says of itself is checked before the first byte goes out (archives_rules);
* contents are held against it while they go out: one that lies ends the stream with BadArchive, and whoever stores
  the stream stores nothing;
* no path of the archive is ever a path on this machine.

Reading and inflating is done in threads, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import IO, Final, Literal

from sandbox.archives_rules import MIB, ArchiveRules, BadArchive, Member, Tree, shown
from sandbox.archives_tar import tar_members
from sandbox.archives_zip import zip_members

Kind = Literal["zip", "tar"]
OWNER: Final = 10_001
MTIME_S: Final = 946_684_800
_IN_MEMORY: Final = 4 * MIB
_PIECE: Final = 256 * 1024
_BLOCK: Final = 512

__all__ = ["ArchiveRules", "BadArchive", "CheckedArchive", "Kind", "check_archive", "checked_tar"]


class CheckedArchive:
    """An archive whose entries are all good. ``files`` counts them, ``size_bytes`` is what they come to, ``dropped``
    is how many below a ``.git`` were left out. Close it."""

    def __init__(self, file: IO[bytes], tree: Tree) -> None:
        self._file = file
        self._tree = tree

    @property
    def files(self) -> int:
        return len(self._tree.files)

    @property
    def size_bytes(self) -> int:
        return sum(member.size_bytes for _, member in self._tree.files)

    @property
    def dropped(self) -> int:
        return self._tree.dropped

    async def tar(self) -> AsyncIterator[bytes]:
        """The tar stream; one at a time. Raises BadArchive in the middle when a content is not what was said."""
        pieces = _emitted(self._tree)
        while piece := await asyncio.to_thread(_batch, pieces):
            yield piece

    def close(self) -> None:
        self._file.close()


async def check_archive(
    data: AsyncIterator[bytes], kind: Kind | None = None, rules: ArchiveRules | None = None
) -> CheckedArchive:
    """Takes all of ``data`` in and checks it. ``kind`` None: as its first bytes say. Raises BadArchive; then nothing
    is left. Cancel: the same."""
    wanted = rules or ArchiveRules()
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it outlives this call
    try:
        size = await _taken(data, file, wanted)
        tree = await asyncio.to_thread(_checked, file, kind, wanted, size)
    except BaseException:
        file.close()
        raise
    return CheckedArchive(file, tree)


async def _taken(data: AsyncIterator[bytes], file: IO[bytes], rules: ArchiveRules) -> int:
    """Writes ``data`` into ``file``; its size. Raises BadArchive as soon as it is too large."""
    size = 0
    async for piece in data:
        size += len(piece)
        if size > rules.archive_bytes:
            raise BadArchive(f"it is larger than {rules.archive_bytes // MIB} MiB")
        await asyncio.to_thread(file.write, piece)
    return size


async def checked_tar(
    data: AsyncIterator[bytes], kind: Kind | None = None, rules: ArchiveRules | None = None
) -> AsyncIterator[bytes]:
    """``check_archive`` and its ``tar`` in one."""
    archive = await check_archive(data, kind, rules)
    try:
        async for piece in archive.tar():
            yield piece
    finally:
        archive.close()


def _checked(file: IO[bytes], kind: Kind | None, rules: ArchiveRules, size: int) -> Tree:
    file.seek(0)
    begins = file.read(4)
    is_zip = begins[:2] == b"PK"
    if kind is not None and is_zip != (kind == "zip"):
        raise BadArchive(f"it is not a {kind} file")
    tree = Tree(rules, size)
    for member in zip_members(file, rules) if is_zip else tar_members(file, rules):
        tree.add(member)
    return tree


def _header(name: str, size: int, *, is_folder: bool, executable: bool) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
    info.mode = 0o755 if is_folder or executable else 0o644
    info.uid = info.gid = OWNER
    info.size = size
    info.mtime = MTIME_S
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _emitted(tree: Tree) -> Iterator[bytes]:
    for folder in sorted(tree.folders):
        yield _header("/".join(folder), 0, is_folder=True, executable=False)
    for parts, member in tree.files:
        yield _header("/".join(parts), member.size_bytes, is_folder=False, executable=member.executable)
        yield from _exact(member)
        yield bytes(-member.size_bytes % _BLOCK)
    yield bytes(2 * _BLOCK)


def _exact(member: Member) -> Iterator[bytes]:
    """The content, which must have the size that its header has told already."""
    left = member.size_bytes
    for piece in member.read():
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise BadArchive(f"{shown(member.name)} has not the size that it says")


def _batch(pieces: Iterator[bytes]) -> bytes:
    """Some pieces as one; b"" at the end."""
    batch = io.BytesIO()
    for piece in pieces:
        batch.write(piece)
        if batch.tell() >= _PIECE:
            break
    return batch.getvalue()
