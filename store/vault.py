"""How is a secret sealed so that it opens in its own place only?

Envelope encryption with AES-256-GCM. Every record gets a random data key of its own; the data key is wrapped by a
key-encrypting key (KEK) that never enters the database.

    sealed = format (1) | key id (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext and tag

Rules that hold:

* the associated data of the ciphertext is table, row id, column and version, each with its length in front, so no two
  places share an encoding; that of the wrapped data key is the same and the key id, so that a change of KEK wraps
  data keys anew and leaves the ciphertexts as they are;
* only key ids of the ring are tried: the ciphertext names its key, and an unknown name is refused;
* whatever is wrong (a byte, the row, the version, the key id) is one error, SealBroken, without a word of content.

Nonces are random. A data key seals one message; a KEK may wrap 2^32 data keys (NIST SP 800-38D, section 8.3).
Where KEKs come from is store.keyfile's matter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.errors import SealBroken, WrongKey

KEY_BYTES: Final = 32
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


class Vault:
    """Seals and opens. Safe to share between threads; holds no plaintext."""

    __slots__ = ("_ring",)

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    @property
    def ring(self) -> KeyRing:
        return self._ring

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """A new data key and new nonces each time: sealing twice gives two different texts."""
        context = _context(place)
        name = self._ring.current_id
        data_key = os.urandom(KEY_BYTES)
        nonces = os.urandom(2 * _NONCE_BYTES)
        wrap_nonce, data_nonce = nonces[:_NONCE_BYTES], nonces[_NONCE_BYTES:]
        wrapped = self._ring.cipher(name).encrypt(wrap_nonce, data_key, context + _part(name))
        ciphertext = AESGCM(data_key).encrypt(data_nonce, plaintext, context)
        return b"".join((_FORMAT, name, wrap_nonce, wrapped, data_nonce, ciphertext))

    def open(self, sealed: bytes, place: Place) -> bytes:
        """The plaintext. Raises SealBroken unless every byte and the whole place are what they were."""
        if len(sealed) < _SHORTEST or sealed[:1] != _FORMAT:
            raise SealBroken(f"the sealed {_name(place)} is cut short or of an unknown format")
        context = _context(place)
        name = sealed[1:_HEAD]
        cipher = self._ring.cipher(name)
        nonce_end = _HEAD + _NONCE_BYTES
        data_start = _WRAPPED_END + _NONCE_BYTES
        try:
            data_key = cipher.decrypt(sealed[_HEAD:nonce_end], sealed[nonce_end:_WRAPPED_END], context + _part(name))
            return AESGCM(data_key).decrypt(sealed[_WRAPPED_END:data_start], sealed[data_start:], context)
        except InvalidTag:
            raise SealBroken(
                f"the sealed {_name(place)} does not open in its place: it was altered, moved or rolled back"
            ) from None


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
