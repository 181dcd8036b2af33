"""Where do new tokens rest while the store cannot be written?

A refresh token that was just exchanged exists nowhere but here. When the store refuses the write (locked, full), the
credential goes, sealed, into a file of its own beside the database, and is taken from there by whoever can store it:
this process a moment later, another process that finds the open intent, or the next start.

Rules that hold:

* sealed by the vault before it touches the disk; file mode 0600; written aside, synced and renamed, so it is whole;
* a file names the refresh token that its content replaces (by digest): it is used only on top of exactly that token,
  and is stale in every other case;
* a file that cannot be read or opened is left where it is and counts as absent: it may open after a key is restored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from store.errors import SealBroken
from store.private_file import locked_folder
from store.records import Credential, RefreshState, Secret

SUFFIX: Final = ".spooled"
MAX_FILE_BYTES: Final = 512 * 1024

Seal = Callable[[str, bytes], bytes]
"""(account id, plaintext) -> sealed bytes that open for the same account id only."""
Open = Callable[[str, bytes], bytes]
"""(account id, sealed bytes) -> plaintext. Raises SealBroken."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """New tokens that wait for the store, and the digest of the refresh token they replace."""

    credential: Credential
    replaces: str


class Spool(Protocol):
    """An emergency place for credentials that the store would not take."""

    async def put(self, spooled: Spooled) -> None:
        """Keeps it durably. Raises OSError when even that fails."""

    async def get(self, account_id: str) -> Spooled | None: ...

    async def forget(self, account_id: str) -> None: ...

    async def account_ids(self) -> tuple[str, ...]:
        """Accounts for which something waits."""


class NoSpool:
    """For stores that live in memory: nothing outlives the process anyway."""

    async def put(self, spooled: Spooled) -> None:
        return None

    async def get(self, account_id: str) -> Spooled | None:
        return None

    async def forget(self, account_id: str) -> None:
        return None

    async def account_ids(self) -> tuple[str, ...]:
        return ()


class FileSpool:
    """One sealed file per account in ``folder``, which is made (0700) when it is missing: at :meth:`account_ids`, so
    at the start, when the disk has room yet. Disk work runs in a thread."""

    def __init__(self, folder: Path, seal: Seal, open_sealed: Open) -> None:
        self._folder = folder
        self._seal = seal
        self._open = open_sealed

    async def put(self, spooled: Spooled) -> None:
        sealed = self._seal(spooled.credential.account_id, _encode(spooled))
        await asyncio.to_thread(_write_whole, self._path(spooled.credential.account_id), sealed)

    async def get(self, account_id: str) -> Spooled | None:
        sealed = await asyncio.to_thread(_read_bounded, self._path(account_id))
        if sealed is None:
            return None
        try:
            return _decode(account_id, self._open(account_id, sealed))
        except (SealBroken, ValueError, KeyError, TypeError):
            return None

    async def forget(self, account_id: str) -> None:
        try:
            await asyncio.to_thread(self._path(account_id).unlink, missing_ok=True)
        except OSError:
            pass  # it is stale now, and is never used on top of another token

    async def account_ids(self) -> tuple[str, ...]:
        return await asyncio.to_thread(self._list)

    def _list(self) -> tuple[str, ...]:
        try:
            _make(self._folder)
        except OSError:
            return ()
        names = []
        for path in sorted(self._folder.glob("*" + SUFFIX)):
            head = _read_bounded(path)
            if head is not None:
                names.append(path.name.removesuffix(SUFFIX))
        return tuple(names)

    def _path(self, account_id: str) -> Path:
        safe = account_id if account_id.replace("_", "").isalnum() else hashlib.sha256(account_id.encode()).hexdigest()
        return self._folder / (safe + SUFFIX)


def _encode(spooled: Spooled) -> bytes:
    credential = spooled.credential
    document = {
        "account_id": credential.account_id,
        "access_token": credential.access_token.reveal(),
        "refresh_token": credential.refresh_token.reveal() if credential.refresh_token else None,
        "id_token": credential.id_token.reveal() if credential.id_token else None,
        "expires_at_s": credential.expires_at_s,
        "refreshed_at_s": credential.refreshed_at_s,
        "version": credential.version,
        "replaces": spooled.replaces,
    }
    return json.dumps(document).encode()


def _decode(account_id: str, text: bytes) -> Spooled | None:
    document = json.loads(text)
    if document["account_id"] != account_id:
        return None
    refresh, identity = document["refresh_token"], document["id_token"]
    credential = Credential(
        account_id=account_id,
        access_token=Secret(document["access_token"]),
        refresh_token=Secret(refresh) if refresh else None,
        id_token=Secret(identity) if identity else None,
        expires_at_s=float(document["expires_at_s"]),
        refreshed_at_s=float(document["refreshed_at_s"]),
        refresh_state=RefreshState.READY,
        version=int(document["version"]),
    )
    return Spooled(credential, str(document["replaces"]))


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)


def _write_whole(path: Path, data: bytes) -> None:
    _make(path.parent)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with locked_folder(path.parent):  # a change of keys may be replacing the same file (auth.spool_rows)
            aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_bounded(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    return data if len(data) <= MAX_FILE_BYTES else None
