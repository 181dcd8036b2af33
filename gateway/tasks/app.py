"""The tasks' API put together: its table, its handlers, its door.

It is one more table of gateway.admin.app: the same order of refusals, the same headers. What is its own: who a key
acts as, the sandbox's errors in the client's words, and that the token of a share link never stands in our log.
"""

from __future__ import annotations

from typing import Final

from auth.keys import KeyDirectory
from gateway.admin.access import Access
from gateway.admin.app import TableApi
from gateway.admin.types import Handlers, SessionFinder
from gateway.exchange import exchange_of
from gateway.middleware import App, Receive, Scope, Send
from gateway.tasks.cloud import CloudDesk
from gateway.tasks.environments import EnvironmentRoutes
from gateway.tasks.faults import refusal
from gateway.tasks.files import FileDesk
from gateway.tasks.log import LogDesk
from gateway.tasks.routes import ROUTES, SHARE
from gateway.tasks.sharing import ShareDesk
from gateway.tasks.tasks import TaskDesk
from gateway.tasks.types import Workshop, tenants_hand
from gateway.tasks.uploads import UploadDesk

ROUTE: Final = "tasks"


def handlers_of(shop: Workshop) -> Handlers:
    """One for every route of the table."""
    return {
        **TaskDesk(shop).handlers(),
        **LogDesk(shop).handlers(),
        **FileDesk(shop).handlers(),
        **ShareDesk(shop).handlers(),
        **UploadDesk(shop).handlers(),
        **EnvironmentRoutes(shop).handlers(),
        **CloudDesk(shop).handlers(),
    }


def tasks_app(shop: Workshop, keys: KeyDirectory, sessions: SessionFinder) -> App:
    """The whole of it, as one ASGI application."""
    access = Access(keys, sessions, shop.clock, shop.values.public_url, tenants_hand)
    api = TableApi(ROUTE, ROUTES, access, handlers_of(shop), refusal)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(f"{SHARE}/"):
            exchange_of(scope).path = f"{SHARE}/-"  # what follows opens the task: not for the log
        await api(scope, receive, send)

    return door
