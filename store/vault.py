"""How is a secret sealed so that it opens in its own place only?

Envelope encryption with AES-256-GCM. Every record gets a random data key of its own; the data key is wrapped by a
key-encrypting key (KEK) that never enters the database.

    sealed = format (1) | key id (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext and tag

Rules that hold:

* the associated data of the ciphertext is table, row id, column and version, each with its length in front, so no two
  places share an encoding; that of the wrapped data key is the same and the key id, so that a change of KEK wraps
  data keys anew and leaves the ciphertexts as they are;
* only key ids of the ring are tried: the ciphertext names its key, and an unknown name is refused;
* whatever is wrong (a byte, the row, the version, the key id) is one error, SealBroken, without a word of content;
* what is sealed from now on opens with what the key's source holds now, so a vault that was given its source looks
  whether it has changed: before it seals, when a value is not under the key that seals here, and at :meth:`look`.
  A source that cannot be read changes nothing, the keys in memory serve on.

Nonces are random. A data key seals one message; a KEK may wrap 2^32 data keys (NIST SP 800-38D, section 8.3).
Where KEKs come from is store.keyfile's matter.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ops.clock import Clock, SystemClock
from ops.log import get_logger
from store.errors import SealBroken, StoreError, WrongKey

KEY_BYTES: Final = 32
LOOK_EVERY_S: Final = 1.0
"""A source that tells cheaply whether it has changed is asked at most this often."""
ASK_EVERY_S: Final = 60.0
"""A source that has to be read to know is read at most this often for what is not urgent ..."""
ASK_AGAIN_S: Final = 5.0
"""... and this often for an id that is not known here."""
_FORMAT: Final = b"\x01"
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD: Final = 1 + _ID_BYTES
_WRAPPED_END: Final = _HEAD + _NONCE_BYTES + KEY_BYTES + _TAG_BYTES
_SHORTEST: Final = _WRAPPED_END + _NONCE_BYTES + _TAG_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs. It opens nowhere else."""

    table: str
    row_id: str
    column: str
    version: int


def key_id(key: bytes) -> bytes:
    """The short public name of a KEK."""
    return hashlib.sha256(b"codex-relay key id\x00" + key).digest()[:_ID_BYTES]


class KeyRing:
    """The KEKs of this process, by id: the first seals, all of them open. Its repr names ids only."""

    __slots__ = ("_ciphers", "_current")

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Takes raw keys of 32 bytes. Raises WrongKey when there is none or one has another length."""
        if not keys:
            raise WrongKey("no key-encrypting key was given")
        if any(len(key) != KEY_BYTES for key in keys):
            raise WrongKey(f"a key-encrypting key must have {KEY_BYTES} bytes")
        self._current = key_id(keys[0])
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}

    @property
    def current_id(self) -> bytes:
        """The id of the key that seals."""
        return self._current

    @property
    def ids(self) -> tuple[bytes, ...]:
        """The ids of all keys, the one that seals first."""
        return tuple(self._ciphers)

    def opening(self, other: KeyRing) -> KeyRing:
        """This ring, which also opens what ``other`` opens; it seals as before."""
        both = KeyRing.__new__(KeyRing)
        both._current = self._current
        both._ciphers = {**self._ciphers, **{name: c for name, c in other._ciphers.items() if name not in self}}
        return both

    def __contains__(self, wanted: object) -> bool:
        return wanted in self._ciphers

    def cipher(self, wanted: bytes) -> AESGCM:
        """Raises SealBroken for an id that is not allowed here."""
        found = self._ciphers.get(wanted)
        if found is None:
            raise SealBroken(f"sealed under key id {wanted.hex()}, which is not among the configured keys")
        return found

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(name.hex() for name in self._ciphers)})"


class KeySource(Protocol):
    """Where a vault learns of other keys while it serves."""

    def load(self) -> KeyRing:
        """The keys as they are now; blocking. Raises StoreError."""

    def mark(self) -> object | None:
        """Something that is another whenever :meth:`load` would give another ring, cheap to get; None: unknown."""


class Vault:
    """Seals and opens. Safe to share between threads; holds no plaintext."""

    __slots__ = ("_clock", "_due_s", "_failing", "_lock", "_mark", "_ring", "_source", "_urgent_s")

    def __init__(self, ring: KeyRing, source: KeySource | None = None, clock: Clock | None = None) -> None:
        """``ring`` is what ``source`` gave just now; without a source the keys stay as they are."""
        self._ring = ring
        self._source = source
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._mark: object | None = None  # unknown: the first look reads the source once more
        self._due_s = self._clock.monotonic_s() + (ASK_EVERY_S if source and source.mark() is None else 0.0)
        self._urgent_s = 0.0
        self._failing = False

    @property
    def ring(self) -> KeyRing:
        return self._ring

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """A new data key and new nonces each time: sealing twice gives two different texts."""
        self.look()
        ring = self._ring
        context = _context(place)
        data_key = os.urandom(KEY_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, plaintext, context)
        return _head(ring, data_key, context) + nonce + ciphertext

    def open(self, sealed: bytes, place: Place) -> bytes:
        """The plaintext. Raises SealBroken unless every byte and the whole place are what they were."""
        data_key = self._data_key(sealed, place)
        data_start = _WRAPPED_END + _NONCE_BYTES
        try:
            return AESGCM(data_key).decrypt(sealed[_WRAPPED_END:data_start], sealed[data_start:], _context(place))
        except InvalidTag:
            raise _broken(place) from None

    def rewrap(self, sealed: bytes, place: Place) -> bytes:
        """The same ciphertext with its data key wrapped by the key that seals now; unchanged when it is so already.

        Raises SealBroken unless the whole value opens in its place: what is damaged is told of, not renewed.
        """
        self.look()
        ring = self._ring
        if sealing_key_id(sealed) == ring.current_id:
            return sealed
        self.open(sealed, place)
        return _head(ring, self._data_key(sealed, place), _context(place)) + sealed[_WRAPPED_END:]

    def look(self) -> None:
        """Takes over the source's keys if they have changed; cheap enough for every seal, and for a poll.

        Reads the source at most once a second, and only when its mark moved; one without a mark once a minute. May
        block as long as the source does. Never raises: what cannot be read is logged once, and the keys stay.
        """
        if self._source is None or self._clock.monotonic_s() < self._due_s:
            return
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s < self._due_s:
                return
            mark = self._source.mark()
            self._due_s = now_s + (ASK_EVERY_S if mark is None else LOOK_EVERY_S)
            if mark is None or mark != self._mark:
                self._learn(self._source, mark)
            if self._failing:
                self._due_s = now_s + ASK_AGAIN_S

    def _data_key(self, sealed: bytes, place: Place) -> bytes:
        if len(sealed) < _SHORTEST or sealed[:1] != _FORMAT:
            raise SealBroken(f"the sealed {_name(place)} is cut short or of an unknown format")
        name = sealed[1:_HEAD]
        if name not in self._ring:
            self._learn_of(name)
        elif name != self._ring.current_id:
            self.look()
        nonce_end = _HEAD + _NONCE_BYTES
        try:
            return self._ring.cipher(name).decrypt(
                sealed[_HEAD:nonce_end], sealed[nonce_end:_WRAPPED_END], _context(place) + _part(name)
            )
        except InvalidTag:
            raise _broken(place) from None

    def _learn_of(self, name: bytes) -> None:
        """Somebody sealed under a key that is not known here: it may have come since the last look."""
        if self._source is None:
            return
        with self._lock:
            now_s, mark = self._clock.monotonic_s(), self._source.mark()
            moved = mark is not None and mark != self._mark
            if name not in self._ring and (moved or now_s >= self._urgent_s):
                self._urgent_s = now_s + ASK_AGAIN_S
                self._learn(self._source, mark)

    def _learn(self, source: KeySource, mark: object | None) -> None:
        try:
            new = source.load()
        except StoreError as error:
            if not self._failing:
                get_logger().warning("vault_keys_unreadable", error=str(error), next="the keys in memory serve on")
            self._failing = True
            return
        self._failing = False
        self._mark = mark
        old = self._ring
        if old.current_id not in new:
            # a key that is gone from its source must seal nothing more; what it sealed opens until the end of this
            # process, so that a file put in its place by mistake breaks no request
            get_logger().warning("vault_key_replaced", old=old.current_id.hex(), new=new.current_id.hex())
            new = new.opening(old)
        if new.ids != old.ids:
            get_logger().info("vault_keys_learned", seals=new.current_id.hex(), keys=len(new.ids))
        self._ring = new


def _head(ring: KeyRing, data_key: bytes, context: bytes) -> bytes:
    name, nonce = ring.current_id, os.urandom(_NONCE_BYTES)
    return _FORMAT + name + nonce + ring.cipher(name).encrypt(nonce, data_key, context + _part(name))


def _broken(place: Place) -> SealBroken:
    return SealBroken(f"the sealed {_name(place)} does not open in its place: it was altered, moved or rolled back")


def sealing_key_id(sealed: bytes) -> bytes:
    """The id of the KEK that a sealed value names; empty when it is too short to name one."""
    return sealed[1:_HEAD] if len(sealed) >= _SHORTEST else b""


def _name(place: Place) -> str:
    return f"{place.table}.{place.column} of {place.row_id!r}"


def _part(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _context(place: Place) -> bytes:
    parts = (place.table.encode(), place.row_id.encode(), place.column.encode(), str(place.version).encode())
    return b"".join(_part(part) for part in parts)
