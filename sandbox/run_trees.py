"""What is in a tar stream that an engine or the result store hands out? Reading only; nothing is ever unpacked.

Names inside are somebody else's: they are compared, never used as a path. Sizes are capped while reading.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Collection
from pathlib import PurePosixPath
from typing import IO, Final

AGENT_UID: Final = 10001
TREE_BYTES: Final = 64 << 20
LOCKFILES: Final = (
    "package-lock.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "poetry.lock", "uv.lock", "Pipfile.lock",
    "requirements.txt", "Cargo.lock", "go.sum", "Gemfile.lock", "composer.lock",
)  # fmt: skip
"""What says which packages a repository wants, at its root."""
_SESSIONS: Final = ".codex/sessions"


async def root_files(tar: AsyncIterator[bytes], names: Collection[str], max_bytes: int) -> dict[str, bytes]:
    """The regular files at the root of the tree with one of these names. Raises ValueError for what is no tar."""
    with await asyncio.to_thread(tempfile.TemporaryFile) as file:
        async for piece in tar:
            await asyncio.to_thread(file.write, piece)
        return await asyncio.to_thread(_root_files, file, names, max_bytes)


def _root_files(file: IO[bytes], names: Collection[str], max_bytes: int) -> dict[str, bytes]:
    file.seek(0)
    found = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tree:
            for member in tree:
                parts = [part for part in PurePosixPath(member.name).parts if part != "."]
                if member.isreg() and len(parts) == 1 and parts[0] in names and member.size <= max_bytes:
                    content = tree.extractfile(member)
                    found[parts[0]] = b"" if content is None else content.read()
    except tarfile.TarError as error:
        raise ValueError(f"the upload is not a tar: {error}") from None
    return found


async def gathered(tar: AsyncIterator[bytes], max_bytes: int = TREE_BYTES) -> bytes:
    """A small stream at once. Raises ValueError beyond ``max_bytes``."""
    found = bytearray()
    async for piece in tar:
        found += piece
        if len(found) > max_bytes:
            raise ValueError(f"more than {max_bytes} bytes")
    return bytes(found)


async def only_file(tar: AsyncIterator[bytes]) -> bytes:
    """The content of the one regular file of a tar. Raises ValueError."""
    data = await gathered(tar)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tree:
            member = tree.next()
            content = tree.extractfile(member) if member is not None and member.isreg() else None
            if content is None:
                raise ValueError("not a file")
            return content.read()
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None


async def session_of(tar: AsyncIterator[bytes]) -> bytes:
    """A thread's files (the tar of /home/agent/.codex/sessions) as a tar to be put to another /home/agent.

    Folders and regular files only, owned by the agent. Raises ValueError.
    """
    data = await gathered(tar)
    return await asyncio.to_thread(_session_of, data)


def _session_of(data: bytes) -> bytes:
    out = io.BytesIO()
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tree, tarfile.open(fileobj=out, mode="w") as made:
            for folder in (".codex", _SESSIONS):
                made.addfile(_folder(folder))
            for member in tree:
                parts = [part for part in PurePosixPath(member.name).parts if part not in {".", "/"}]
                parts = parts[1:] if parts[:1] == ["sessions"] else parts
                if ".." in parts or not parts:
                    continue
                name = "/".join((_SESSIONS, *parts))
                if member.isdir():
                    made.addfile(_folder(name))
                elif member.isreg():
                    made.addfile(_owned(name, member.size), tree.extractfile(member))
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None
    return out.getvalue()


def _owned(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = size, 0o600, AGENT_UID, AGENT_UID
    return info


def _folder(name: str) -> tarfile.TarInfo:
    info = _owned(name, 0)
    info.type, info.mode = tarfile.DIRTYPE, 0o700
    return info
