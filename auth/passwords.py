"""How is a password kept and checked, and which ones are taken?

Rules that hold:

* argon2id, with a salt for each; the parameters stand in the hash, and one of other parameters is made anew when its
  password comes by;
* the work is done beside the event loop, by two threads at most; when too many wait, the next is refused;
* a check without a stored hash costs the same work as one with: time does not tell whether a name exists;
* 12 characters at least, 1024 bytes of UTF-8 at most, not the name itself, and no rule about kinds of characters.
  Texts are compared in Unicode's normal form C, so that the same keys on another keyboard are the same password.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from auth.errors import LoginThrottled, PasswordRefused
from store.records import Secret

T = TypeVar("T")
MIN_CHARACTERS: Final = 12
MAX_BYTES: Final = 1024
AT_ONCE: Final = 2
MOST_WAITING: Final = 64
_BUSY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class PasswordCost:
    """What one check costs; the defaults take 64 MiB and one to three tenths of a second."""

    passes: int = 3
    memory_kib: int = 65_536
    lanes: int = 1


class Passwords:
    """Makes and checks hashes. One for each process: it bounds the work of all sign-ins together."""

    def __init__(self, cost: PasswordCost | None = None) -> None:
        cost = cost or PasswordCost()
        self._hasher = PasswordHasher(cost.passes, cost.memory_kib, cost.lanes, hash_len=32, salt_len=16, type=Type.ID)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        self._dummy = (
            f"$argon2id$v=19$m={cost.memory_kib},t={cost.passes},p={cost.lanes}"
            f"${_base64(secrets.token_bytes(16))}${_base64(secrets.token_bytes(32))}"
        )

    async def hash(self, password: Secret, name: str) -> str:
        """The hash to store. Raises PasswordRefused when a rule is broken, LoginThrottled when too many wait.

        Cancelled, the work goes on beside and is thrown away.
        """
        data = _allowed(password, name)
        return await self._beside(lambda: self._hasher.hash(data))

    async def verify(self, stored: str | None, password: Secret) -> bool:
        """Whether the password is the one of ``stored``; None costs as much and is never right. Raises
        LoginThrottled when too many wait."""
        data = _usable(password)
        right = await self._beside(lambda: self._matches(stored or self._dummy, data or b""))
        return right and stored is not None and data is not None

    def stale(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than a new one would be."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, data: bytes) -> bool:
        try:
            return self._hasher.verify(stored, data)
        except (VerificationError, InvalidHashError):
            return False

    async def _beside(self, work: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise LoginThrottled(_BUSY_S)
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._one_less)
        return await future

    def _one_less(self, _future: asyncio.Future[T]) -> None:
        self._waiting -= 1


def _usable(password: Secret) -> bytes | None:
    """The bytes to be hashed; None for what can be nobody's password."""
    text = password.reveal()
    if len(text) > MAX_BYTES:
        return None
    try:
        data = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        return None
    return data if len(data) <= MAX_BYTES else None


def _allowed(password: Secret, name: str) -> bytes:
    data = _usable(password)
    if data is None:
        raise PasswordRefused(f"the password is longer than {MAX_BYTES} bytes or no text; choose a shorter one")
    text = data.decode()
    if len(text) < MIN_CHARACTERS:
        raise PasswordRefused(f"the password has fewer than {MIN_CHARACTERS} characters; choose a longer one")
    if text.strip().casefold() == name.casefold():
        raise PasswordRefused("the password is the name; choose another")
    return data


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
