"""Links by which somebody without a key reads one task: made and taken back by who may write, used by anybody.

Rules that hold:

* a token that is unknown, expired, taken back or leads to what is gone is one answer: 404, the same as for a path
  that does not exist;
* the token stands in the URL, so it is kept out of our log (gateway.tasks.app), out of referrers, caches and search
  engines (headers of every answer);
* what is shown is the task, its log and its files: no people, no workers, no environment.
"""

from __future__ import annotations

from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.tasks.answers import ShareAnswer, ShareItem, ShareList
from gateway.tasks.bodies import DiffQuery, ShareBody
from gateway.tasks.files import diff_reply, file_reply, sized
from gateway.tasks.log import log_page
from gateway.tasks.routes import SHARE
from gateway.tasks.types import Workshop, actor_of
from gateway.tasks.views import shared_view
from sandbox.service import Actor, NoSuchTask, Task


class ShareDesk:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        return {
            "tasks.share": self.make,
            "tasks.shares": self.list,
            "tasks.unshare": self.revoke,
            "share.show": self.show,
            "share.log": self.log,
            "share.diff": self.diff,
            "share.file": self.file,
        }

    async def make(self, call: Call) -> Reply:
        body: ShareBody = call.body
        task = await self._shop.service.get(actor_of(call), call.target)
        tenant_id = task.record.tenant_id
        async with self._shop.acts.act(call, "task.share", call.target, tenant_id=tenant_id) as detail:
            token, share = await self._shop.shares.make(
                task.record.id, tenant_id, call.principal.actor, body.expires_in_s
            )
            detail["share"] = share.id
        home = (self._shop.values.public_url or call.seen.origin).rstrip("/")
        url = f"{home}{SHARE}/{token.reveal()}"
        return Reply(ShareAnswer(id=share.id, url=url, expires_at_s=share.expires_at_s), 201)

    async def list(self, call: Call) -> Reply:
        task = await self._shop.service.get(actor_of(call), call.target)
        return Reply(
            ShareList(
                items=[
                    ShareItem(id=one.id, made_by=one.made_by, expires_at_s=one.expires_at_s)
                    for one in await self._shop.shares.of(task.record.id)
                ]
            )
        )

    async def revoke(self, call: Call) -> Reply:
        task = await self._shop.service.get(actor_of(call), call.target)
        share_id = call.parts["share"]
        known = {one.id for one in await self._shop.shares.of(task.record.id)}
        if share_id not in known:
            raise absent("link")
        tenant_id = task.record.tenant_id
        async with self._shop.acts.act(call, "task.unshare", call.target, tenant_id=tenant_id, share=share_id):
            await self._shop.shares.revoke(task.record.id, share_id)
        return Reply(None, 204)

    async def show(self, call: Call) -> Reply:
        _, task = await self._shared(call)
        return Reply(shared_view(task, await sized(self._shop.results, task)))

    async def log(self, call: Call) -> Reply:
        by, task = await self._shared(call)
        return await log_page(self._shop, by, task.record.id, call.query)

    async def diff(self, call: Call) -> Reply:
        query: DiffQuery = call.query
        _, task = await self._shared(call)
        return await diff_reply(self._shop.results, task, query.attempt)

    async def file(self, call: Call) -> Reply:
        _, task = await self._shared(call)
        return await file_reply(self._shop.results, task, call.parts["number"], call.parts["name"])

    async def _shared(self, call: Call) -> tuple[Actor, Task]:
        """The task that the link leads to. Raises GatewayError ``not_found``."""
        share = await self._shop.shares.find(call.parts["token"])
        if share is None:
            raise absent("path")
        by = Actor(f"share:{share.id}", share.tenant_id)
        try:
            return by, await self._shop.service.get(by, share.task_id)
        except NoSuchTask:
            raise absent("path") from None
