"""Where does the key-encrypting key come from?

A KeyProvider hands out a KeyRing; two are here, a file and a setting's value. Both hold base64 of 32 bytes; several
keys may stand there, separated by white space: the first seals, the others still open (that is how a key is replaced).
The providers that ask somebody else stand in key_command and key_wrapped; store.providers chooses.

Rules that hold:

* a key file that others may read, that is a link or that is no regular file is refused with one line and the fix;
* a key file is made once, exclusively, with mode 0600, and is on the disk before anything is sealed under it;
* a change of the file adds a key behind the others, moves one to the front, or moves one out to ``PATH.retired``; it
  never loses one, and two changes at once follow one another;
* no message and no repr holds key material.

Whether a missing key may be made is not decided here but in store.open: never when a database exists already.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from store.errors import StoreUnusable, WrongKey
from store.private_file import create_private, mark_of, one_change, read_private, replace_private
from store.records import Secret
from store.vault import KEY_BYTES, KeyRing, key_id

_LARGEST_FILE: Final = 4096


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made and is not in use: its id, and the line of the key file that holds it."""

    id: bytes
    line: bytes = field(repr=False)


class KeyProvider(Protocol):
    """A source of key-encrypting keys."""

    @property
    def source(self) -> str:
        """What an operator calls it, for messages: ``key file data/vault.key``."""

    def present(self) -> bool:
        """Whether :meth:`load` has something to read."""

    def load(self) -> KeyRing:
        """Blocking. Raises WrongKey when the key is missing, malformed or readable by others."""

    def mark(self) -> object | None:
        """Another value whenever :meth:`load` would give another ring; None when only loading tells."""

    def create(self) -> Path | None:
        """Makes a new random key; its path, or None when another process was first. Raises StoreUnusable."""


class KeyChanger(KeyProvider, Protocol):
    """A provider whose keys the gateway itself may change. Every change is durable when it returns."""

    def make(self) -> NewKey:
        """A new random key that is nowhere yet. Raises StoreUnusable when whoever has to wrap it does not answer."""

    def add(self, new: NewKey) -> None:
        """Puts it behind the others: it opens, and does not seal. Raises StoreUnusable, WrongKey."""

    def promote(self, wanted: bytes) -> None:
        """Moves the key to the front: it seals from now on. Raises WrongKey when there is no such key."""

    def retire(self, wanted: bytes) -> Path:
        """Moves a key that does not seal out of the ring into a file beside, whose path is returned: backups under it
        open with that file. Raises WrongKey when there is no such key, or it is the one that seals."""

    def restore(self, wanted: bytes) -> None:
        """Puts a key that was moved out behind the others again. Raises WrongKey when it is not kept."""

    def retired(self) -> KeyRing | None:
        """The keys that were moved out; None when there are none. Raises WrongKey."""


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
        return KeyRing(self._keys())

    def mark(self) -> object | None:
        return mark_of(self._path)

    def create(self) -> Path | None:
        made = create_private(self._path, self.source, lambda: _encode([os.urandom(KEY_BYTES)]))
        return self._path if made else None

    def make(self) -> NewKey:
        new = os.urandom(KEY_BYTES)
        return NewKey(key_id(new), _encode([new]))

    def add(self, new: NewKey) -> None:
        added = decode_keys(new.line, self.source)
        self._change(lambda keys: [*keys, *(key for key in added if key not in keys)])

    def promote(self, wanted: bytes) -> None:
        def front(keys: list[bytes]) -> list[bytes]:
            first = _find(keys, wanted, self.source)
            return [first, *(key for key in keys if key != first)]

        self._change(front)

    def retire(self, wanted: bytes) -> Path:
        def without(keys: list[bytes]) -> list[bytes]:
            leaving = _find(keys, wanted, self.source)
            if leaving == keys[0]:
                raise WrongKey(f"key {wanted.hex()} is the one that seals; rotate first")
            kept = self._retired_keys()
            if leaving not in kept:
                replace_private(retired_path(self._path), self.source, _encode([*kept, leaving]))
            return [key for key in keys if key != leaving]

        self._change(without)
        return retired_path(self._path)

    def restore(self, wanted: bytes) -> None:
        back = _find(self._retired_keys(), wanted, f"key file {retired_path(self._path)}")
        self._change(lambda keys: [*keys, back])

    def retired(self) -> KeyRing | None:
        keys = self._retired_keys()
        return KeyRing(keys) if keys else None

    def _keys(self) -> list[bytes]:
        return decode_keys(read_private(self._path, self.source, _LARGEST_FILE), self.source)

    def _retired_keys(self) -> list[bytes]:
        path = retired_path(self._path)
        if not os.path.lexists(path):
            return []
        return decode_keys(read_private(path, f"key file {path}", _LARGEST_FILE), f"key file {path}")

    def _change(self, change: Callable[[list[bytes]], list[bytes]]) -> None:
        with one_change(self._path, self.source):
            content = _encode(change(self._keys()))
            if len(content) > _LARGEST_FILE:
                raise StoreUnusable(f"{self.source} holds as many keys as it may; retire some")
            replace_private(self._path, self.source, content)


class ValueKeys:
    """Keys in a setting's value (``vault.key``, by environment). They change with a restart only."""

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
        return KeyRing(decode_keys(self._value.reveal().encode(), self.source))

    def mark(self) -> object | None:
        return "constant"

    def create(self) -> Path | None:
        raise StoreUnusable(f"{self.source} cannot be made; set it to base64 of {KEY_BYTES} random bytes")


def retired_path(path: Path) -> Path:
    """Where keys that were taken out of the key file ``path`` are kept."""
    return path.with_name(f"{path.name}.retired")


def _find(keys: list[bytes], wanted: bytes, source: str) -> bytes:
    for key in keys:
        if key_id(key) == wanted:
            return key
    raise WrongKey(f"{source} holds no key of id {wanted.hex()}; codex-relay vault status shows the ids")


def _encode(keys: list[bytes]) -> bytes:
    return b"".join(base64.b64encode(key) + b"\n" for key in keys)


def decode_keys(text: bytes, source: str) -> list[bytes]:
    """Raw keys of base64 words. Raises WrongKey, which calls their origin ``source``."""
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
