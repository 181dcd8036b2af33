"""Where do the files of a task rest: diffs, logs, artifacts, uploads?

One seam, two places: a folder of this machine, or a bucket that speaks S3. Names are keys of ours
(``<tenant>/<task>/<attempt>/<file>``), never paths of somebody else's. Rules that hold:

* a key that is not plain is refused, whatever the backend would make of it;
* what is read is what was wholly written: a put that fails or is cancelled leaves nothing under its key;
* sizes are capped while streaming, not afterwards;
* absent is None, an unreachable backend is ResultsUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Protocol

CHUNK: Final = 256 * 1024
_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}){0,11}")


class ResultsUnavailable(Exception):
    """The place does not answer, is full or refuses us; str() is one line with the cause and the next step."""


class TooLarge(Exception):
    """More bytes came than were allowed; nothing was kept."""


def checked_key(key: str) -> str:
    """The key, if it is plain. Raises ValueError."""
    if _KEY.fullmatch(key) is None or ".." in key:
        raise ValueError(f"not a key of a result: {key[:120]!r}")
    return key


class ResultStore(Protocol):
    """See the module."""

    async def put(self, key: str, data: AsyncIterator[bytes], max_bytes: int) -> int:
        """The size. Raises TooLarge, ResultsUnavailable, ValueError; nothing is kept then."""

    async def get(self, key: str) -> AsyncIterator[bytes] | None: ...

    async def size(self, key: str) -> int | None: ...

    async def remove(self, prefix: str) -> int:
        """Everything at or below ``prefix`` (a key, or the part of it before a slash); how many."""


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """``data`` as a stream."""
    yield data


async def whole(store: ResultStore, key: str, max_bytes: int) -> bytes | None:
    """A small file at once. Raises TooLarge."""
    stream = await store.get(key)
    if stream is None:
        return None
    found = bytearray()
    async for piece in stream:
        found += piece
        if len(found) > max_bytes:
            raise TooLarge(f"{key} has more than {max_bytes} bytes")
    return bytes(found)


class LocalResults:
    """Files below a folder of mode 0700. Disk work runs in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*checked_key(key).split("/"))

    async def put(self, key: str, data: AsyncIterator[bytes], max_bytes: int) -> int:
        path = self._path(key)
        draft = path.with_name(f".{secrets.token_hex(8)}.part")
        size = 0
        try:
            await asyncio.to_thread(path.parent.mkdir, 0o700, True, True)
            with await asyncio.to_thread(draft.open, "xb") as file:
                async for piece in data:
                    size += len(piece)
                    if size > max_bytes:
                        raise TooLarge(f"{key} has more than {max_bytes} bytes")
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_settle, file)
            await asyncio.to_thread(os.replace, draft, path)
        except OSError as error:
            raise ResultsUnavailable(f"results folder: {error.strerror}; free some space or fix its owner") from None
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
        return size

    async def get(self, key: str) -> AsyncIterator[bytes] | None:
        try:
            file = await asyncio.to_thread(self._path(key).open, "rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise ResultsUnavailable(f"results folder: {error.strerror}") from None
        return _read(file)

    async def size(self, key: str) -> int | None:
        try:
            found = await asyncio.to_thread(self._path(key).stat)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size

    async def remove(self, prefix: str) -> int:
        return await asyncio.to_thread(_remove, self._path(prefix))


def _settle(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


async def _read(file: Any) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, CHUNK):
            yield piece


def _remove(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        count = sum(one.is_file() for one in path.rglob("*"))
        shutil.rmtree(path, ignore_errors=True)
        return count
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    return 1


class S3Results:
    """A bucket that speaks S3, by obstore (extra ``s3``). Built by :func:`open_s3`."""

    def __init__(self, bucket: Any, prefix: str, errors: tuple[type[Exception], ...]) -> None:
        """``errors`` is what the client raises."""
        self._bucket = bucket
        self._errors = errors
        self._prefix = prefix.strip("/")

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{checked_key(key)}" if self._prefix else checked_key(key)

    async def put(self, key: str, data: AsyncIterator[bytes], max_bytes: int) -> int:
        name = self._name(key)
        size = 0

        async def capped() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in data:
                size += len(piece)
                if size > max_bytes:
                    raise TooLarge(f"{key} has more than {max_bytes} bytes")
                yield piece

        try:
            await self._bucket.put_async(name, capped())
        except self._errors as error:
            if size > max_bytes:
                raise TooLarge(f"{key} has more than {max_bytes} bytes") from None
            raise _unavailable(error) from None
        return size

    async def get(self, key: str) -> AsyncIterator[bytes] | None:
        try:
            found = await self._bucket.get_async(self._name(key))
        except FileNotFoundError:
            return None
        except self._errors as error:
            raise _unavailable(error) from None
        return _stream(found)

    async def size(self, key: str) -> int | None:
        try:
            found = await self._bucket.head_async(self._name(key))
        except FileNotFoundError:
            return None
        except self._errors as error:
            raise _unavailable(error) from None
        return int(found["size"])

    async def remove(self, prefix: str) -> int:
        name = self._name(prefix)
        count = 0
        try:
            batches = self._bucket.list(name)
            while batch := await batches.__anext__():
                paths = [one["path"] for one in batch if one["path"] == name or one["path"].startswith(name + "/")]
                if paths:
                    await self._bucket.delete_async(paths)
                count += len(paths)
        except StopAsyncIteration:
            pass
        except self._errors as error:
            raise _unavailable(error) from None
        if await self.size(prefix) is not None:
            await self._bucket.delete_async(name)
            count += 1
        return count


async def _stream(found: Any) -> AsyncIterator[bytes]:
    async for piece in found.stream(min_chunk_size=CHUNK):
        yield bytes(piece)


def _unavailable(error: Exception) -> ResultsUnavailable:
    return ResultsUnavailable(
        f"the result bucket does not answer as it should ({type(error).__name__}); check sandbox.s3_*"
    )


def open_s3(
    url: str, *, endpoint: str | None, region: str, access_key: str | None, secret_key: str | None
) -> S3Results:
    """The bucket of ``s3://bucket/prefix``. Raises ValueError for another URL or when the extra is not installed."""
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,62})(/[A-Za-z0-9_./-]*)?", url)
    if match is None:
        raise ValueError("sandbox.s3_url must be s3://bucket/prefix")
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415 - an extra, loaded only when it is asked for
        from obstore.store import S3Store  # noqa: PLC0415 - as above
    except ImportError:
        raise ValueError("results in S3 need the extra: pip install codex-relay[s3]") from None
    options: dict[str, Any] = {"region": region}
    if endpoint is not None:
        options |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if access_key is not None:
        options |= {"access_key_id": access_key, "secret_access_key": secret_key or ""}
    if endpoint is not None and endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    return S3Results(S3Store(match[1], **options), match[2] or "", (BaseError, OSError, TooLarge))
