"""For every route of the table: a request that does what it is for, in a furnished house. Used by the matrix of roles
and by the fuzzer, and checked to leave no route out."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from auth.admins import Admin
from auth.logins import LoginKind
from auth.roles import Role
from tests.fakes.logins import access_jwt
from tests.gateway.admin.rig import PASSWORD, House, Someone, code_of

NEW_PASSWORD = "another plain long password"


@dataclass(frozen=True)
class Good:
    """``target`` is the id in the path."""

    body: Any = None
    target: str = ""
    query: str = ""


Maker = Callable[[House, Someone], Awaitable[Good]]


def fixed(body: Any = None, target: str = "", query: str = "") -> Maker:
    async def make(house: House, who: Someone) -> Good:
        return Good(body, target, query)

    return make


def document(house: House, account_id: str = "chatgpt-import") -> str:
    token = access_jwt(account_id, house.clock.now_s())
    tokens = {"access_token": token, "refresh_token": "rt.import", "id_token": token, "account_id": account_id}
    return json.dumps({"auth_mode": "chatgpt", "tokens": tokens, "last_refresh": "2026-11-18T00:00:00Z"})


async def import_(house: House, who: Someone) -> Good:
    return Good({"documents": [{"name": "auth.json", "content": document(house)}], "pool": "blue"})


async def other_admin(house: House) -> Admin:
    return await house.people.create("somebody", Role.AUDITOR)


async def admin_change(house: House, who: Someone) -> Good:
    return Good({"role": "member", "tenant_id": "ten-1"}, (await other_admin(house)).id)


async def admin_target(house: House, who: Someone) -> Good:
    return Good(None, (await other_admin(house)).id)


async def login_target(house: House, who: Someone) -> Good:
    login = await house.onboarding.begin(LoginKind.DEVICE, requested_by="admin:x", session_id="s")
    return Good(None, login.id)


async def login_callback(house: House, who: Someone) -> Good:
    found = None if who.cookie is None else await house.sessions.find(secret_of(who))
    session_id = found[1].id if found else f"key:{(who.key or '--').split('-')[2]}"
    login = await house.onboarding.begin(LoginKind.CALLBACK, requested_by="admin:x", session_id=session_id)
    state = parse_qs(urlsplit(login.authorize_url or "").query)["state"][0]
    return Good({"url": f"http://127.0.0.1:1455/auth/callback?code=abc&state={state}"}, login.id)


def secret_of(who: Someone) -> Any:
    from store.records import Secret

    return Secret(who.cookie or "")


async def key_target(house: House, who: Someone) -> Good:
    keys = await house.store.keys()
    return Good(None, next(one.id for one in keys if one.tenant_id == "ten-1" and "relay" in one.scopes))


async def totp_code(house: House, who: Someone) -> Good:
    if who.admin is None:
        return Good({"code": "000000"})
    offer = await house.signin.begin_totp(who.admin)
    return Good({"code": code_of(offer.secret.reveal(), house.clock)})


async def link(house: House, who: Someone) -> Good:
    token = await house.signin.invite(await other_admin(house))
    return Good({"token": token.reveal(), "password": NEW_PASSWORD})


async def signing_in(house: House, who: Someone) -> Good:
    await house.person("visitor", Role.AUDITOR, password=True)
    return Good({"name": "visitor", "password": PASSWORD})


async def own_session(house: House, who: Someone) -> Good:
    if who.admin is None:
        return Good(None, "adm_0.none")
    other = await house.opened(who.admin)
    found = await house.sessions.find(secret_of(other))
    assert found is not None
    return Good(None, found[1].id)


GOOD: dict[str, Maker] = {
    "sign_in.options": fixed(),
    "session.open": signing_in,
    "bootstrap": link,
    "session.show": fixed(),
    "session.close": fixed(),
    "me.password": fixed({"old": PASSWORD, "new": NEW_PASSWORD}),
    "me.totp.begin": fixed(),
    "me.totp.confirm": totp_code,
    "me.totp.drop": fixed({"password": PASSWORD}),
    "me.sessions": fixed(),
    "me.sessions.close": own_session,
    "admins.list": fixed(),
    "admins.create": fixed({"name": "newcomer", "role": "auditor"}),
    "admins.change": admin_change,
    "admins.reset": admin_target,
    "admins.remove": admin_target,
    "overview": fixed(),
    "accounts.list": fixed(),
    "accounts.show": fixed(None, "acct-1"),
    "accounts.change": fixed({"label": "renamed", "pool": "green", "weight": 2, "enabled": False}, "acct-1"),
    "accounts.probe": fixed(None, "acct-1"),
    "accounts.refresh": fixed(None, "acct-1"),
    "accounts.remove": fixed({"confirm": "label of acct-1"}, "acct-1"),
    "accounts.import": import_,
    "logins.list": fixed(),
    "logins.create": fixed({"kind": "device", "pool": "blue", "expect": "someone@example.com"}),
    "logins.show": login_target,
    "logins.cancel": login_target,
    "logins.callback": login_callback,
    "tenants.list": fixed(),
    "tenants.create": fixed({"name": "fresh", "pools": ["blue"], "limits": {"requests_per_minute": 10}}),
    "tenants.change": fixed({"name": "renamed", "limits": {"concurrent_streams": 2}}, "ten-1"),
    "tenants.remove": fixed({"confirm": "name of ten-2"}, "ten-2"),
    "keys.list": fixed(None, "", "tenant=ten-1"),
    "keys.create": fixed({"tenant": "ten-1", "name": "ci", "scopes": ["relay"], "expires_in_s": 3600}),
    "keys.revoke": key_target,
    "audit.search": fixed(None, "", "limit=5&action=account.*"),
    "audit.verify": fixed(),
    "usage": fixed(None, "", "by=tenant&since_at_s=0"),
    "forecast": fixed(),
    "openapi": fixed(),
}
