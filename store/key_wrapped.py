"""Keys that rest wrapped by a key service (Vault transit, AWS KMS, GCP KMS) and are unwrapped once, at start.

The key-encrypting key is made here, 32 random bytes; the service wraps it, and ``vault.key_file`` keeps what came
back, one JSON object a line: the first seals, all of them open.

    {"id": "<key id>", "service": "aws", "with": "<name of the service's key>", "wrapped": "<text>"}

Why not ask the service for every data key: a record would cost a call, an ill service would stop the gateway, and a
change of the service's key would mean calling it for every row. This way the service is needed at a start and at a
rotation, and a copy of the disk without the service opens nothing.

Rules that hold:

* an unwrapped key must have the id that its line names, so a line cannot be swapped for another one unseen;
* what was unwrapped once is kept in memory: the service may be away later. Away at the start means no start;
* the file has mode 0600 and changes as a key file does (store.private_file);
* no key and no answer of a service is in a message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from store.errors import WrongKey
from store.keyfile import NewKey, retired_path
from store.private_file import create_private, mark_of, one_change, read_private, replace_private
from store.vault import KEY_BYTES, KeyRing, key_id

_LARGEST_FILE: Final = 256 * 1024


class KeyService(Protocol):
    """Somebody who wraps and unwraps 32 bytes. Blocking, bounded in time."""

    @property
    def name(self) -> str:
        """``aws``, ``gcp`` or ``transit``: a line of another service is refused."""

    @property
    def key_name(self) -> str:
        """The service's own name of its key, for messages and for the file."""

    def wrap(self, key: bytes) -> str:
        """Printable text. Raises StoreUnusable with the cause and the next step."""

    def unwrap(self, wrapped: str, key_name: str) -> bytes:
        """What was wrapped under the service's key ``key_name``. Raises StoreUnusable, WrongKey when refused."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    service: str
    with_: str = msgspec.field(name="with")
    wrapped: str = ""


_decode = msgspec.json.Decoder(_Line).decode


class WrappedKeys:
    """Implements store.keyfile.KeyChanger over a KeyService."""

    def __init__(self, path: Path, service: KeyService) -> None:
        self._path = path
        self._service = service
        self._known: dict[str, bytes] = {}  # wrapped text -> key

    @property
    def source(self) -> str:
        return f"key file {self._path} (wrapped by {self._service.name} key {self._service.key_name})"

    def present(self) -> bool:
        return os.path.lexists(self._path)

    def load(self) -> KeyRing:
        return KeyRing([self._unwrapped(line) for line in self._lines(self._path)])

    def mark(self) -> object | None:
        return mark_of(self._path)

    def create(self) -> Path | None:
        made = create_private(self._path, self.source, lambda: self.make().line)
        return self._path if made else None

    def make(self) -> NewKey:
        key = os.urandom(KEY_BYTES)
        wrapped = self._service.wrap(key)
        self._known[wrapped] = key
        name = key_id(key)
        return NewKey(name, _encode([_Line(name.hex(), self._service.name, self._service.key_name, wrapped)]))

    def add(self, new: NewKey) -> None:
        added = _decode(new.line)
        self._change(lambda lines: [*lines, *([added] if added not in lines else [])])

    def promote(self, wanted: bytes) -> None:
        def front(lines: list[_Line]) -> list[_Line]:
            first = self._find(lines, wanted, self._path)
            return [first, *(line for line in lines if line != first)]

        self._change(front)

    def retire(self, wanted: bytes) -> Path:
        path = retired_path(self._path)

        def without(lines: list[_Line]) -> list[_Line]:
            leaving = self._find(lines, wanted, self._path)
            if leaving == lines[0]:
                raise WrongKey(f"key {wanted.hex()} is the one that seals; rotate first")
            kept = self._retired_lines()
            if leaving not in kept:
                replace_private(path, f"key file {path}", _encode([*kept, leaving]))
            return [line for line in lines if line != leaving]

        self._change(without)
        return path

    def restore(self, wanted: bytes) -> None:
        back = self._find(self._retired_lines(), wanted, retired_path(self._path))
        self._change(lambda lines: [*lines, back])

    def retired(self) -> KeyRing | None:
        lines = self._retired_lines()
        return KeyRing([self._unwrapped(line) for line in lines]) if lines else None

    def _unwrapped(self, line: _Line) -> bytes:
        known = self._known.get(line.wrapped)
        if known is None:
            if line.service != self._service.name:
                raise WrongKey(f"{self._path} holds a key of service {line.service!r}; set vault.provider to it")
            known = self._service.unwrap(line.wrapped, line.with_)
            if len(known) != KEY_BYTES or key_id(known).hex() != line.id:
                raise WrongKey(f"{self.source} names another key than was unwrapped; restore it from its backup")
            self._known[line.wrapped] = known
        return known

    def _find(self, lines: list[_Line], wanted: bytes, path: Path) -> _Line:
        for line in lines:
            if line.id == wanted.hex():
                return line
        raise WrongKey(f"key file {path} holds no key of id {wanted.hex()}; codex-relay vault status shows the ids")

    def _retired_lines(self) -> list[_Line]:
        path = retired_path(self._path)
        return self._lines(path) if os.path.lexists(path) else []

    def _lines(self, path: Path) -> list[_Line]:
        text = read_private(path, f"key file {path}", _LARGEST_FILE)
        try:
            lines = [_decode(line) for line in text.splitlines() if line.strip()]
        except msgspec.MsgspecError:
            lines = []
        if not lines:
            raise WrongKey(f"key file {path} holds no wrapped keys; restore it from its backup")
        return lines

    def _change(self, change: Callable[[list[_Line]], list[_Line]]) -> None:
        with one_change(self._path, self.source):
            replace_private(self._path, self.source, _encode(change(self._lines(self._path))))


def _encode(lines: list[_Line]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
