"""Environments as the tasks' API asks for them: of one tenant, or, for an administrator who belongs to none, of all.

sandbox.environments keeps them by tenant and knows no other question. What this file adds is that question, and None
where it says NoSuchEnvironment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sandbox.environments import EnvironmentDraft, EnvironmentEntry, Environments, NoSuchEnvironment


class EnvironmentDesk:
    """``tenants`` gives the ids of all."""

    def __init__(self, environments: Environments, tenants: Callable[[], Awaitable[Sequence[str]]]) -> None:
        self._environments = environments
        self._tenants = tenants

    async def find(self, tenant_id: str | None) -> tuple[EnvironmentEntry, ...]:
        """By tenant and label, without the values of secrets."""
        tenants = [tenant_id] if tenant_id is not None else await self._tenants()
        found: list[EnvironmentEntry] = []
        for one in tenants:
            found += await self._environments.list(one)
        return tuple(found)

    async def get(self, tenant_id: str | None, environment_id: str) -> EnvironmentEntry | None:
        """None when there is none, or when it is another tenant's."""
        for one in [tenant_id] if tenant_id is not None else await self._tenants():
            try:
                return await self._environments.get(one, environment_id)
            except NoSuchEnvironment:
                continue
        return None

    async def create(self, tenant_id: str, draft: EnvironmentDraft) -> EnvironmentEntry:
        """Raises BadEnvironment, StoreError."""
        return await self._environments.create(tenant_id, draft)

    async def update(self, old: EnvironmentEntry, draft: EnvironmentDraft) -> EnvironmentEntry:
        """Raises BadEnvironment, NoSuchEnvironment, Conflict, StoreError."""
        return await self._environments.update(old.spec.tenant_id, old.spec.id, draft, old.spec.version)

    async def remove(self, old: EnvironmentEntry) -> bool:
        return await self._environments.remove(old.spec.tenant_id, old.spec.id)
