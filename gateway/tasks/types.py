"""What the tasks' API asks of the rest, and as whom it asks.

Nothing here decides anything but one rule: who acts for which tenant. A key acts for its own; a member for his; an
administrator without a tenant sees all, and says for whom when he makes something. Whoever builds the API
(ops.house_tasks) sees here what it takes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from auth.roles import Principal, Role
from auth.types import Caller
from gateway.admin.acts import Acts
from gateway.admin.types import Call
from gateway.errors import GatewayError
from gateway.tasks.desk import EnvironmentDesk
from ops.clock import Clock
from sandbox.results import ResultStore
from sandbox.service import Actor, TaskService
from sandbox.share import Shares
from sandbox.types import GitSource, Limits
from store.records import Secret

Kind = Literal["zip", "tar"]
CheckTar = Callable[[AsyncIterator[bytes], Kind], AsyncIterator[bytes]]
"""A stream to a checked tar stream: sandbox.archives. Raises BadArchive while it goes."""

CheckGit = Callable[[str, str | None, Secret | None], Awaitable[GitSource]]
"""(url, ref, token) to a source: sandbox.giturl. Raises BadSource."""


@dataclass(frozen=True, slots=True)
class TaskValues:
    """The settings' values. ``most`` is what one container may use at most."""

    model: str
    upload_bytes: int
    most: Limits
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """All that handlers need. ``tenant_named`` finds a tenant's id by id or name. ``draining``: long answers end."""

    service: TaskService
    results: ResultStore
    environments: EnvironmentDesk
    shares: Shares
    acts: Acts
    clock: Clock
    values: TaskValues
    check_tar: CheckTar
    check_git: CheckGit
    tenant_named: Callable[[str], Awaitable[str | None]]
    draining: Callable[[], bool]


def tenants_hand(caller: Caller) -> Principal:
    """Who a key acts as on tasks. Raises GatewayError ``forbidden``."""
    if "tasks" not in caller.scopes:
        raise GatewayError.forbidden("it lacks the scope tasks")
    return Principal(caller.key_id, f"key {caller.key_id}", Role.MEMBER, None, caller.tenant_id)


def actor_of(call: Call) -> Actor:
    """As whom the service is asked."""
    return Actor(call.principal.actor, call.principal.tenant_id)


async def maker_of(shop: Workshop, call: Call, tenant: str | None) -> Actor:
    """As whom something is made, so that it has a tenant. Raises GatewayError."""
    own = call.principal.tenant_id
    if own is None and tenant is not None:
        own = await shop.tenant_named(tenant)
        if own is None:
            raise GatewayError("not_found", "There is no such tenant.", param="tenant")
    if own is None:
        raise GatewayError.invalid("Say for which tenant, by ?tenant=; you belong to none yourself.", "tenant")
    if not own:
        raise GatewayError("forbidden", "You belong to no tenant yet; an owner gives you one.")
    if tenant is not None and call.principal.tenant_id is not None and tenant != own:
        raise GatewayError("not_found", "There is no such tenant.", param="tenant")
    return Actor(call.principal.actor, own)
