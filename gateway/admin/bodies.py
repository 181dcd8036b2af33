"""What a client may say to the admin API: one closed type for every body and every query.

Rules that hold:

* a member that is not named here is refused (400 with ``param``), so that no field is ever taken by accident;
* a member left out keeps what is stored (``UNSET``); null is a value of its own, and clears;
* texts are bounded and hold no control characters, numbers have a range, lists a length;
* ``version`` is the version that was read: when the record has moved on, the change is a 409.

What a principal may put into a field is decided where the act is done. Pure data.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

TEXT = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+$(?!\n)"
WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)"

Label = Annotated[str, Meta(min_length=1, max_length=64, pattern=TEXT)]
Pool = Annotated[str, Meta(min_length=1, max_length=64, pattern=WORD)]
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=TEXT)]
Model = Annotated[str, Meta(min_length=1, max_length=128, pattern=TEXT)]
Version = Annotated[int, Meta(ge=1, le=2**53)]
Weight = Annotated[int, Meta(ge=1, le=1000)]
Limit = Annotated[int, Meta(ge=1, le=1_000_000)]
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
Token = Annotated[str, Meta(min_length=1, max_length=256)]
Code = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[float, Meta(ge=0, le=1e11)]
Pools = Annotated[tuple[Pool, ...], Meta(max_length=64)]
RoleName = Literal["owner", "admin", "auditor", "member"]
ScopeName = Literal["relay", "tasks", "metrics", "admin"]


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: a member that is not named is refused."""


# signing in


class SignInBody(Closed, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    password: Password
    code: Code | None = None


class BootstrapBody(Closed, frozen=True):
    token: Token
    password: Password
    name: Label | None = None


class PasswordBody(Closed, frozen=True):
    old: Password
    new: Password


class CodeBody(Closed, frozen=True):
    code: Code


class ConfirmPasswordBody(Closed, frozen=True):
    password: Password


# administrators


class NewAdmin(Closed, frozen=True):
    name: Label
    role: RoleName
    tenant_id: Id | None = None


class AdminChange(Closed, frozen=True):
    role: RoleName | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tenant_id: Id | UnsetType | None = UNSET
    version: Version | None = None


# accounts


class AccountChange(Closed, frozen=True):
    label: Label | UnsetType = UNSET
    pool: Pool | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    version: Version | None = None


class Confirmation(Closed, frozen=True):
    """``confirm`` repeats the name of what is removed, so that nothing goes by a slip."""

    confirm: Annotated[str, Meta(min_length=1, max_length=128)]


class ImportDocument(Closed, frozen=True):
    """``content`` is the text of one auth.json."""

    name: Annotated[str, Meta(max_length=200)]
    content: Annotated[str, Meta(max_length=1024 * 1024)]


class ImportBody(Closed, frozen=True):
    documents: Annotated[tuple[ImportDocument, ...], Meta(min_length=1, max_length=200)]
    pool: Pool | None = None
    label: Label | None = None
    dry_run: bool = False
    force: bool = False


class NewLogin(Closed, frozen=True):
    """``expect`` is the e-mail address or account id that the sign-in must end with."""

    kind: Literal["device", "callback"]
    pool: Pool | None = None
    label: Label | None = None
    expect: Annotated[str, Meta(min_length=1, max_length=254, pattern=TEXT)] | None = None


class CallbackBody(Closed, frozen=True):
    url: Annotated[str, Meta(min_length=1, max_length=8192)]


# tenants and keys


class LimitsBody(Closed, frozen=True):
    """null: no limit of its own."""

    requests_per_minute: Limit | None = None
    concurrent_streams: Limit | None = None


class NewTenant(Closed, frozen=True):
    name: Label
    pools: Pools = ()
    limits: LimitsBody | None = None


class TenantChange(Closed, frozen=True):
    name: Label | UnsetType = UNSET
    pools: Pools | UnsetType = UNSET
    limits: LimitsBody | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    version: Version | None = None


class NewKey(Closed, frozen=True):
    """``tenant`` is an id or a name. Without ``scopes``: relay."""

    tenant: Id
    name: Annotated[str, Meta(max_length=64, pattern=TEXT)] | None = None
    scopes: Annotated[tuple[ScopeName, ...], Meta(min_length=1, max_length=4)] = ("relay",)
    models: Annotated[tuple[Model, ...], Meta(max_length=64)] = ()
    limits: LimitsBody | None = None
    expires_in_s: Annotated[float, Meta(gt=0, le=10 * 366 * 86_400)] | None = None


# queries


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what stands behind the question mark; texts become numbers where the field is one."""


class KeysQuery(Query, frozen=True):
    tenant: Id | None = None


class AuditQuery(Query, frozen=True):
    since_at_s: Moment | None = None
    tenant: Id | None = None
    key: Id | None = None
    action: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9_.]+\*?$(?!\n)")] | None = None
    after_seq: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class UsageQuery(Query, frozen=True):
    by: Literal["account", "tenant", "key", "model"] = "account"
    since_at_s: Moment | None = None


class OidcStartQuery(Query, frozen=True):
    next: Annotated[str, Meta(max_length=512)] = "/console/"


class OidcCallbackQuery(msgspec.Struct, frozen=True):
    """The provider's words; it may add members of its own, which are passed over."""

    state: Annotated[str, Meta(max_length=2048)] = ""
    code: Annotated[str, Meta(max_length=4096)] = ""
    error: Annotated[str, Meta(max_length=256)] = ""
    iss: Annotated[str, Meta(max_length=2048)] = ""
