"""What is a backup file, so that it opens whole and under its key, or not at all?

    magic (8) | length (4) | header, JSON | chunk, chunk, ..., last chunk
    chunk = last? (1) | length (4) | AES-256-GCM ciphertext and tag

The header names format, id, time, schema and key id, and carries the content key, sealed by the vault for this backup's
id. Every chunk is bound to the digest of the header, to its number and to whether it is the last one: a file that was
cut, extended, reordered, mixed from two or altered anywhere is refused.

Rules that hold:

* a file is made exclusively with mode 0600, under another name, and gets its own when it was read back whole;
* an existing file is never written over;
* nothing that was read is handed out as good before the last chunk has proved itself: callers write it to a draft.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.errors import FutureSchema, SealBroken, StoreCorrupt, StoreUnavailable, StoreUnusable, WrongKey
from store.private_file import sync_folder
from store.vault import KEY_BYTES, Place, Vault, sealing_key_id

FORMAT: Final = 1
_MAGIC: Final = b"CRLYBAK\x01"
_LARGEST_HEADER: Final = 64 * 1024
_CHUNK: Final = 1024 * 1024
_TAG: Final = 16


class Header(msgspec.Struct, frozen=True):
    """What anybody may read of a backup. ``content_key`` is sealed. Times in Unix seconds."""

    format: int
    id: str
    created_at_s: float
    schema: int
    kind: str
    key_id: str
    content_key: str


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was written and read back: its header, its size and the digest of its content."""

    header: Header
    size_bytes: int
    digest: str


def write_backup(path: Path, content: BinaryIO, vault: Vault, *, created_at_s: float, schema: int, kind: str) -> Made:
    """Writes ``content`` to the new file ``path`` and reads it back. Raises StoreUnusable, StoreUnavailable; then no
    file of that name was made."""
    if os.path.lexists(path):
        raise StoreUnusable(f"{path} exists already; name a new file")
    name, key = os.urandom(16).hex(), os.urandom(KEY_BYTES)
    sealed = vault.seal(key, _place(name))
    header = Header(
        FORMAT, name, created_at_s, schema, kind, sealing_key_id(sealed).hex(), base64.b64encode(sealed).decode()
    )
    draft = path.with_name(f".{path.name}.{name[:8]}")
    try:
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                digest = _write(file, header, key, content)
                file.flush()
                os.fsync(file.fileno())
            if read_backup(draft, vault, lambda _: None).digest != digest:
                raise StoreUnavailable(f"{path} does not hold what was written; check the disk")
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
        return Made(header, path.stat().st_size, digest)
    except FileExistsError:
        raise StoreUnusable(f"{path} exists already; name a new file") from None
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written ({error.strerror or error}); name a writable place") from None


def read_header(path: Path) -> Header:
    """Raises StoreCorrupt when it is no backup, FutureSchema when a newer release made it."""
    with _opened(path) as file:
        return _header(file, path)[0]


def read_backup(path: Path, vault: Vault, take: Callable[[bytes], object]) -> Made:
    """Hands the content to ``take`` in pieces; only when it returns was it the whole and the true content.

    Raises StoreCorrupt, FutureSchema, WrongKey, StoreUnavailable.
    """
    with _opened(path) as file:
        header, bound = _header(file, path)
        try:
            sealed = base64.b64decode(header.content_key, validate=True)
        except ValueError:
            raise _damaged(path) from None
        if sealing_key_id(sealed) not in vault.ring:
            raise WrongKey(
                f"backup {path} is under key id {header.key_id}, which is not among the keys here; "
                "name the file that holds it with --key-file"
            )
        try:
            key = vault.open(sealed, _place(header.id))
        except SealBroken:
            raise _damaged(path) from None
        digest, size = hashlib.sha256(), 0
        for piece in _chunks(file, key, bound, path):
            digest.update(piece)
            take(piece)
        size = file.tell()
    return Made(header, size, digest.hexdigest())


def _write(file: BinaryIO, header: Header, key: bytes, content: BinaryIO) -> str:
    text = msgspec.json.encode(header)
    start = _MAGIC + len(text).to_bytes(4, "big") + text
    file.write(start)
    cipher, bound, digest = AESGCM(key), hashlib.sha256(start).digest(), hashlib.sha256()
    number, piece = 0, content.read(_CHUNK)
    while True:
        following = content.read(_CHUNK)
        last = not following
        digest.update(piece)
        sealed = cipher.encrypt(_nonce(number), piece, _bond(bound, number, last))
        file.write(bytes([last]) + len(sealed).to_bytes(4, "big") + sealed)
        if last:
            return digest.hexdigest()
        number, piece = number + 1, following


def _chunks(file: BinaryIO, key: bytes, bound: bytes, path: Path) -> Iterator[bytes]:
    cipher, number = AESGCM(key), 0
    while True:
        head = file.read(5)
        length = int.from_bytes(head[1:], "big")
        if len(head) != 5 or head[0] > 1 or not _TAG <= length <= _CHUNK + _TAG:
            raise _damaged(path)
        last, sealed = bool(head[0]), file.read(length)
        if len(sealed) != length:
            raise _damaged(path)
        try:
            yield cipher.decrypt(_nonce(number), sealed, _bond(bound, number, last))
        except InvalidTag:
            raise _damaged(path) from None
        if last:
            break
        number += 1
    if file.read(1):
        raise _damaged(path)


def _header(file: BinaryIO, path: Path) -> tuple[Header, bytes]:
    magic = file.read(len(_MAGIC))
    if magic[:7] != _MAGIC[:7]:
        raise StoreCorrupt(f"{path} is not a backup of ours; name another file")
    if magic != _MAGIC:
        raise FutureSchema(f"backup {path} is of a format that this release does not know; run the newer release")
    length = file.read(4)
    size = int.from_bytes(length, "big")
    text = file.read(min(size, _LARGEST_HEADER))
    try:
        header = msgspec.json.decode(text, type=Header)
    except msgspec.MsgspecError:
        raise _damaged(path) from None
    if size > _LARGEST_HEADER:
        raise _damaged(path)
    if header.format > FORMAT:
        raise FutureSchema(
            f"backup {path} is of format {header.format}, this release knows {FORMAT}; run the newer one"
        )
    return header, hashlib.sha256(magic + length + text).digest()


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")
    except OSError as error:
        raise StoreUnavailable(f"backup {path} cannot be read ({error.strerror}); name a readable file") from None


def _damaged(path: Path) -> StoreCorrupt:
    return StoreCorrupt(f"backup {path} is damaged or was altered; use another one")


def _place(name: str) -> Place:
    return Place("backup", name, "content-key", FORMAT)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _bond(bound: bytes, number: int, last: bool) -> bytes:
    return bound + number.to_bytes(8, "big") + bytes([last])
