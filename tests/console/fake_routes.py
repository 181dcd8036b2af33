"""The routes of the fake admin API: which call asks for which permission, and what answers it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from auth.roles import Permission
from tests.console.fake_api import CODE, PASSWORD, Asked, FakeApi, Refusal
from tests.console.fake_records import key, person, sessions, tenant

Answered = Any
Act = Callable[..., Answered]


def _found(items: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    for one in items:
        if one["id"] == wanted:
            return one
    raise Refusal(404, "not_found", "There is no such object.")


def _totp(api: FakeApi, body: Any) -> None:
    if body["code"] != CODE:
        raise Refusal(400, "invalid_request", "the code is wrong", "code")
    api.totp = True


def _no_totp(api: FakeApi, body: Any) -> None:
    if body["password"] != PASSWORD:
        raise Refusal(401, "wrong_credentials", "The password is wrong.", "password")
    api.totp = False


def _last_owner(api: FakeApi, id_: str, leaves: bool) -> dict[str, Any]:
    found = _found(api.admins, id_)
    owners = [one for one in api.admins if one["role"] == "owner" and one["enabled"]]
    if leaves and owners == [found]:
        raise Refusal(409, "last_owner", "The last owner stays.")
    return found


def _leaves(body: Any) -> bool:
    return body.get("role", "owner") != "owner" or body.get("enabled") is False


URI = "otpauth://totp/codex-relay:ada?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=codex-relay&algorithm=SHA1&digits=6&period=30"
LINK = "https://relay.example/console/welcome#one-time-token"

ROUTES: list[tuple[str, str, Permission | None, int, Act]] = [
    (
        "GET",
        "/sign-in",
        None,
        200,
        lambda a, b, q: {"password": True, "oidc": a.oidc, "bootstrap_needed": a.bootstrap_needed},
    ),
    ("POST", "/session", None, 200, lambda a, b, q: a.sign_in(b)),
    ("POST", "/bootstrap", None, 200, lambda a, b, q: a.bootstrap(b)),
    ("GET", "/session", Permission.SELF, 200, lambda a, b, q: a.session()),
    ("DELETE", "/session", Permission.SELF, 204, lambda a, b, q: a.leave()),
    ("PUT", "/me/password", Permission.SELF, 204, lambda a, b, q: None),
    (
        "POST",
        "/me/totp",
        Permission.SELF,
        200,
        lambda a, b, q: {"secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "uri": URI},
    ),
    ("PUT", "/me/totp", Permission.SELF, 204, lambda a, b, q: _totp(a, b)),
    ("DELETE", "/me/totp", Permission.SELF, 204, lambda a, b, q: _no_totp(a, b)),
    ("GET", "/me/sessions", Permission.SELF, 200, lambda a, b, q: {"items": sessions()}),
    ("DELETE", "/me/sessions/([^/]+)", Permission.SELF, 204, lambda a, b, q, i: None),
    ("GET", "/overview", Permission.ACCOUNTS_READ, 200, lambda a, b, q: a.overview()),
    ("GET", "/forecast", Permission.ACCOUNTS_READ, 200, lambda a, b, q: a.forecast()),
    ("GET", "/usage", Permission.ACCOUNTS_READ, 200, lambda a, b, q: a.usage(q["by"])),
    ("GET", "/accounts", Permission.ACCOUNTS_READ, 200, lambda a, b, q: {"items": a.accounts}),
    ("POST", "/accounts/import", Permission.ACCOUNTS_WRITE, 200, lambda a, b, q: a.take_in(b)),
    (
        "PATCH",
        "/accounts/([^/]+)",
        Permission.ACCOUNTS_WRITE,
        200,
        lambda a, b, q, i: a.change(_found(a.accounts, i), b),
    ),
    (
        "POST",
        "/accounts/([^/]+)/(?:probe|refresh)",
        Permission.ACCOUNTS_WRITE,
        200,
        lambda a, b, q, i: _found(a.accounts, i),
    ),
    (
        "DELETE",
        "/accounts/([^/]+)",
        Permission.ACCOUNTS_WRITE,
        200,
        lambda a, b, q, i: a.drop(a.accounts, _found(a.accounts, i), b, "label"),
    ),
    ("GET", "/logins", Permission.ACCOUNTS_READ, 200, lambda a, b, q: {"items": a.logins}),
    ("POST", "/logins", Permission.ACCOUNTS_WRITE, 201, lambda a, b, q: a.begin_login(b)),
    ("GET", "/logins/([^/]+)", Permission.ACCOUNTS_READ, 200, lambda a, b, q, i: _found(a.logins, i)),
    (
        "DELETE",
        "/logins/([^/]+)",
        Permission.ACCOUNTS_WRITE,
        200,
        lambda a, b, q, i: a.end_login(_found(a.logins, i), "cancelled"),
    ),
    (
        "POST",
        "/logins/([^/]+)/callback",
        Permission.ACCOUNTS_WRITE,
        200,
        lambda a, b, q, i: a.callback(_found(a.logins, i), b["url"]),
    ),
    ("GET", "/tenants", Permission.TENANTS_READ, 200, lambda a, b, q: {"items": a.tenants}),
    (
        "POST",
        "/tenants",
        Permission.TENANTS_WRITE,
        201,
        lambda a, b, q: a.create(a.tenants, tenant(f"ten_{len(a.tenants) + 1}", b["name"], b["pools"])),
    ),
    ("PATCH", "/tenants/([^/]+)", Permission.TENANTS_WRITE, 200, lambda a, b, q, i: a.change(_found(a.tenants, i), b)),
    (
        "DELETE",
        "/tenants/([^/]+)",
        Permission.TENANTS_WRITE,
        200,
        lambda a, b, q, i: a.drop(a.tenants, _found(a.tenants, i), b, "name"),
    ),
    ("GET", "/keys", Permission.KEYS_READ, 200, lambda a, b, q: {"items": a.keys}),
    (
        "POST",
        "/keys",
        Permission.KEYS_WRITE,
        201,
        lambda a, b, q: {
            "key": "cr_once_and_never_again",
            "record": a.create(a.keys, key(f"key_{len(a.keys) + 1}", b["tenant"], b.get("name", ""))),
        },
    ),
    (
        "DELETE",
        "/keys/([^/]+)",
        Permission.KEYS_WRITE,
        200,
        lambda a, b, q, i: a.change(_found(a.keys, i), {"revoked_at_s": 1.0}),
    ),
    ("GET", "/admins", Permission.ADMINS_READ, 200, lambda a, b, q: {"items": a.admins}),
    (
        "POST",
        "/admins",
        Permission.ADMINS_WRITE,
        201,
        lambda a, b, q: {
            "admin": a.create(a.admins, person(f"adm_{len(a.admins) + 1}", b["name"], b["role"])),
            "link": LINK,
        },
    ),
    (
        "PATCH",
        "/admins/([^/]+)",
        Permission.ADMINS_WRITE,
        200,
        lambda a, b, q, i: a.change(_last_owner(a, i, _leaves(b)), b),
    ),
    ("POST", "/admins/([^/]+)/reset", Permission.ADMINS_WRITE, 200, lambda a, b, q, i: {"link": LINK}),
    (
        "DELETE",
        "/admins/([^/]+)",
        Permission.ADMINS_WRITE,
        204,
        lambda a, b, q, i: a.admins.remove(_last_owner(a, i, True)),
    ),
    ("GET", "/audit", Permission.AUDIT_READ, 200, lambda a, b, q: a.read_audit(q)),
    (
        "GET",
        "/audit/verify",
        Permission.AUDIT_READ,
        200,
        lambda a, b, q: {"records": len(a.audit), "fault": a.audit_fault},
    ),
]


def answer(
    api: FakeApi, method: str, path: str, body: Any, given: dict[str, str], asked: Asked
) -> tuple[int, Answered]:
    """The status and the body. Raises Refusal."""
    for known, pattern, permission, status, act in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and known == method:
            asked.allowed(api, method, permission)
            found = act(api, body, given, *match.groups())
            return status, None if status == 204 else found
    raise Refusal(404, "not_found", "There is nothing at this path.")
