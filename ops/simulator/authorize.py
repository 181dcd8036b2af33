"""The issuer's browser login: ``/oauth/authorize`` with its consent page, and the codes that both logins end in.

A person picks the account and approves; the browser is sent to the redirect address with a code and the state. A code
works once, within ten minutes, with the verifier of its challenge (PKCE, S256) and the redirect address that it was
made for. A request that is not well formed is answered with 400 on the page and never redirected.
"""

from __future__ import annotations

import hashlib
import hmac
import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ops.simulator.access import record
from ops.simulator.accounts import b64url
from ops.simulator.state import IssuedCode, Simulator

CODE_LIFETIME_S: Final = 600.0
CALLBACKS: Final = frozenset({"http://127.0.0.1:1455/auth/callback", "http://localhost:1455/auth/callback"})
_PASSED_ON: Final = ("client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method", "response_type")
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Simulated sign-in</title></head>
<body><h1>Simulated sign-in</h1><p>An application asks for access to your account.</p>
<form method="post" action="/oauth/authorize">{hidden}
<label>Account <select name="account_id"><option value="">a new account</option>{options}</select></label>
<button name="decision" value="approve">Approve</button>
<button name="decision" value="deny">Deny</button></form></body></html>"""


class BadAuthorize(ValueError):
    """The request to authorize is not one that the issuer takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A well formed request to authorize."""

    redirect_uri: str
    state: str
    challenge: str


def asked(simulator: Simulator, members: Mapping[str, str]) -> Asked:
    """Raises BadAuthorize."""
    if members.get("response_type") != "code" or members.get("client_id") != simulator.config.client_id:
        raise BadAuthorize("unknown client or response type")
    if members.get("redirect_uri") not in CALLBACKS:
        raise BadAuthorize("unregistered redirect_uri")
    challenge = members.get("code_challenge", "")
    if members.get("code_challenge_method") != "S256" or len(challenge) != 43 or not members.get("state"):
        raise BadAuthorize("state and an S256 code_challenge are required")
    return Asked(members["redirect_uri"], members["state"], challenge)


def issue_code(simulator: Simulator, account_id: str, challenge: str, redirect_uri: str) -> str:
    """A fresh code of the account. Raises KeyError for an unknown account."""
    code = simulator.new_id("ac_")
    expires_at_s = simulator.clock.now_s() + CODE_LIFETIME_S
    simulator.codes[code] = IssuedCode(simulator.accounts[account_id].id, challenge, redirect_uri, expires_at_s)
    return code


def redeem(simulator: Simulator, code: str, verifier: str, redirect_uri: str) -> str | None:
    """The account of the code, which is spent by this; None when verifier, address or time do not fit."""
    issued = simulator.codes.pop(code, None)
    if issued is None or simulator.clock.now_s() >= issued.expires_at_s:
        return None
    challenge = b64url(hashlib.sha256(verifier.encode()).digest())
    fits = hmac.compare_digest(challenge, issued.challenge) and redirect_uri == issued.redirect_uri
    return issued.account_id if fits else None


def decide(simulator: Simulator, members: Mapping[str, str], account_id: str | None, *, approve: bool) -> str:
    """Where the browser is sent by the decision. Raises BadAuthorize, KeyError for an unknown account."""
    wanted = asked(simulator, members)
    if not approve:
        answer = {"error": "access_denied", "error_description": "The user said no", "state": wanted.state}
    else:
        account_id = account_id or str(simulator.new_account()["tokens"]["account_id"])
        code = issue_code(simulator, account_id, wanted.challenge, wanted.redirect_uri)
        answer = {"code": code, "scope": "openid profile email offline_access", "state": wanted.state}
    simulator.count("authorizations")
    return f"{wanted.redirect_uri}?{urlencode(answer)}"


def decide_by_url(simulator: Simulator, url: str, account_id: str | None, *, approve: bool) -> str:
    """As ``decide``, for the address that a browser would have opened."""
    return decide(simulator, dict(parse_qsl(urlsplit(url).query)), account_id, approve=approve)


class AuthorizeEndpoint:
    """The page, and on POST the decision."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def page(self, request: Request) -> Response:
        simulator = self._simulator
        body = await request.body()
        record(simulator, request.scope, {k.lower(): v for k, v in request.headers.items()}, body)
        posted = request.method == "POST"
        members = dict(parse_qsl(body.decode("utf-8", "replace"))) if posted else dict(request.query_params)
        try:
            asked(simulator, members)
            if posted:
                account_id = members.get("account_id") or None
                approve = members.get("decision", "approve") == "approve"
                return RedirectResponse(decide(simulator, members, account_id, approve=approve), 303)
        except (BadAuthorize, KeyError) as error:
            return HTMLResponse(f"<!doctype html><title>Refused</title><p>{html.escape(str(error))}</p>", 400)
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(members[name])}">'
            for name in _PASSED_ON
            if name in members
        )
        return HTMLResponse(_PAGE.format(hidden=hidden, options=account_options(simulator)))


def account_options(simulator: Simulator) -> str:
    """The accounts as ``<option>`` elements."""
    return "".join(
        f'<option value="{html.escape(a.id)}">{html.escape(a.email)}</option>' for a in simulator.accounts.values()
    )
