"""The admin API in memory, as far as the console calls it: same routes, same shapes, same refusals, no gateway behind.

What a browser test needs beyond that: accounts with any text in them, logins that end when the test says so, and a
list of the calls that were made. Roles are held to auth.roles, so that a page that offers too much gets its 403.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from auth.roles import PERMISSIONS, Permission, Role
from gateway.console.app import ConsoleApp, Receive, Scope, Send
from tests.console.fake_records import account, audit_records, key, login, person, tenant

Record = dict[str, Any]
COOKIE = "codex-relay-console"
CSRF = "csrf-of-the-session"
CODE = "123456"
PASSWORD = "correct horse battery"
TOKEN = "one-time-token"


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str, param: str | None = None, after_s: int = 0) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.after_s = status, code, message, param, after_s


@dataclass
class FakeApi:
    """``calls`` are (method, path, body); ``fail_next`` is raised once, by the next call of "/path" or "POST /path"."""

    role: Role = Role.OWNER
    oidc: bool = False
    bootstrap_needed: bool = False
    sandbox: bool = False
    totp: bool = False
    signed_in: bool = False
    accounts: list[Record] = field(default_factory=list)
    logins: list[Record] = field(default_factory=list)
    tenants: list[Record] = field(default_factory=lambda: [tenant("ten_1", "Research", ["default", "spare"])])
    keys: list[Record] = field(default_factory=lambda: [key("key_1", "ten_1", "laptop of Ada")])
    admins: list[Record] = field(default_factory=lambda: [person("adm_1", "ada", "owner")])
    audit: list[Record] = field(default_factory=audit_records)
    audit_fault: str | None = None
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    fail_next: dict[str, Refusal] = field(default_factory=dict)
    import_outcomes: list[Record] = field(default_factory=list)
    doors: dict[str, Any] = field(default_factory=dict)
    """What else is served: beginnings of paths, and the ASGI applications behind them."""

    def called(self, method: str, path: str) -> list[Any]:
        return [body for one, where, body in self.calls if (one, where) == (method, path)]

    # routes: (method, pattern, permission or None, what answers)

    def session(self) -> Record:
        now = time.time()
        return {
            "principal": {"id": "adm_1", "name": "ada", "role": self.role.value, "tenant_id": None},
            "csrf_token": CSRF, "expires_at_s": now + 43_200, "idle_expires_at_s": now + 1800,
            "totp_enabled": self.totp, "features": {"sandbox": self.sandbox},
        }  # fmt: skip

    def sign_in(self, body: Record) -> Record:
        if body["password"] == "again and again":
            raise Refusal(429, "login_throttled", "Too many failed sign-ins.", after_s=60)
        if body["name"] != "ada" or body["password"] != PASSWORD:
            raise Refusal(401, "wrong_credentials", "The name or the password is wrong.")
        if self.totp and "code" not in body:
            raise Refusal(401, "code_required", "A one-time code is needed.")
        if self.totp and body["code"] != CODE:
            raise Refusal(401, "wrong_credentials", "The code is wrong.", "code")
        self.signed_in = True
        return self.session()

    def bootstrap(self, body: Record) -> Record:
        if body["token"] != TOKEN:
            raise Refusal(401, "link_invalid", "The link was used or has expired.")
        self.signed_in, self.bootstrap_needed = True, False
        return self.session()

    def leave(self) -> None:
        self.signed_in = False

    def overview(self) -> Record:
        states: dict[str, int] = {}
        for one in self.accounts:
            states[one["state"]] = states.get(one["state"], 0) + 1
        return {
            "accounts": {"total": len(self.accounts), "by_state": states}, "requests_1h": 1284, "tokens_1h": 5_120_334,
            "pools": self._pools(), "version": "0.1.0", "workers": 2,
        }  # fmt: skip

    def _pools(self) -> list[Record]:
        names = sorted({one["pool"] for one in self.accounts})
        dry = time.time() + 5400
        found = []
        for index, name in enumerate(names):
            mine = [one for one in self.accounts if one["pool"] == name]
            usable = sum(one["state"] == "ready" for one in mine)
            found.append({"name": name, "accounts": len(mine), "usable": usable, "dry_at_s": None if index else dry})
        return found

    def forecast(self) -> Record:
        return {
            "pools": [
                {"name": one["name"], "dry_at_s": one["dry_at_s"], "confidence": "high", "usable": one["usable"],
                 "total": one["accounts"]}
                for one in self._pools()
            ]
        }  # fmt: skip

    def usage(self, by: str) -> Record:
        names = [one["label"] for one in self.accounts] if by == "account" else ["Research", "Support"]
        return {
            "items": [
                {"name": name, "requests": 900 - 70 * n, "input_tokens": 2_400_000 // (n + 1),
                 "output_tokens": 310_000 // (n + 1), "errors": n % 3}
                for n, name in enumerate(names)
            ]
        }  # fmt: skip

    def change(self, found: Record, body: Record) -> Record:
        if body.pop("version", found["version"]) != found["version"]:
            raise Refusal(409, "conflict", "The record has changed.")
        found.update(body, version=found["version"] + 1)
        if "enabled" in body and "state" in found:
            found["state"] = "ready" if body["enabled"] else "disabled"
            found["reasons"] = [] if body["enabled"] else ["disabled by an administrator"]
        return found

    def drop(self, items: list[Record], found: Record, body: Record | None, name: str) -> Record:
        if body is not None and body["confirm"] != found[name]:
            raise Refusal(400, "invalid_request", "confirm must repeat the name.", "confirm")
        items.remove(found)
        return {"id": found["id"], "revoked": True}

    def take_in(self, body: Record) -> Record:
        items = []
        for number, document in enumerate(body["documents"]):
            made = {"source": document["name"], "outcome": "imported", "code": "ok", "message": "It serves.",
                    "account_id": f"acc_in_{number}", "label": f"in-{number}", "warnings": []}  # fmt: skip
            try:
                json.loads(document["content"])["tokens"]
            except (ValueError, KeyError, TypeError):
                made |= {"outcome": "refused", "code": "not_json", "message": "this is not JSON", "account_id": None}
            else:
                if not body["dry_run"]:
                    self.accounts.append(account(made["account_id"], made["label"], pool=body.get("pool", "default")))
            items.append(made)
        return {"items": self.import_outcomes or items}

    def begin_login(self, body: Record) -> Record:
        made = login(f"login_{len(self.logins) + 1}", **body)
        self.logins.append(made)
        return made

    def end_login(self, found: Record, state: str, **more: Any) -> Record:
        """Also what a test calls to let a login end."""
        found.update(state=state, version=found["version"] + 1, **more)
        if state == "done":
            found.update(account_id="acc_new", account_label=found["label"] or "new@example.com")
            self.accounts.append(account("acc_new", found["account_label"], pool=found["pool"]))
        return found

    def callback(self, found: Record, url: str) -> Record:
        if "code=" not in url:
            raise Refusal(400, "invalid_request", "the address holds no code; copy the whole address", "url")
        return self.end_login(found, "done")

    def create(self, items: list[Record], made: Record) -> Record:
        items.append(made)
        return made

    def read_audit(self, given: dict[str, str]) -> Record:
        after, limit = int(given.get("after_seq", 0)), int(given.get("limit", 100))
        fits = [one for one in self.audit if one["seq"] > after and given.get("action", "") in one["action"]]
        return {"items": fits[:limit], "next_after_seq": fits[limit - 1]["seq"] if len(fits) > limit else None}


def console_with(api: FakeApi) -> Callable[[Scope, Receive, Send], Any]:
    """The console and the fake API as one application."""
    from tests.console.fake_routes import answer

    console = ConsoleApp()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        other = next((door for begin, door in api.doors.items() if scope["path"].startswith(begin)), None)
        if other is not None:
            await other(scope, receive, send)
            return
        if not scope["path"].startswith("/admin/api"):
            await console(scope, receive, send)
            return
        content = b""
        more = True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        status, body, extra = _answered(api, scope, content, answer)
        raw = b"" if body is None else json.dumps(body).encode()
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": raw})

    return app


def _answered(
    api: FakeApi, scope: Scope, content: bytes, answer: Callable[..., tuple[int, Any]]
) -> tuple[int, Any, list[tuple[bytes, bytes]]]:
    path, method = scope["path"].removeprefix("/admin/api"), scope["method"]
    body = json.loads(content) if content else None
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    cookies = dict(re.findall(r"([\w-]+)=([^;]*)", headers.get(b"cookie", "")))
    given = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    api.calls.append((method, path, copy.deepcopy(body)))
    try:
        if (failure := api.fail_next.pop(f"{method} {path}", None) or api.fail_next.pop(path, None)) is not None:
            raise failure
        status, found = answer(api, method, path, body, given, Asked(cookies.get(COOKIE), headers))
    except Refusal as refusal:
        error = {"message": refusal.message, "type": "invalid_request_error", "code": refusal.code,
                 "param": refusal.param}  # fmt: skip
        return (
            refusal.status,
            {"error": error},
            [(b"retry-after", str(refusal.after_s).encode())] * bool(refusal.after_s),
        )
    cookie = [(b"set-cookie", f"{COOKIE}=yes; HttpOnly; SameSite=Lax; Path=/".encode())]
    return status, found, cookie if path in ("/session", "/bootstrap") and method == "POST" else []


@dataclass
class Asked:
    cookie: str | None
    headers: dict[bytes, str]

    def allowed(self, api: FakeApi, method: str, permission: Permission | None) -> None:
        if permission is None:
            return
        if not api.signed_in or self.cookie != "yes":
            raise Refusal(401, "not_signed_in", "Nobody is signed in.")
        if method != "GET" and self.headers.get(b"x-csrf-token") != CSRF:
            raise Refusal(403, "csrf_failed", "The request lacks the token of the session.")
        if permission not in PERMISSIONS[api.role]:
            raise Refusal(403, "forbidden", f"The role lacks {permission.value}.")
