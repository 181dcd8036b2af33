"""Is a secret's value in a layer that would be cached?

A set-up script may write a secret into a file by accident, or because a tool keeps what it was given. Such a layer is
used once and never kept. The layer's tar stream is searched for every value as it is, in hexadecimal, percent-encoded,
as a JSON string, in UTF-16, and in base64 at each of the three places where a value can begin.

What it does not find: a value that is compressed, encrypted, broken over lines, or changed otherwise. It is a net for
accidents; what a hostile script does with a secret it has been given cannot be seen here.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

from store.records import Secret

SHORTEST: Final = 6
"""A form shorter than this is found everywhere by chance."""
_PIECE: Final = 1024 * 1024


def forms_of(secret: Secret) -> frozenset[bytes]:
    """Every form of the value that is searched for."""
    text = secret.reveal()
    value = text.encode()
    hexed = value.hex()
    percent = quote(text, safe="")
    every = "".join(f"%{byte:02X}" for byte in value)
    found = {
        value,
        text.encode("utf-16-le"),
        json.dumps(text)[1:-1].encode(),
        *(one.encode() for one in (hexed, hexed.upper(), percent, percent.lower(), every, every.lower())),
        *(one.encode() for one in (quote(text), quote(text).replace("%20", "+"), percent.replace("%20", "+"))),
        *_base64_forms(value),
    }
    return frozenset(one for one in found if len(one) >= SHORTEST)


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """The characters that depend on the value alone, for each of its places in a group of three bytes."""
    for before, skipped in ((0, 0), (1, 2), (2, 3)):
        data = bytes(before) + value
        whole = len(data) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(data)[skipped:whole]


class SecretScan:
    """One search through one stream, fed piece by piece."""

    def __init__(self, secrets: Sequence[tuple[str, Secret]]) -> None:
        self._wanted: Mapping[str, frozenset[bytes]] = {name: forms_of(secret) for name, secret in secrets}
        longest = max((len(form) for forms in self._wanted.values() for form in forms), default=1)
        self._overlap = longest - 1
        self._tail = b""
        self.found: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Looks into ``data`` and what it makes together with the end of what came before."""
        window = self._tail + data
        for name, forms in self._wanted.items():
            if name not in self.found and any(form in window for form in forms):
                self.found.add(name)
        self._tail = window[-self._overlap :] if self._overlap else b""

    @property
    def done(self) -> bool:
        """Whether nothing is left to be found."""
        return len(self.found) == len(self._wanted)


async def secrets_in(stream: AsyncIterator[bytes], secrets: Sequence[tuple[str, Secret]]) -> frozenset[str]:
    """The names of the secrets whose value is in ``stream`` (a layer's tar, not compressed). It is read to its end
    or until all are found; the search runs in threads. What the stream raises is raised."""
    scan = SecretScan(secrets)
    held, size = [], 0
    async for piece in stream:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            await asyncio.to_thread(scan.feed, b"".join(held))
            held, size = [], 0
        if scan.done:
            break
    if held:
        await asyncio.to_thread(scan.feed, b"".join(held))
    return frozenset(scan.found)
