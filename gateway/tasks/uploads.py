"""``POST /v1/uploads``: an archive to work on, checked while it comes, never unpacked here.

What comes goes piece by piece through the check (sandbox.archives), which gives a plain tar stream or refuses, and
from there into the result store under a name of ours. Two sizes are capped: what is sent, and what it becomes. When
anything goes wrong nothing is kept.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Final

from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from gateway.guard import values_of
from gateway.tasks.answers import UploadAnswer
from gateway.tasks.faults import sentence
from gateway.tasks.types import Kind, Workshop, maker_of
from sandbox.archives import BadArchive

GROWTH: Final = 10
"""A checked tar has at most so many times the bytes that may be sent."""

_KINDS: Final[dict[bytes, Kind]] = {
    b"application/zip": "zip",
    b"application/x-zip-compressed": "zip",
    b"application/x-tar": "tar",
    b"application/gzip": "tar",
    b"application/x-gzip": "tar",
}
_BLOCK: Final = 512


class UploadDesk:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        return {"uploads.create": self.create}

    async def create(self, call: Call) -> Reply:
        by = await maker_of(self._shop, call, call.query.tenant)
        given = values_of(call.fields, b"content-type")
        kind = _KINDS.get(given[0].partition(b";")[0].strip().lower()) if len(given) == 1 else None
        if kind is None or values_of(call.fields, b"content-encoding"):
            raise GatewayError("unsupported_media_type", "Send the archive as application/zip or application/x-tar.")
        assert call.given is not None
        limit = self._shop.values.upload_bytes
        upload_id = f"up_{secrets.token_hex(16)}"
        counter = EntryCounter()
        async with self._shop.acts.act(call, "upload.create", upload_id, tenant_id=by.tenant_id) as detail:
            checked = self._shop.check_tar(bounded(call.given, limit), kind)
            try:
                size = await self._shop.results.put(
                    f"{by.tenant_id}/uploads/{upload_id}", counter.through(checked), limit * GROWTH
                )
            except BadArchive as error:
                raise GatewayError.invalid(sentence(error)) from None
            detail["size_bytes"] = size
        return Reply(UploadAnswer(id=upload_id, size_bytes=size, files=counter.files), 201)


async def bounded(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """The pieces. Raises GatewayError ``body_too_large`` as soon as there are too many bytes."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise GatewayError.body_too_large(max_bytes)
        yield piece


class EntryCounter:
    """Counts the regular files of a plain tar as it passes. ``files`` so far."""

    def __init__(self) -> None:
        self.files = 0
        self._head = bytearray()
        self._skip = 0

    async def through(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.see(piece)
            yield piece

    def see(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            if self._skip:
                passed = min(self._skip, len(view))
                self._skip -= passed
            else:
                passed = min(_BLOCK - len(self._head), len(view))
                self._head += view[:passed]
                if len(self._head) == _BLOCK:
                    self._read(bytes(self._head))
                    self._head.clear()
            view = view[passed:]

    def _read(self, head: bytes) -> None:
        if not any(head):
            return
        self.files += head[156:157] in (b"0", b"\0")
        size = _size(head[124:136])
        self._skip = -(-size // _BLOCK) * _BLOCK


def _size(field: bytes) -> int:
    """Octal, or base 256 when the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0
