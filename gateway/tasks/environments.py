"""``/v1/environments``: in what tasks run. Secrets go in and never come out; limits stay below the settings'.

A change raises the version (and with it what is cached for it). ``secrets`` are merged: a value sets, null takes away,
what is not named stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from msgspec import UNSET

from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from gateway.tasks.answers import EnvironmentList
from gateway.tasks.bodies import EnvironmentChange, LimitsBody, NetworkBody, NewEnvironment, PolicyBody
from gateway.tasks.faults import sentence
from gateway.tasks.types import Workshop, maker_of
from gateway.tasks.views import environment_view
from sandbox.environments import EnvironmentDraft, EnvironmentEntry
from sandbox.giturl import BadSource
from sandbox.types import EnvironmentSpec, Limits, NetworkPolicy
from store.records import Secret

_PLAIN: Final = ("label", "repository", "image", "setup_script", "maintenance_script", "test_command")
_LIMITS: Final = ("cpus", "memory_mib", "pids", "disk_mib", "wall_s", "output_mib")


class EnvironmentRoutes:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        return {
            "environments.create": self.create,
            "environments.list": self.list,
            "environments.show": self.show,
            "environments.change": self.change,
            "environments.remove": self.remove,
        }

    async def create(self, call: Call) -> Reply:
        body: NewEnvironment = call.body
        by = await maker_of(self._shop, call, call.query.tenant)
        assert by.tenant_id is not None
        setup, agent = policies(body.network)
        draft = EnvironmentDraft(
            label=body.label,
            repository=await self._repository(body.repository),
            image=body.image,
            setup_script=body.setup_script,
            maintenance_script=body.maintenance_script,
            test_command=body.test_command,
            variables=body.variables,
            secrets={name: Secret(value) for name, value in body.secrets.items()},
            setup_network=setup,
            agent_network=agent,
            limits=limits_of(body.limits, self._shop.values.most),
        )
        async with self._shop.acts.act(call, "environment.create", None, tenant_id=by.tenant_id) as detail:
            stored = await self._shop.environments.create(by.tenant_id, draft)
            detail["environment"] = stored.spec.id
        return Reply(environment_view(stored), 201)

    async def list(self, call: Call) -> Reply:
        tenant_id = call.principal.tenant_id
        if call.query.tenant is not None:
            tenant_id = (await maker_of(self._shop, call, call.query.tenant)).tenant_id
        found = await self._shop.environments.find(tenant_id)
        return Reply(EnvironmentList(items=[environment_view(one) for one in found]))

    async def show(self, call: Call) -> Reply:
        return Reply(environment_view(await self._found(call)))

    async def change(self, call: Call) -> Reply:
        body: EnvironmentChange = call.body
        old = await self._found(call)
        if body.version is not None and body.version != old.spec.version:
            raise GatewayError("conflict", "The environment has changed meanwhile. Read it again.")
        draft = changed(old.spec, body, self._shop.values.most)
        if draft.repository != old.spec.repository:
            draft = replace(draft, repository=await self._repository(draft.repository))
        async with self._shop.acts.act(call, "environment.change", old.spec.id, tenant_id=old.spec.tenant_id):
            stored = await self._shop.environments.update(old, draft)
        return Reply(environment_view(stored))

    async def remove(self, call: Call) -> Reply:
        old = await self._found(call)
        async with self._shop.acts.act(call, "environment.remove", old.spec.id, tenant_id=old.spec.tenant_id):
            await self._shop.environments.remove(old)
        return Reply(None, 204)

    async def _found(self, call: Call) -> EnvironmentEntry:
        found = await self._shop.environments.get(call.principal.tenant_id, call.target)
        if found is None:
            raise absent("environment")
        return found

    async def _repository(self, url: str | None) -> str | None:
        """The address as git will get it. Raises GatewayError."""
        if url is None:
            return None
        try:
            return (await self._shop.check_git(url, None, None)).url
        except BadSource as error:
            raise GatewayError.invalid(sentence(error), "repository") from None


def changed(old: EnvironmentSpec, body: EnvironmentChange, most: Limits) -> EnvironmentDraft:
    """``old`` with what the body names. Raises GatewayError for limits above ``most``."""
    parts: dict[str, Any] = {name: getattr(old, name) for name in (*_PLAIN, "setup_network", "agent_network", "limits")}
    parts |= {name: getattr(body, name) for name in _PLAIN if getattr(body, name) is not UNSET}
    parts["variables"] = dict(old.variables) if body.variables is UNSET else body.variables
    if body.secrets is not UNSET:
        parts["secrets"] = {name: None if value is None else Secret(value) for name, value in body.secrets.items()}
    if body.network is not UNSET:
        parts["setup_network"], parts["agent_network"] = policies(body.network)
    if body.limits is not UNSET:
        parts["limits"] = limits_of(body.limits, most)
    return EnvironmentDraft(**parts)


def policies(body: NetworkBody) -> tuple[NetworkPolicy, NetworkPolicy]:
    return _policy(body.setup), _policy(body.agent)


def _policy(body: PolicyBody) -> NetworkPolicy:
    return NetworkPolicy(tuple(dict.fromkeys(name.lower() for name in body.domains)), frozenset(body.methods))


def limits_of(body: LimitsBody, most: Limits) -> Limits:
    """What is named, else the most. Raises GatewayError for more than that."""
    wanted = {name: getattr(body, name) for name in _LIMITS if getattr(body, name) is not None}
    for name, value in wanted.items():
        if value > getattr(most, name):
            raise GatewayError.invalid(f"At most {getattr(most, name):g} here (sandbox.{name}).", f"limits.{name}")
    return replace(most, **wanted)
