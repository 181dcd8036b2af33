"""Is this text a patch of git's, and what does it touch? Read as text; git never runs over it here.

A patch comes from a container or from a client, and is stored, shown and counted before anybody applies it. Rules:

* UTF-8 or binary content between git's own headers, bounded in size, files and line length;
* every path is relative, without ``..``, control characters, or a ``.git`` in any spelling; links are allowed in what
  is shown (``links`` counts them), and refused in what is to be applied to a workspace (``strict``);
* a hunk has as many lines as its header says: what follows cannot pose as a header.

It says nothing of whether the patch fits: only git in the container knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sandbox.archives_rules import ArchiveRules, BadArchive, is_git, segments_of, shown

PATCH_MAX: Final = 20 * 1024 * 1024
FILES_MAX: Final = 5000
_NAMES: Final = ArchiveRules()
_HUNK: Final = re.compile(rb"@@ -\d{1,9}(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@.*")
_MODE: Final = re.compile(rb"(?:old mode|new mode|new file mode|deleted file mode) (\d{6})")
_INDEX: Final = re.compile(rb"index [0-9a-f]{4,64}\.\.[0-9a-f]{4,64}(?: (\d{6}))?")
_SIMILAR: Final = re.compile(rb"(?:similarity|dissimilarity) index \d{1,3}%")
_BINARY: Final = re.compile(rb"(?:literal|delta) \d{1,12}")
_LETTER: Final = re.compile(rb"[A-Za-z][0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{5,70}")
_ESCAPE: Final = re.compile(rb'\\(?:([0-3][0-7]{2})|([abtnvfr"\\]))')
_PLAIN: Final = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))
_NAMED: Final = (b"rename from ", b"rename to ", b"copy from ", b"copy to ")


class BadPatch(Exception):
    """The text is not taken; str() is one line with the reason and the line's number."""


@dataclass(frozen=True, slots=True)
class PatchFacts:
    """What a patch touches. ``paths`` are those after it, in order; ``links`` are how many are symbolic links or
    submodules."""

    files: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    links: int = 0
    paths: tuple[str, ...] = ()


def check_patch(data: bytes, *, strict: bool = False, limit_bytes: int = PATCH_MAX) -> PatchFacts:
    """What ``data`` touches; nothing for an empty one. Raises BadPatch. ``strict``: no links either."""
    if len(data) > limit_bytes:
        raise BadPatch(f"the patch is larger than {limit_bytes} bytes")
    reader = _Reader(data, strict=strict)
    reader.read()
    return PatchFacts(len(reader.paths), reader.added, reader.removed, reader.links, tuple(reader.paths))


class _Reader:
    """One reading of one patch."""

    def __init__(self, data: bytes, *, strict: bool) -> None:
        lines = data.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        self._lines = lines
        self._strict = strict
        self._at = 0
        self.paths: list[str] = []
        self.added = self.removed = self.links = 0

    def read(self) -> None:
        while self._at < len(self._lines):
            line = self._next()
            if not line.startswith(b"diff --git "):
                raise self._bad("a patch begins with 'diff --git'")
            self._file(line)

    def _next(self) -> bytes:
        line = self._lines[self._at]
        self._at += 1
        return line

    def _peek(self) -> bytes | None:
        return self._lines[self._at] if self._at < len(self._lines) else None

    def _bad(self, text: str) -> BadPatch:
        return BadPatch(f"line {self._at}: {text}")

    def _file(self, first: bytes) -> None:
        if len(self.paths) >= FILES_MAX:
            raise self._bad(f"it touches more than {FILES_MAX} files")
        names = _both_names(first.removeprefix(b"diff --git "))
        if names is None:
            raise self._bad("the file's two names cannot be told apart or are not a/... b/...")
        path = [self._checked(name) for name in names][1]
        is_link = False
        while (line := self._peek()) is not None and not line.startswith(b"diff --git "):
            self._at += 1
            is_link = self._header(line) or is_link
        self.links += is_link
        if is_link and self._strict:
            raise self._bad(f"{shown(path)} is a symbolic link or a submodule")
        self.paths.append(path)

    def _header(self, line: bytes) -> bool:
        """One line below ``diff --git``, with what belongs to it; whether it makes the file a link."""
        if match := _MODE.fullmatch(line) or _INDEX.fullmatch(line):
            return match[1] in (b"120000", b"160000")
        if line.startswith((b"--- ", b"+++ ")):
            name = line[4:].split(b"\t")[0]
            if name != b"/dev/null":
                self._checked(_unquoted(name)[2:] if _unquoted(name)[:2] in (b"a/", b"b/") else b"../")
        elif prefix := next((one for one in _NAMED if line.startswith(one)), None):
            self._checked(_unquoted(line.removeprefix(prefix)))
        elif match := _HUNK.fullmatch(line):
            self._hunk(int(match[1] or 1), int(match[2] or 1))
        elif line == b"GIT binary patch":
            self._binary()
        elif not (_SIMILAR.fullmatch(line) or (line.startswith(b"Binary files ") and line.endswith(b" differ"))):
            raise self._bad("this is no line of a patch")
        return False

    def _hunk(self, old: int, new: int) -> None:
        while old > 0 or new > 0:
            line = self._peek()
            if line is None:
                raise self._bad("the patch ends in the middle of a change")
            self._at += 1
            kind = line[:1]
            if kind == b"\\":
                continue
            if kind not in (b" ", b"+", b"-", b""):
                raise self._bad("a change has fewer lines than its header says")
            old -= kind != b"+"
            new -= kind != b"-"
            self.added += kind == b"+"
            self.removed += kind == b"-"
        if old or new:
            raise self._bad("a change has other lines than its header says")
        if (line := self._peek()) is not None and line.startswith(b"\\ "):
            self._at += 1

    def _binary(self) -> None:
        for _ in range(2):
            line = self._peek()
            if line is None or _BINARY.fullmatch(line) is None:
                return
            self._at += 1
            while (line := self._peek()) is not None and _LETTER.fullmatch(line):
                self._at += 1
            if line == b"":
                self._at += 1

    def _checked(self, raw: bytes) -> str:
        try:
            name = raw.decode()
            parts = segments_of(name, _NAMES)
        except UnicodeDecodeError:
            raise self._bad("a file's name is not UTF-8") from None
        except BadArchive as error:
            raise self._bad(str(error)) from None
        if not parts or "/".join(parts) != name:
            raise self._bad(f"the name {shown(name)} is not a plain path")
        if any(is_git(part) for part in parts):
            raise self._bad(f"{shown(name)} is a part of git itself")
        return name


def _both_names(text: bytes) -> tuple[bytes, bytes] | None:
    """The names of ``a/NAME b/NAME``; where blanks make that ambiguous, the two must be the same."""
    found = {(one, other) for one, other in _splits(text) if one[:2] == b"a/" and other[:2] == b"b/"}
    if len(found) > 1:
        found = {(one, other) for one, other in found if one[2:] == other[2:]}
    if len(found) != 1:
        return None
    one, other = found.pop()
    return one[2:], other[2:]


def _splits(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    if text.startswith(b'"'):
        end = text.find(b'" ')
        while end > 0:
            yield _unquoted(text[: end + 1]), _unquoted(text[end + 2 :])
            end = text.find(b'" ', end + 1)
        return
    at = text.find(b" ")
    while at >= 0:
        yield text[:at], _unquoted(text[at + 1 :])
        at = text.find(b" ", at + 1)


def _unquoted(name: bytes) -> bytes:
    """A name as git quotes it; control characters come out and are refused by whoever checks."""
    if not (len(name) > 1 and name.startswith(b'"') and name.endswith(b'"')):
        return name
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 8)]) if m[1] else bytes([_PLAIN[m[2][0]]]), name[1:-1])
