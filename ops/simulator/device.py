"""The issuer's device-code login: user code, poll, and the page where a person approves.

Pending is 403, whatever the body; an answer of 400 or 410 ends the login. ``interval`` is a JSON string, as the
Codex CLI demands. Approval makes an authorization code with its PKCE pair, which the poll hands out once.
"""

from __future__ import annotations

import hashlib
import html
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ops.simulator.access import record
from ops.simulator.accounts import b64url, rfc3339
from ops.simulator.authorize import account_options, issue_code
from ops.simulator.failures import error_body
from ops.simulator.state import DeviceLogin, Simulator
from ops.simulator.wham import to_response

REDIRECT_PATH = "/deviceauth/callback"
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Simulated device login</title></head>
<body><h1>Simulated device login</h1><p>{note}</p>
<form method="post" action="/codex/device"><label>Code <input name="user_code" value="{code}" required></label>
<label>Account <select name="account_id"><option value="">a new account</option>{options}</select></label>
<button name="decision" value="approve">Approve</button>
<button name="decision" value="deny">Deny</button></form></body></html>"""


class UnknownCode(KeyError):
    """No open login has this user code."""


def approve(simulator: Simulator, user_code: str, account_id: str | None = None) -> str:
    """Approve the login as the account, or as a new one; the account's id. Raises UnknownCode."""
    login = _by_user_code(simulator, user_code)
    if account_id is None:
        account_id = simulator.new_account()["tokens"]["account_id"]
    elif account_id not in simulator.accounts:
        raise UnknownCode(account_id)
    login.account_id = account_id
    return str(account_id)


def deny(simulator: Simulator, user_code: str) -> None:
    """The next poll fails for good. Raises UnknownCode."""
    _by_user_code(simulator, user_code).denied = True


def expire(simulator: Simulator, user_code: str) -> None:
    """The code is over as if its time had come. Raises UnknownCode."""
    _by_user_code(simulator, user_code).expires_at_s = simulator.clock.now_s()


def origin_of(request: Request) -> str:
    """The issuer as this client reached it."""
    return f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}"


def _by_user_code(simulator: Simulator, user_code: str) -> DeviceLogin:
    wanted = user_code.strip().upper()
    for login in simulator.device_logins.values():
        if login.user_code == wanted:
            return login
    raise UnknownCode(user_code)


async def _members(request: Request) -> dict[str, Any]:
    try:
        parsed = await request.json()
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


class DeviceEndpoints:
    """One coroutine per path, over one Simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def _record(self, request: Request, body: bytes) -> None:
        record(self._simulator, request.scope, {k.lower(): v for k, v in request.headers.items()}, body)

    async def user_code(self, request: Request) -> Response:
        simulator = self._simulator
        self._record(request, await request.body())
        if (await _members(request)).get("client_id") != simulator.config.client_id:
            return JSONResponse({"error": "invalid_client"}, 400)
        letters = "".join(simulator.random.choice(_LETTERS) for _ in range(9))
        expires_at_s = simulator.clock.now_s() + simulator.config.device_lifetime_s
        login = DeviceLogin(simulator.new_id("dauth_"), f"{letters[:4]}-{letters[4:]}", expires_at_s)
        simulator.device_logins[login.device_auth_id] = login
        simulator.count("device_logins")
        return JSONResponse(
            {
                "device_auth_id": login.device_auth_id,
                "user_code": login.user_code,
                "interval": str(simulator.config.device_interval_s),
                "expires_at": rfc3339(expires_at_s),
            }
        )

    async def poll(self, request: Request) -> Response:
        simulator = self._simulator
        self._record(request, await request.body())
        simulator.count("device_polls")
        if simulator.device_script:
            return to_response(simulator.device_script.popleft())
        members = await _members(request)
        login = simulator.device_logins.get(str(members.get("device_auth_id")))
        if login is None or login.user_code != members.get("user_code"):
            return JSONResponse(error_body("Unknown device code", "invalid_request_error", "invalid_grant"), 400)
        login.polls += 1
        if login.denied:
            return JSONResponse(error_body("The user said no", "invalid_request_error", "access_denied"), 400)
        if simulator.clock.now_s() >= login.expires_at_s:
            return JSONResponse(error_body("The code has expired", "invalid_request_error", "expired_token"), 410)
        if login.account_id is None:
            pending = error_body("Not approved yet", "invalid_request_error", "deviceauth_authorization_unknown")
            return JSONResponse(pending, 403)
        del simulator.device_logins[login.device_auth_id]
        verifier = b64url(simulator.random.randbytes(48))
        challenge = b64url(hashlib.sha256(verifier.encode()).digest())
        code = issue_code(simulator, login.account_id, challenge, f"{origin_of(request)}{REDIRECT_PATH}")
        return JSONResponse({"authorization_code": code, "code_challenge": challenge, "code_verifier": verifier})

    async def page(self, request: Request) -> Response:
        """The form, and on POST the approval."""
        simulator = self._simulator
        note, code = "Enter the code that your device shows.", request.query_params.get("user_code", "")
        if request.method == "POST":
            members = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
            code = members.get("user_code", "")
            try:
                if members.get("decision") == "deny":
                    deny(simulator, code)
                    note = "Denied. You can close this page."
                else:
                    account_id = approve(simulator, code, members.get("account_id") or None)
                    note = f"Approved as {account_id}. You can close this page."
            except UnknownCode:
                note = "No login waits for this code."
        options = account_options(simulator)
        return HTMLResponse(_PAGE.format(note=html.escape(note), code=html.escape(code), options=options))
