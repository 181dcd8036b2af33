"""Which files that the task named are kept, and how are they read without being led astray?

Rules that hold:

* a path is opened component by component from the workspace's own descriptor, never through a link: what stands below
  the workspace is all that can be had, whatever a process changes meanwhile;
* regular files with one name only: links, hard links, devices, pipes and sockets are left; opening never blocks;
* number, size of each and size of all are capped, and holes are counted as what they would be when read;
* a folder that is named is kept with what is in it.

What is left out is reported with its reason.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILES_MAX = 200
FILE_MAX_BYTES = 50 << 20
ALL_MAX_BYTES = 200 << 20
SEEN_MAX = 20_000
DEPTH_MAX = 32
PIECE_BYTES = 1 << 20
_INSIDE = os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Kept:
    """``names`` are paths below the workspace; ``left`` are (path, why it was left out)."""

    names: tuple[str, ...]
    left: tuple[tuple[str, str], ...]


class _Full(Exception):
    """Enough was kept."""


class _Keeper:
    def __init__(self, target: Path) -> None:
        self._target = target
        self._seen = 0
        self._bytes_left = ALL_MAX_BYTES
        self.names: list[str] = []
        self.left: list[tuple[str, str]] = []

    def leave(self, path: str, why: str) -> None:
        if len(self.left) < FILES_MAX:
            self.left.append((path, why))

    def take(self, folder: int, name: str, path: str, depth: int = 0) -> None:
        """Keeps what ``name`` is in ``folder`` (an open descriptor)."""
        self._seen += 1
        if self._seen > SEEN_MAX or len(self.names) >= FILES_MAX:
            raise _Full
        try:
            opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _INSIDE, dir_fd=folder)
        except OSError as error:
            self.leave(path, "a link" if error.errno == 40 else os.strerror(error.errno or 0))
            return
        try:
            found = os.fstat(opened)
            if stat.S_ISDIR(found.st_mode):
                self._take_folder(opened, path, depth)
            elif not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                self.leave(path, "not a regular file with one name")
            elif found.st_size > min(FILE_MAX_BYTES, self._bytes_left):
                self.leave(path, "too large")
            else:
                self._copy(opened, path)
        finally:
            os.close(opened)

    def _take_folder(self, folder: int, path: str, depth: int) -> None:
        if depth >= DEPTH_MAX:
            self.leave(path, "too deep")
            return
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry, _ in zip(entries, range(SEEN_MAX), strict=False))
        for name in names:
            self.take(folder, name, f"{path}/{name}", depth + 1)

    def _copy(self, opened: int, path: str) -> None:
        target = self._target / path
        target.parent.mkdir(parents=True, exist_ok=True)
        size, allowed = 0, min(FILE_MAX_BYTES, self._bytes_left)
        with target.open("xb") as file:
            while size <= allowed and (piece := os.read(opened, PIECE_BYTES)):
                file.write(piece)
                size += len(piece)
        if size > allowed:  # it grew while it was read
            target.unlink()
            self.leave(path, "too large")
            return
        self._bytes_left -= size
        self.names.append(path)


def keep(workspace: Path, paths: Sequence[str], target: Path) -> Kept:
    """Copies what ``paths`` name from the workspace to ``target``, which must not hold anything yet."""
    keeper = _Keeper(target)
    with contextlib.suppress(_Full):
        for path in dict.fromkeys(paths):
            try:
                _take_path(keeper, workspace, path)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
                keeper.leave(path, reason)
    return Kept(tuple(keeper.names), tuple(keeper.left))


def _take_path(keeper: _Keeper, workspace: Path, path: str) -> None:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if not parts or path.startswith("/") or ".." in parts or parts[0] == ".git":
        keeper.leave(path, "not a path below the workspace")
        return
    with _folder(workspace, parts[:-1]) as folder:
        keeper.take(folder, parts[-1], "/".join(parts))


@contextlib.contextmanager
def _folder(workspace: Path, parts: Sequence[str]) -> Iterator[int]:
    """A descriptor of the folder that ``parts`` lead to, step by step."""
    opened = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _INSIDE, dir_fd=opened)
            os.close(opened)
            opened = inner
        yield opened
    finally:
        os.close(opened)
