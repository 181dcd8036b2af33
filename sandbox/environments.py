"""In what do a tenant's tasks run? The environments, kept as sealed documents, and the key of what they come to.

Rules that hold:

* a tenant has its own environments alone; another's is the same answer as none (NoSuchEnvironment);
* a secret's value goes in and is read again by ``full`` only, for the set-up phase; everything else shows its name and
  the version, which rises with each new value;
* a change is compare-and-put on the version that was read;
* the cache key changes with everything that the set-up phase could see; nobody else's set-up ever has the same key.

What a field may hold is said in environment_rules.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from ops.clock import Clock
from sandbox.environment_rules import NAMES_MAX, BadEnvironment, EnvironmentDraft, EnvironmentRules, check_draft
from sandbox.giturl import check_url
from sandbox.types import EnvironmentSpec
from store.base import DocumentStore
from store.errors import Conflict, NotFound
from store.records import Document, Secret

KIND: Final = "environment"
ENVIRONMENTS_MAX: Final = 500
_PAGE: Final = 200

__all__ = [
    "BadEnvironment",
    "EnvironmentDraft",
    "EnvironmentEntry",
    "EnvironmentRules",
    "Environments",
    "NoSuchEnvironment",
    "cache_key",
]


class NoSuchEnvironment(Exception):
    """There is none, or it is another tenant's."""


@dataclass(frozen=True, slots=True)
class EnvironmentEntry:
    """An environment as it is shown. ``spec`` is without its secrets; ``secret_versions`` has their names."""

    spec: EnvironmentSpec
    secret_versions: tuple[tuple[str, int], ...] = ()
    created_at_s: float = 0.0
    updated_at_s: float = 0.0


class Environments:
    """The environments of all tenants. Every method may raise StoreUnavailable; then nothing is known to have
    changed."""

    def __init__(self, documents: DocumentStore, clock: Clock, rules: EnvironmentRules | None = None) -> None:
        self._documents = documents
        self._clock = clock
        self._rules = rules or EnvironmentRules()

    async def create(self, tenant_id: str, draft: EnvironmentDraft) -> EnvironmentEntry:
        """Raises BadEnvironment."""
        check_draft(draft, self._rules)
        await self._check_label(tenant_id, draft.label, None)
        now_s = self._clock.now_s()
        empty = EnvironmentSpec(f"env_{secrets.token_hex(8)}", tenant_id, draft.label, limits=self._rules.limits)
        entry = _changed(EnvironmentEntry(empty, (), now_s, now_s), draft, self._rules)
        entry = replace(entry, spec=replace(entry.spec, version=1))
        await self._documents.add_document(_document(entry))
        return _shown(entry)

    async def get(self, tenant_id: str, environment_id: str) -> EnvironmentEntry:
        """Raises NoSuchEnvironment."""
        return _shown((await self._read(tenant_id, environment_id))[1])

    async def full(self, tenant_id: str, environment_id: str) -> EnvironmentSpec:
        """With its secrets, for the set-up phase. Raises NoSuchEnvironment."""
        return (await self._read(tenant_id, environment_id))[1].spec

    async def list(self, tenant_id: str) -> tuple[EnvironmentEntry, ...]:
        """By label."""
        entries = [_shown(entry) async for entry in self._all(tenant_id)]
        return tuple(sorted(entries, key=lambda one: (one.spec.label.casefold(), one.spec.id)))

    async def update(
        self, tenant_id: str, environment_id: str, draft: EnvironmentDraft, expected_version: int | None = None
    ) -> EnvironmentEntry:
        """The environment as ``draft`` says, but for secrets that it does not name. Raises BadEnvironment,
        NoSuchEnvironment, and Conflict when it is not at ``expected_version`` (None: at whichever)."""
        check_draft(draft, self._rules)
        document, entry = await self._read(tenant_id, environment_id)
        if expected_version is not None and entry.spec.version != expected_version:
            raise Conflict("the environment has changed since it was read")
        await self._check_label(tenant_id, draft.label, environment_id)
        changed = replace(_changed(entry, draft, self._rules), updated_at_s=self._clock.now_s())
        try:
            await self._documents.put_document(_document(changed), document.version)
        except NotFound:
            raise NoSuchEnvironment(environment_id) from None
        return _shown(changed)

    async def remove(self, tenant_id: str, environment_id: str) -> bool:
        """False when there is none. Tasks that name it are not touched."""
        return await self._documents.remove_document(KIND, _key(tenant_id, environment_id))

    async def _read(self, tenant_id: str, environment_id: str) -> tuple[Document, EnvironmentEntry]:
        document = await self._documents.document(KIND, _key(tenant_id, environment_id))
        if document is None:
            raise NoSuchEnvironment(environment_id)
        return document, _entry(document)

    async def _all(self, tenant_id: str) -> AsyncIterator[EnvironmentEntry]:
        after = prefix = _key(tenant_id, "")
        while True:
            page = await self._documents.documents(KIND, after_id=after, limit=_PAGE)
            for document in page:
                if not document.id.startswith(prefix):
                    return
                yield _entry(document)
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _check_label(self, tenant_id: str, label: str, own_id: str | None) -> None:
        others = [entry.spec async for entry in self._all(tenant_id) if entry.spec.id != own_id]
        if any(one.label.casefold() == label.casefold() for one in others):
            raise BadEnvironment("label", "there is an environment of this label already")
        if own_id is None and len(others) >= ENVIRONMENTS_MAX:
            raise BadEnvironment("label", f"there are {ENVIRONMENTS_MAX} environments already: remove one first")


def cache_key(
    spec: EnvironmentSpec,
    base_image_id: str,
    lockfiles: Mapping[str, bytes],
    secret_versions: tuple[tuple[str, int], ...] = (),
) -> str:
    """64 hexadecimal digits that name what the set-up phase comes to. Pure.

    The environment's version rises with every change, of a secret too; ``secret_versions`` may be given beside it. No
    value of a secret is part of it: the key is shown and names an image.
    """
    digest = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)

    add("environment 1", spec.tenant_id, spec.id, str(spec.version), base_image_id)
    add(spec.image or "", spec.repository or "", spec.setup_script, str(len(spec.variables)))
    for name, value in spec.variables:
        add(name, value)
    add("secrets", *sorted(name for name, _ in spec.secrets))
    for name, version in sorted(secret_versions):
        add(name, str(version))
    add("lockfiles")
    for name, data in sorted(lockfiles.items()):
        add(name, data)
    return digest.hexdigest()


def _changed(entry: EnvironmentEntry, draft: EnvironmentDraft, rules: EnvironmentRules) -> EnvironmentEntry:
    """``entry`` as ``draft`` wants it, one version later."""
    values, versions = dict(entry.spec.secrets), dict(entry.secret_versions)
    for name, secret in draft.secrets.items():
        if secret is None:
            values.pop(name, None)
        elif values.get(name) != secret:
            values[name] = secret
            versions[name] = versions.get(name, 0) + 1
    if len(values) > NAMES_MAX:
        raise BadEnvironment("secrets", f"up to {NAMES_MAX}")
    if both := values.keys() & draft.variables.keys():
        raise BadEnvironment("variables", f"{min(both)} is a secret's name already")
    spec = replace(
        entry.spec,
        label=draft.label,
        repository=None if draft.repository is None else check_url(draft.repository),
        image=draft.image,
        setup_script=draft.setup_script,
        maintenance_script=draft.maintenance_script,
        test_command=draft.test_command,
        variables=tuple(sorted(draft.variables.items())),
        secrets=tuple(sorted(values.items(), key=lambda one: one[0])),
        setup_network=draft.setup_network,
        agent_network=draft.agent_network,
        limits=draft.limits or rules.limits,
        version=entry.spec.version + 1,
    )
    return replace(entry, spec=spec, secret_versions=tuple(sorted(versions.items())))


def _key(tenant_id: str, environment_id: str) -> str:
    """The document's id: a tenant's lie side by side, and no tenant's name is the beginning of another's key."""
    return f"{len(tenant_id)}:{tenant_id}/{environment_id}"


def _document(entry: EnvironmentEntry) -> Document:
    spec = entry.spec
    return Document(KIND, _key(spec.tenant_id, spec.id), msgspec.json.encode(entry, enc_hook=_reveal))


def _entry(document: Document) -> EnvironmentEntry:
    return msgspec.json.decode(document.body, type=EnvironmentEntry, dec_hook=_conceal)


def _shown(entry: EnvironmentEntry) -> EnvironmentEntry:
    names = {name for name, _ in entry.spec.secrets}
    versions = tuple(one for one in entry.secret_versions if one[0] in names)
    return replace(entry, spec=replace(entry.spec, secrets=()), secret_versions=versions)


def _reveal(value: object) -> str:
    """Into the sealed body, and nowhere else."""
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} is no part of an environment")


def _conceal(kind: type, value: Any) -> Secret:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"{kind.__name__} is no part of an environment")
