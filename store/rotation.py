"""In which order does a new key come into use, so that nobody ever meets a value that he cannot open?

    note      a document says which change of keys is under way, from which key to which
    add       the new key stands behind the others in the key file: everybody can open it, nobody seals under it
    promote   it moves to the front: whoever seals looks at the file first, so new values are under it from here on
    sweep     every value under another key is wrapped anew (store.rewrap)
    done      the note goes; the old key stays until it is retired

A worker that has not looked yet keeps sealing under the old key, which everybody opens, and reads the file at once
when it meets the new one. Nothing is asked of a worker, and none has to be waited for.

Rules that hold:

* whatever step is killed, the next ``rotate`` reads the note and the key file and goes on from there; it makes a new
  key only when none is under way;
* a key is retired only when no row names it, counted before and after; rows that turn up after all bring it back;
* keys that are not ours to change (environment, command) are promoted by the operator; then only the sweep is left.

What it does not do: choose keys (KeyChanger), or open what is broken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ops.clock import Clock
from store.base import AuditStore, DocumentStore
from store.errors import Conflict, StoreUnusable, WrongKey
from store.keyfile import KeyChanger, KeyProvider
from store.records import AuditRecord, Document
from store.rewrap import Census, Sweep, census, sweep
from store.sealed import SealedRows
from store.vault import Vault

KIND: Final = "key-rotation"
_ID: Final = "current"


class RotationStore(DocumentStore, AuditStore, Protocol):
    """What a rotation needs of the store."""

    def sealed_rows(self) -> SealedRows: ...


@dataclass(frozen=True, slots=True)
class Note:
    """A change of keys that is under way, by key ids in hex."""

    old: str
    new: str
    started_at_s: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """What ``rotate`` came to: the keys, the sweep (None when only the key was added), and the next word."""

    old: bytes
    new: bytes
    sweep: Sweep | None
    resumed: bool


class Rotator:
    """Rotates, counts and retires. One per command."""

    def __init__(
        self, store: RotationStore, keys: KeyProvider, clock: Clock, actor: str, spool: Sequence[SealedRows] = ()
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._actor = actor
        self._sources = (store.sealed_rows(), *spool)

    async def census(self) -> Census:
        """Every row under every key, now. Raises StoreUnavailable."""
        return await census(self._sources)

    async def note(self) -> Note | None:
        """The change that is under way, or was when its command ended."""
        found = await self._store.document(KIND, _ID)
        return None if found is None else _decode(found.body)

    async def rotate(self, changer: KeyChanger | None, *, add_only: bool = False) -> Rotation:
        """Makes a new key, or goes on with the one under way, and sweeps. ``changer`` None: the sweep alone.

        ``add_only`` ends before the new key seals anything: time to carry the key file to other hosts.
        Raises StoreError; whatever was done is gone on with by the next call.
        """
        ring = self._keys.load()
        old, new, resumed = ring.current_id, ring.current_id, False
        if changer is not None:
            old, new, resumed = await self._introduce(changer)
            if add_only:
                return Rotation(old, new, None, resumed)
            changer.promote(new)
        vault = Vault(self._keys.load(), self._keys, self._clock)
        if vault.ring.current_id != new:
            raise WrongKey(f"{self._keys.source} was changed by somebody else; run codex-relay vault rotate again")
        swept = await sweep(self._sources, vault, self._clock, self._renew_head)
        if swept.left == 0:
            await self._store.remove_document(KIND, _ID)
        return Rotation(old, new, swept, resumed)

    async def retire(self, changer: KeyChanger, wanted: bytes) -> Path:
        """Takes a key out of use that no row names; where it is kept. Raises WrongKey, StoreUnusable."""
        if await self.note() is not None:
            raise StoreUnusable("a rotation is under way; run codex-relay vault rotate first")
        await self._must_be_free(wanted)
        path = changer.retire(wanted)
        try:
            await self._must_be_free(wanted)
        except WrongKey:
            changer.restore(wanted)
            raise
        return path

    async def _must_be_free(self, wanted: bytes) -> None:
        if count := (await self.census()).under(wanted):
            raise WrongKey(f"{count} rows are under key {wanted.hex()}; run codex-relay vault rotate first")

    async def _introduce(self, changer: KeyChanger) -> tuple[bytes, bytes, bool]:
        """Old and new key, both in the ring, and whether they were before."""
        noted = await self.note()
        ring = changer.load()
        if noted is not None and bytes.fromhex(noted.new) in ring:
            return bytes.fromhex(noted.old), bytes.fromhex(noted.new), True
        if noted is not None:  # it ended between the note and the key: nothing was sealed under that key
            await self._store.remove_document(KIND, _ID)
        made = changer.make()
        note = Note(ring.current_id.hex(), made.id.hex(), self._clock.now_s())
        body = json.dumps({"old": note.old, "new": note.new, "started_at_s": note.started_at_s}).encode()
        try:
            await self._store.add_document(Document(KIND, _ID, body))
        except Conflict:
            raise StoreUnusable("another rotation has just begun; wait for it, or run the command again") from None
        changer.add(made)
        return ring.current_id, made.id, False

    async def _renew_head(self) -> None:
        """An append seals the head of the audit log anew. The log must say so even when auditing is off."""
        record = AuditRecord(self._clock.now_s(), self._actor, "vault.rewrap", "ok", target="audit log")
        await self._store.append_audit([record])


def _decode(body: bytes) -> Note:
    found = json.loads(body)
    return Note(str(found["old"]), str(found["new"]), float(found["started_at_s"]))
