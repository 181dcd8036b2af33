"""How do files go into a container and come out of one, when the tar that comes out was made by an adversary?

The engine makes the tar of ``/out`` from a file system that the agent could write. Rules that hold for reading:

* regular files alone: links, hard links, devices, pipes and sparse files are passed over, folders are not made, modes
  and owners are not looked at;
* names are a closed set (``NAMES``) and what is below ``artifacts/``; each part of such a name is checked, a name that
  came already is passed over, and a name is never used as a path by this file;
* nothing is collected: bytes are handed on as they come; sizes, their sum and the number of members are capped;
* a stream that breaks off or is no tar raises OutRefused, whatever was handed out before is whole.

Docker names members ``out/x``, Podman ``/x`` or ``x``: the first member says which.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

NAMES: Final = frozenset({"diff.patch", "last_message.txt", "setup.log", "judge.log", "events.jsonl", "result.json"})
ARTIFACTS: Final = "artifacts/"
_BLOCK: Final = 512
_PART: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f/\\\ud800-\udfff\u2028-\u202e\u2066-\u2069]{1,255}")
_NAME_MAX: Final = 1024
_EXTENDED_MAX: Final = 64 << 10


class OutRefused(Exception):
    """The stream is not a tar, breaks off, or is larger than it may be; str() is one line."""


@dataclass(frozen=True, slots=True)
class OutCaps:
    """What is taken at most. A file beyond ``file_bytes`` is passed over; beyond the others the reading ends."""

    members: int = 5000
    files: int = 300
    file_bytes: int = 64 << 20
    all_bytes: int = 512 << 20


def input_tar(files: Mapping[str, bytes], uid: int = 10001) -> bytes:
    """A tar of regular files owned by ``uid``; one that is named like a secret gets mode 0600, the others 0644."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.uid = member.gid = uid
            member.mode = 0o600 if "secret" in name else 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


async def read_out_tar(
    stream: AsyncIterator[bytes], caps: OutCaps = OutCaps()
) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
    """(name, its bytes) for each file to keep. What a caller does not read of one is passed over. Raises OutRefused."""
    source, seen = _Source(stream), set[str]()
    members, left_bytes, docker = 0, caps.all_bytes, None
    async for member in _members(source):
        members += 1
        left_bytes -= member.size
        if members > caps.members or left_bytes < 0:
            raise OutRefused("the container's output has more files or bytes than are taken")
        if docker is None:
            docker = member.name.rstrip("/") == "out" and member.is_folder
        name = kept_name(member.name, docker=docker)
        source.begin(member.size)
        if name is not None and name not in seen and member.is_file and member.size <= caps.file_bytes:
            if len(seen) >= caps.files:
                raise OutRefused("the container's output has more files than are taken")
            seen.add(name)
            yield name, source.payload()
        await source.rest()
        await source.padding(member.size)


def kept_name(raw: str, *, docker: bool) -> str | None:
    """Under which name a member is kept; None: it is not."""
    name = raw.removeprefix("./").lstrip("/")
    if docker:
        if not name.startswith("out/"):
            return None
        name = name.removeprefix("out/")
    if name in NAMES:
        return name
    parts = name.removeprefix(ARTIFACTS).split("/")
    safe = all(_PART.fullmatch(part) and part not in {".", ".."} for part in parts)
    return name if name.startswith(ARTIFACTS) and safe and len(name) <= _NAME_MAX else None


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    kind: bytes
    sparse: bool

    @property
    def is_file(self) -> bool:
        return self.kind in {b"0", b"\0"} and not self.sparse and not self.name.endswith("/")

    @property
    def is_folder(self) -> bool:
        return self.kind == b"5"


class _Source:
    """Exact amounts from a stream of chunks."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._held = memoryview(b"")
        self._left = 0

    async def _more(self) -> bool:
        while not self._held:
            try:
                self._held = memoryview(await anext(self._stream))
            except StopAsyncIteration:
                return False
        return True

    async def exactly(self, size: int) -> bytes | None:
        """None at a clean end. Raises OutRefused when it ends in the middle."""
        read = bytearray()
        while len(read) < size:
            if not await self._more():
                if read:
                    raise OutRefused("the container's output broke off")
                return None
            taken = self._held[: size - len(read)]
            read += taken
            self._held = self._held[len(taken) :]
        return bytes(read)

    def begin(self, size: int) -> None:
        self._left = size

    async def payload(self) -> AsyncIterator[bytes]:
        """What is left of the payload that was begun."""
        while self._left:
            if not await self._more():
                raise OutRefused("the container's output broke off")
            taken = self._held[: self._left]
            self._held = self._held[len(taken) :]
            self._left -= len(taken)
            yield bytes(taken)

    async def rest(self) -> None:
        """Passes over what nobody read of the payload."""
        async for _ in self.payload():
            pass

    async def padding(self, size: int) -> None:
        if size % _BLOCK:
            await self.exactly(_BLOCK - size % _BLOCK)


async def _members(source: _Source) -> AsyncIterator[_Member]:
    """Headers with their long names and sizes applied; the caller takes the payload of each."""
    long_name: str | None = None
    extended: dict[str, str] = {}
    empty = extensions = 0
    while (block := await source.exactly(_BLOCK)) is not None:
        if not block.strip(b"\0"):
            empty += 1
            if empty == 2:
                return
            continue
        empty = 0
        kind, size = block[156:157], _header_size(block)
        if kind in {b"L", b"K", b"x", b"g"}:
            extensions += 1
            if extensions > 4 or size > _EXTENDED_MAX:
                raise OutRefused("the container's output is no tar that an engine makes")
            data = await source.exactly(size) or b""
            await source.padding(size)
            if kind == b"L":
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif kind == b"x":
                extended = _extended(data)
            continue
        name = extended.get("path") or long_name or _header_name(block)
        sparse = any(key.startswith("GNU.sparse") for key in extended)
        yield _Member(name, _number(extended["size"]) if "size" in extended else size, kind, sparse)
        long_name, extended, extensions = None, {}, 0


def _header_size(block: bytes) -> int:
    """Checks the checksum, too."""
    told = _octal(block[148:156])
    if told != sum(block[:148]) + 8 * 32 + sum(block[156:]):
        raise OutRefused("the container's output is no tar")
    field = block[124:136]
    if field[0] & 0x80:
        return _bounded(int.from_bytes(field[1:]) | ((field[0] & 0x7F) << 88))
    return _octal(field)


def _octal(field: bytes) -> int:
    digits = field.split(b"\0")[0].strip() or b"0"
    if not re.fullmatch(rb"[0-7]+", digits):
        raise OutRefused("the container's output is no tar")
    return int(digits, 8)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise OutRefused("the container's output is no tar")
    return int(text)


def _bounded(size: int) -> int:
    if size >= 1 << 62:
        raise OutRefused("the container's output has a file of no possible size")
    return size


def _header_name(block: bytes) -> str:
    name, prefix = (block[a:b].split(b"\0")[0] for a, b in ((0, 100), (345, 500)))
    whole = prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name
    return whole.decode("utf-8", "surrogateescape")


def _extended(data: bytes) -> dict[str, str]:
    """The records of a PAX header. Raises OutRefused for what is none."""
    found: dict[str, str] = {}
    while data:
        head, blank, _ = data.partition(b" ")
        length = int(head) if blank and re.fullmatch(rb"[0-9]{1,6}", head) else 0
        if length <= len(head) + 1 or length > len(data):
            raise OutRefused("the container's output is no tar")
        key, _, value = data[len(head) + 1 : length].removesuffix(b"\n").partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    return found
