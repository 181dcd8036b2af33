"""How may somebody without a key look at one task, for a while, until it is taken back?

A share link holds ``<id>.<expiry>.<signature>``: 128 random bits, Unix seconds, and an HMAC-SHA256 over both and the
purpose under a key that the vault keeps. Rules that hold:

* a token whose signature does not fit is refused before the store is asked, in constant time: guessing costs us
  nothing and gains nothing;
* an expired, revoked, foreign or deleted one is the same answer as an unknown one;
* the store holds what the link leads to, by id; the token itself is nowhere kept;
* it leads to one task, for reading.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from ops.clock import Clock
from store.records import Document, Secret

KIND: Final = "task_share"
KEY_NAME: Final = "share"
KEY_BYTES: Final = 32
LONGEST_S: Final = 90 * 86_400.0
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{22})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")


class ShareShelf(Protocol):
    """What is asked of the store."""

    async def document(self, kind: str, document_id: str) -> Document | None: ...

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]: ...

    async def add_document(self, document: Document) -> Document: ...

    async def remove_document(self, kind: str, document_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Share:
    """What a link leads to. ``id`` names it in lists and is no secret by itself."""

    id: str
    task_id: str
    tenant_id: str
    made_by: str
    expires_at_s: float


class Shares:
    """Makes, finds and revokes. ``key`` is the sealed value ``share`` of the store."""

    def __init__(self, store: ShareShelf, key: bytes, clock: Clock) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"the key of share links must have at least {KEY_BYTES} bytes")
        self._store = store
        self._key = key
        self._clock = clock

    async def make(self, task_id: str, tenant_id: str, made_by: str, lives_s: float) -> tuple[Secret, Share]:
        """A token, to be shown once, and its record. Raises ValueError for a life that is none or too long."""
        if not 0 < lives_s <= LONGEST_S:
            raise ValueError(f"a share link lives at most {LONGEST_S / 86_400:.0f} days")
        share_id = secrets.token_urlsafe(16)
        expires_at_s = float(int(self._clock.now_s() + lives_s))
        share = Share(share_id, task_id, tenant_id, made_by, expires_at_s)
        await self._store.add_document(Document(KIND, share_id, msgspec.json.encode(share), expires_at_s))
        return Secret(f"{share_id}.{int(expires_at_s)}.{self._sign(share_id, int(expires_at_s))}"), share

    async def find(self, token: str) -> Share | None:
        """What the token leads to now. Raises StoreError."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        share_id, expires_at_s = match[1], int(match[2])
        fits = hmac.compare_digest(self._sign(share_id, expires_at_s), match[3])
        if not fits or self._clock.now_s() >= expires_at_s:
            return None
        document = await self._store.document(KIND, share_id)
        return None if document is None else msgspec.json.decode(document.body, type=Share)

    async def of(self, task_id: str) -> tuple[Share, ...]:
        """The links of a task that still work."""
        found: list[Share] = []
        after = ""
        while page := await self._store.documents(KIND, after_id=after):
            shares = (msgspec.json.decode(one.body, type=Share) for one in page)
            found += [share for share in shares if share.task_id == task_id]
            after = page[-1].id
        return tuple(found)

    async def revoke(self, task_id: str, share_id: str) -> bool:
        """False when there is no such link of this task."""
        document = await self._store.document(KIND, share_id)
        if document is None or msgspec.json.decode(document.body, type=Share).task_id != task_id:
            return False
        return await self._store.remove_document(KIND, share_id)

    def _sign(self, share_id: str, expires_at_s: int) -> str:
        text = f"share.{share_id}.{expires_at_s}".encode()
        mac = hmac.new(self._key, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
