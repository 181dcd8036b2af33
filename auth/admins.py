"""Who may sign in to the console, in which role, and is there always somebody who may do everything?

One document, the roster, says who there is: id, name, role, tenant, enabled, epoch. It is changed by
compare-and-put as a whole, so a rule over all people (names are unique, an enabled owner remains) holds over any
number of processes: of two demotions at once, the second sees the first. What a person proves himself with stands
apart, in one document of kind ``admin`` each (auth.proofs), and means nothing without an entry in the roster.

Rules that hold:

* once there is an enabled owner there is always one: removing, disabling or demoting the last raises LastOwner;
* a change of role, tenant or enabledness raises the person's epoch in the same write, which ends all his sessions;
* a person of single sign-on is known by (issuer, sub) and by nothing else, never by name or e-mail address;
* a record that fails a rule is not written; every error means that nothing has changed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from auth.errors import AlreadyBootstrapped, BadName, LastOwner, NameTaken, NoSuchAdmin, StaleAdmin, TooManyAdmins
from auth.proofs import Proof, ProofShelf
from auth.roles import Role
from auth.shelf import Shelf
from ops.clock import Clock
from store.base import DocumentStore
from store.errors import Conflict

MAX_ADMINS: Final = 5000
ROSTER_KIND: Final = "admin_roster"
ROSTER_ID: Final = "roster"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a person is to the provider of single sign-on."""

    issuer: str
    sub: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A person's line in the roster. ``epoch`` rises when all his sessions must end, ``version`` with any change."""

    id: str
    name: str
    role: Role
    tenant_id: str | None = None
    enabled: bool = True
    subject: Subject | None = None
    created_at_s: float = 0.0
    epoch: int = 1
    version: int = 1


@dataclass(frozen=True, slots=True)
class Roster:
    """Everybody, by id."""

    people: dict[str, Entry] = field(default_factory=dict)

    def has_owner(self) -> bool:
        return any(one.enabled and one.role is Role.OWNER for one in self.people.values())

    def named(self, name: str) -> Entry | None:
        return next((one for one in self.people.values() if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Admin:
    """A person as others see him: the roster's line and what is known of how he signs in. Holds no secret."""

    id: str
    name: str
    role: Role
    tenant_id: str | None
    enabled: bool
    totp_enabled: bool
    sso: bool
    created_at_s: float
    last_login_at_s: float | None
    epoch: int
    version: int


class _Keep:
    """The mark of an argument that was not given."""


KEEP: Final = _Keep()


class AdminDirectory:
    """The administrators in the store. Every method may raise StoreError; nothing is known to have changed then."""

    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._shelf = Shelf(documents, ROSTER_KIND, Roster)
        self._proofs = ProofShelf(documents)
        self._lock = asyncio.Lock()
        self._read: tuple[bytes, Roster] = (b"", Roster())

    async def create(self, name: str, role: Role, tenant_id: str | None = None) -> Admin:
        """A new enabled person, who has nothing to sign in with until a link is redeemed.

        Raises BadName, NameTaken, TooManyAdmins.
        """
        return await self._add(Entry(new_id(), usable_name(name), role, tenant_id))

    async def create_first(self, admin_id: str, name: str) -> Admin:
        """The first owner, under the id that his proof is stored under already. Raises AlreadyBootstrapped when
        there is an enabled owner; also BadName, NameTaken, TooManyAdmins."""

        def alone(roster: Roster) -> None:
            if roster.has_owner():
                raise AlreadyBootstrapped("there is an owner already; codex-relay admins reset NAME lets one back in")

        return await self._add(Entry(admin_id, usable_name(name), Role.OWNER), alone)

    async def create_subject(self, subject: Subject, wish: str, role: Role) -> Admin:
        """The person of single sign-on, made unless he is there; his name is made of ``wish`` and is free."""
        added: Entry | None = None

        def step(roster: Roster) -> Roster:
            nonlocal added
            added = _of_subject(roster, subject)
            if added is not None:
                return roster
            fresh = Entry(new_id(), _free_name(roster, wish), role, subject=subject, created_at_s=self._clock.now_s())
            added = fresh
            return _with_new(roster, fresh)

        await self._change(step)
        assert added is not None
        return await self._shown(added)

    async def all(self) -> tuple[Admin, ...]:
        """Everybody, ordered by name."""
        proofs = await self._proofs.all()
        people = (await self.roster()).people.values()
        return tuple(_joined(one, proofs.get(one.id)) for one in sorted(people, key=lambda one: one.name))

    async def get(self, admin_id: str) -> Admin | None:
        entry = await self.entry(admin_id)
        return None if entry is None else await self._shown(entry)

    async def by_name(self, name: str) -> Admin | None:
        """The person of this name, whatever its case."""
        entry = (await self.roster()).named(name.casefold())
        return None if entry is None else await self._shown(entry)

    async def by_subject(self, subject: Subject) -> Admin | None:
        entry = _of_subject(await self.roster(), subject)
        return None if entry is None else await self._shown(entry)

    async def has_owner(self) -> bool:
        """Whether an enabled owner exists."""
        return (await self.roster()).has_owner()

    async def change(
        self,
        admin_id: str,
        *,
        version: int | None = None,
        role: Role | None = None,
        enabled: bool | None = None,
        tenant_id: str | _Keep | None = KEEP,
    ) -> Admin:
        """Changes what is given and, when that is a change, ends the person's sessions.

        Raises NoSuchAdmin, StaleAdmin when ``version`` is not the stored one, LastOwner.
        """

        def edit(old: Entry) -> Entry:
            if version is not None and old.version != version:
                raise StaleAdmin("the administrator has changed since it was read; read it again")
            new = replace(
                old,
                role=old.role if role is None else role,
                enabled=old.enabled if enabled is None else enabled,
                tenant_id=old.tenant_id if isinstance(tenant_id, _Keep) else tenant_id,
            )
            return old if new == old else replace(new, epoch=old.epoch + 1)

        return await self._edit(admin_id, edit)

    async def end_sessions(self, admin_id: str) -> Admin:
        """Raises the person's epoch: no session of before is good any more. Raises NoSuchAdmin."""
        return await self._edit(admin_id, lambda old: replace(old, epoch=old.epoch + 1))

    async def remove(self, admin_id: str) -> None:
        """Removes the person and what he proved himself with. Raises NoSuchAdmin, LastOwner.

        Cancelled, a proof without a person may remain; it opens nothing.
        """

        def step(roster: Roster) -> Roster:
            if admin_id not in roster.people:
                raise NoSuchAdmin("there is no such administrator")
            return Roster({key: one for key, one in roster.people.items() if key != admin_id})

        await self._change(step)
        await self._proofs.remove(admin_id)

    async def entry(self, admin_id: str) -> Entry | None:
        """The person's line in the roster, which is all that a session is judged by."""
        return (await self.roster()).people.get(admin_id)

    async def roster(self) -> Roster:
        """As stored now; decoded again only when it differs from what was read last."""
        found = await self._documents.document(ROSTER_KIND, ROSTER_ID)
        if found is None:
            return Roster()
        if found.body != self._read[0]:
            self._read = (found.body, self._shelf.read(found).value)
        return self._read[1]

    async def _add(self, entry: Entry, check: Callable[[Roster], None] | None = None) -> Admin:
        fresh = replace(entry, created_at_s=self._clock.now_s())

        def step(roster: Roster) -> Roster:
            if check is not None:
                check(roster)
            if roster.named(fresh.name) is not None:
                raise NameTaken(f"the name {fresh.name!r} is taken; codex-relay admins list shows the names")
            return _with_new(roster, fresh)

        await self._change(step)
        return await self._shown(fresh)

    async def _edit(self, admin_id: str, edit: Callable[[Entry], Entry]) -> Admin:
        def step(roster: Roster) -> Roster:
            old = roster.people.get(admin_id)
            if old is None:
                raise NoSuchAdmin("there is no such administrator")
            new = edit(old)
            return roster if new == old else Roster({**roster.people, admin_id: replace(new, version=old.version + 1)})

        return await self._shown((await self._change(step)).people[admin_id])

    async def _change(self, step: Callable[[Roster], Roster]) -> Roster:
        """One change of the roster under the rule of the last owner. The lock only spares this process's own
        attempts from each other; what holds between processes is the compare-and-put."""

        def ruled(stored: Roster | None) -> tuple[Roster, None]:
            old = stored or Roster()
            new = step(old)
            if old.has_owner() and not new.has_owner():
                raise LastOwner("this is the last enabled owner; make another owner first")
            return new, None

        async with self._lock:
            try:
                return await self._shelf.change(ROSTER_ID, ruled)
            except Conflict as error:
                raise StaleAdmin(str(error)) from None

    async def _shown(self, entry: Entry) -> Admin:
        return _joined(entry, await self._proofs.get(entry.id))


def new_id() -> str:
    return f"adm_{secrets.token_hex(8)}"


def usable_name(name: str) -> str:
    """The name as it is kept. Raises BadName."""
    folded = name.casefold()
    if not _NAME.fullmatch(folded):
        raise BadName("a name has 1 to 64 of a-z, 0-9 and . _ @ -, and begins with a letter or a digit")
    return folded


def _with_new(roster: Roster, fresh: Entry) -> Roster:
    if len(roster.people) >= MAX_ADMINS:
        raise TooManyAdmins(f"there are {MAX_ADMINS} administrators, and no more can be; remove some first")
    return Roster({**roster.people, fresh.id: fresh})


def _of_subject(roster: Roster, subject: Subject) -> Entry | None:
    return next((one for one in roster.people.values() if one.subject == subject), None)


def _free_name(roster: Roster, wish: str) -> str:
    base = re.sub(r"[^a-z0-9._@-]", "-", wish.casefold()).lstrip("._@-")[:50] or "person"
    name = base
    while roster.named(name) is not None:
        name = f"{base}-{secrets.token_hex(3)}"
    return name


def _joined(entry: Entry, proof: Proof | None) -> Admin:
    return Admin(
        id=entry.id,
        name=entry.name,
        role=entry.role,
        tenant_id=entry.tenant_id,
        enabled=entry.enabled,
        totp_enabled=proof is not None and proof.totp is not None,
        sso=entry.subject is not None,
        created_at_s=entry.created_at_s,
        last_login_at_s=None if proof is None else proof.last_login_at_s,
        epoch=entry.epoch,
        version=entry.version,
    )
