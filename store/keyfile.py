"""Where does the key-encrypting key come from?

A KeyProvider hands out a KeyRing; two are here, a file and a setting's value. Both hold base64 of 32 bytes; several
keys may stand there, separated by white space: the first seals, the others still open (that is how a key is replaced).

Rules that hold:

* a key file that others may read, that is a link or that is no regular file is refused with one line and the fix;
* a key file is made once, exclusively, with mode 0600, and is on the disk before anything is sealed under it;
* no message and no repr holds key material.

Whether a missing key may be made is not decided here but in store.open: never when a database exists already.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from pathlib import Path
from typing import Final, Protocol

from store.errors import StoreUnusable, WrongKey
from store.records import Secret
from store.vault import KEY_BYTES, KeyRing

_LARGEST_FILE: Final = 4096


class KeyProvider(Protocol):
    """A source of key-encrypting keys."""

    @property
    def source(self) -> str:
        """What an operator calls it, for messages: ``key file data/vault.key``."""

    def present(self) -> bool:
        """Whether :meth:`load` has something to read."""

    def load(self) -> KeyRing:
        """Raises WrongKey when the key is missing, malformed or readable by others."""

    def create(self) -> Path | None:
        """Makes a new random key; its path, or None when another process was first. Raises StoreUnusable."""


class FileKeys:
    """Keys in a file of mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def source(self) -> str:
        return f"key file {self._path}"

    def present(self) -> bool:
        return os.path.lexists(self._path)

    def load(self) -> KeyRing:
        return KeyRing(_decode(self._read(), self.source))

    def create(self) -> Path | None:
        make_private_folders(self._path.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags, 0o600)
        except FileExistsError:
            return None
        except OSError as error:
            raise StoreUnusable(f"{self.source} cannot be made ({error.strerror}); name a writable place") from None
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._path.parent)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise StoreUnusable(f"{self.source} cannot be written ({error.strerror}); free some space") from None
        return self._path

    def _read(self) -> bytes:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise WrongKey(f"{self.source} is missing; restore it from its backup") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise WrongKey(f"{self.source} is a symbolic link; name the file itself") from None
            raise WrongKey(f"{self.source} cannot be read ({error.strerror})") from None
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise WrongKey(f"{self.source} is not a regular file")
            if info.st_mode & 0o077:
                mode = stat.S_IMODE(info.st_mode)
                raise WrongKey(f"{self.source} may be read by others (mode {mode:04o}); run: chmod 600 {self._path}")
            return os.read(handle, _LARGEST_FILE)
        finally:
            os.close(handle)


class ValueKeys:
    """Keys in a setting's value (``vault.key``, by environment)."""

    def __init__(self, value: Secret | None) -> None:
        self._value = value

    @property
    def source(self) -> str:
        return "setting vault.key"

    def present(self) -> bool:
        """Always: a value cannot be made for the operator."""
        return True

    def load(self) -> KeyRing:
        if not self._value:
            raise WrongKey(f"{self.source} is empty; set it to base64 of {KEY_BYTES} random bytes")
        return KeyRing(_decode(self._value.reveal().encode(), self.source))

    def create(self) -> Path | None:
        raise StoreUnusable(f"{self.source} cannot be made; set it to base64 of {KEY_BYTES} random bytes")


def _decode(text: bytes, source: str) -> list[bytes]:
    keys: list[bytes] = []
    for word in text.split():
        try:
            key = base64.b64decode(word, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise WrongKey(f"{source} is not base64 of {KEY_BYTES} bytes; restore it from its backup")
        keys.append(key)
    if not keys:
        raise WrongKey(f"{source} holds no key; restore it from its backup")
    return keys


def make_private_folders(folder: Path) -> None:
    """Makes what is missing of ``folder`` with mode 0700. Raises StoreUnusable."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(missing):
        try:
            part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreUnusable(f"folder {part} cannot be made ({error.strerror}); name a writable place") from None


def sync_folder(folder: Path) -> None:
    """Makes a new name in ``folder`` durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
