"""What may a person (or an admin key) do? Roles, permissions, and the principal that a request acts as.

    owner     everything, other administrators included
    admin     accounts, tenants, keys, sign-ins; no change of administrators
    auditor   reads everything, changes nothing
    member    his own things only: his profile, and the tasks of his tenant

Every admin route names the one permission that it asks for; a role is a set of permissions. A key with scope
``admin`` acts as an admin of its own name, never as an owner. Pure data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Highest first."""

    OWNER = "owner"
    ADMIN = "admin"
    AUDITOR = "auditor"
    MEMBER = "member"


class Permission(StrEnum):
    """What a route asks for. A closed set."""

    SELF = "self"  # one's own profile and sessions
    ACCOUNTS_READ = "accounts.read"
    ACCOUNTS_WRITE = "accounts.write"
    TENANTS_READ = "tenants.read"
    TENANTS_WRITE = "tenants.write"
    KEYS_READ = "keys.read"
    KEYS_WRITE = "keys.write"
    AUDIT_READ = "audit.read"
    ADMINS_READ = "admins.read"
    ADMINS_WRITE = "admins.write"
    TASKS_READ = "tasks.read"
    TASKS_WRITE = "tasks.write"


_READS: Final = frozenset(
    {
        Permission.ACCOUNTS_READ,
        Permission.TENANTS_READ,
        Permission.KEYS_READ,
        Permission.AUDIT_READ,
        Permission.ADMINS_READ,
        Permission.TASKS_READ,
    }
)

PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(Permission) - {Permission.ADMINS_WRITE},
    Role.AUDITOR: _READS | {Permission.SELF},
    Role.MEMBER: frozenset({Permission.SELF, Permission.TASKS_READ, Permission.TASKS_WRITE}),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts on the admin API. ``id`` is an administrator's or a key's; ``session_id`` names the console session in
    lists and is not its secret (None for a key). ``tenant_id`` binds a member or a key to one tenant; None: all."""

    id: str
    name: str
    role: Role
    session_id: str | None = None
    tenant_id: str | None = None

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.role]

    @property
    def actor(self) -> str:
        """What the audit log calls this principal."""
        return f"admin:{self.name}" if self.session_id else f"key:{self.id}"
