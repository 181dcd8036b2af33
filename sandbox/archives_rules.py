"""Which names and sizes may an uploaded archive have? The rules that hold for every kind of archive.

* a name is relative, with plain slashes, without ``..``, control characters or a drive; of bounded length and depth;
* two entries that some file system takes for one (case, Unicode forms), or a file where another entry needs a folder,
  refuse the archive;
* whatever is below a ``.git`` in any of its spellings is left out: a repository's hooks and settings are code;
* files and folders alone: no links, devices, sparse or encrypted entries;
* so many entries, so many bytes unpacked, so many times the bytes that came.

Pure. What refuses is BadArchive, whose text shows an entry's name in ASCII, cut.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
_ALIASES: Final = frozenset({".git", "git~1"})
_SHOWN: Final = 80


class BadArchive(Exception):
    """The archive is not taken; str() is one line with the reason. Nothing of it was unpacked."""


@dataclass(frozen=True, slots=True)
class ArchiveRules:
    """Bounds. ``ratio`` counts from ``ratio_floor_bytes`` on: a few zeros are no bomb."""

    archive_bytes: int = 100 * MIB
    total_bytes: int = 1024 * MIB
    entries: int = 50_000
    ratio: int = 200
    ratio_floor_bytes: int = MIB
    name_bytes: int = 1024
    segment_bytes: int = 255
    depth: int = 64


@dataclass(frozen=True, slots=True)
class Member:
    """One entry as its archive tells of it. ``size_bytes`` is what ``read`` has to come to."""

    name: str
    is_folder: bool
    executable: bool
    size_bytes: int
    read: Callable[[], Iterator[bytes]]


def shown(name: str) -> str:
    """``name`` for a message: ASCII, no control characters, cut."""
    text = name.encode("ascii", "backslashreplace").decode()
    text = "".join(char if " " <= char <= "~" else f"\\x{ord(char):02x}" for char in text)
    return f"'{text}'" if len(text) <= _SHOWN else f"'{text[:_SHOWN]}...'"


def segments_of(name: str, rules: ArchiveRules) -> tuple[str, ...]:
    """The path as its parts, without ``.``. Empty for the root itself. Raises BadArchive."""
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in name):
        raise BadArchive(f"the name {shown(name)} holds control characters")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadArchive(f"the name {shown(name)} is not UTF-8") from None
    if size > rules.name_bytes:
        raise BadArchive(f"the name {shown(name)} is longer than {rules.name_bytes} bytes")
    if "\\" in name:
        raise BadArchive(f"the name {shown(name)} holds a backslash")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        raise BadArchive(f"the name {shown(name)} is absolute")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise BadArchive(f"the name {shown(name)} leads out of the archive")
    if len(parts) > rules.depth:
        raise BadArchive(f"the name {shown(name)} is nested deeper than {rules.depth} folders")
    if any(len(part.encode()) > rules.segment_bytes for part in parts):
        raise BadArchive(f"a part of the name {shown(name)} is longer than {rules.segment_bytes} bytes")
    return parts


def is_git(part: str) -> bool:
    """Whether some file system takes this part of a path for ``.git``: by case, ignored characters, short names,
    streams, or dots and blanks at its end."""
    plain = "".join(char for char in unicodedata.normalize("NFKC", part) if unicodedata.category(char) != "Cf")
    return plain.partition(":")[0].rstrip(" .").casefold() in _ALIASES


def folded(part: str) -> str:
    """The same for all spellings that some file system takes for one name."""
    plain = "".join(char for char in part if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", plain).casefold()).rstrip(" .") or part


class Tree:
    """What has been seen of one archive: its folders, files, sizes."""

    def __init__(self, rules: ArchiveRules, archive_bytes: int) -> None:
        self._rules = rules
        self._archive_bytes = archive_bytes
        self._spelled: dict[tuple[str, ...], tuple[tuple[str, ...], bool]] = {}
        self.entries = 0
        self.dropped = 0
        self.total_bytes = 0
        self.folders: dict[tuple[str, ...], None] = {}
        self.files: list[tuple[tuple[str, ...], Member]] = []

    def add(self, member: Member) -> None:
        """Raises BadArchive when the archive is not one of ours with this entry."""
        rules = self._rules
        self.entries += 1
        if self.entries > rules.entries:
            raise BadArchive(f"it has more than {rules.entries} entries")
        self.total_bytes += max(0, member.size_bytes)
        if member.size_bytes < 0 or self.total_bytes > rules.total_bytes:
            raise BadArchive(f"it unpacks to more than {rules.total_bytes // MIB} MiB")
        allowed = max(rules.ratio_floor_bytes, rules.ratio * self._archive_bytes)
        if self.total_bytes > allowed:
            raise BadArchive(f"it unpacks to more than {rules.ratio} times its size")
        parts = segments_of(member.name, rules)
        if any(is_git(part) for part in parts):
            self.dropped += 1
            return
        if not parts:
            if not member.is_folder:
                raise BadArchive(f"the name {shown(member.name)} names no file")
            return
        for depth in range(1, len(parts)):
            self._claim(parts[:depth], is_folder=True)
        self._claim(parts, is_folder=member.is_folder, again=member.is_folder)
        if not member.is_folder:
            self.files.append((parts, member))

    def _claim(self, parts: tuple[str, ...], *, is_folder: bool, again: bool = True) -> None:
        key = tuple(folded(part) for part in parts)
        known = self._spelled.get(key)
        if known is None:
            self._spelled[key] = (parts, is_folder)
            if is_folder:
                self.folders[parts] = None
        elif known != (parts, is_folder) or not again:
            raise BadArchive(f"the name {shown('/'.join(parts))} is there twice, or differs in its spelling alone")
