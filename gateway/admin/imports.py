"""``/admin/api/accounts/import``: auth.json documents, as text, several at once.

A document that cannot be taken says why and stops none of the others; each is on record by its outcome. What was
sent is never part of an answer, a record or a log. What may be in a document is auth.authfile's matter.
"""

from __future__ import annotations

from auth.authfile import MAX_FILE_BYTES, Source
from auth.errors import ImportRefused
from auth.importer import ImportOptions, ImportResult
from gateway.admin.acts import Acts
from gateway.admin.answers import ImportAnswer, ImportItem
from gateway.admin.bodies import ImportBody, ImportDocument
from gateway.admin.types import Call, Handlers, Reply, Taker


class Imports:
    def __init__(self, taker: Taker, acts: Acts) -> None:
        self._taker = taker
        self._acts = acts

    def handlers(self) -> Handlers:
        return {"accounts.import": self.take}

    async def take(self, call: Call) -> Reply:
        body: ImportBody = call.body
        if not body.dry_run:
            await self._acts.check()
        options = ImportOptions(label=body.label, pool=body.pool, dry_run=body.dry_run, force=body.force)
        results = await self._taker.take([source(one) for one in body.documents], options)
        for one in [] if body.dry_run else results:
            await self._acts.record(
                call, call.principal.actor, "account.import", one.outcome.value, one.account_id, code=one.code
            )  # fmt: skip
        return Reply(ImportAnswer(items=[item(one) for one in results]))


def source(document: ImportDocument) -> Source:
    """The document as the importer takes it; its name is for people, and printable."""
    name = "".join(char if char.isprintable() else "?" for char in document.name) or "document"
    data = document.content.encode()
    if len(data) > MAX_FILE_BYTES:
        return Source(name, refused=ImportRefused("too_large", "it is larger than 1 MiB, which no auth.json is"))
    return Source(name, data)


def item(result: ImportResult) -> ImportItem:
    return ImportItem(
        source=result.source,
        outcome=result.outcome.value,
        code=result.code,
        message=result.message,
        account_id=result.account_id,
        label=result.label,
        warnings=list(result.warnings),
    )
