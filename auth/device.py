"""How is a login begun on one machine approved on another: the issuer's device code.

Two calls. ``begin`` asks for a code that a person enters at the issuer; ``poll`` asks whether he has. What the poll's
answer means:

    GRANTED   approved: the authorization code and its verifier, handed out once
    PENDING   403 or 404, whatever the body; or 400 with RFC 8628's ``authorization_pending``
    LATER     429, 5xx, a redirect, ``slow_down``, or no answer: nothing is decided, ask again after a longer while
    REFUSED   every other 4xx, or a grant that cannot be read: this code will never work

Rules that hold:

* ``interval`` may be a number or a string, and is kept between 1 s and 60 s; a code lives at most 15 minutes;
* no redirect is followed; an answer is read up to 64 KiB; one deadline covers a call;
* what the issuer says is never printed, but for a short word of its own (``error.code``).

Wire format: as the Codex CLI 0.169 speaks; words of RFC 8628 section 3.5 where the issuer uses them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

import httpx

from auth.logins import IssuerTrouble
from auth.oauth import error_code, json_object, read_bounded, retry_after_s, usable_token
from store.records import Secret

LIFETIME_S: Final = 900.0
DEFAULT_INTERVAL_S: Final = 5.0
MIN_INTERVAL_S: Final = 1.0
MAX_INTERVAL_S: Final = 60.0
TIMEOUT_S: Final = 15.0
_USER_CODE: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_WORD_PENDING: Final = "authorization_pending"
_WORD_SLOWER: Final = "slow_down"


class PollVerdict(StrEnum):
    GRANTED = "granted"
    PENDING = "pending"
    LATER = "later"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A code that waits to be entered at ``verification_url``. ``expires_at_s`` is Unix seconds."""

    device_auth_id: Secret
    user_code: str
    verification_url: str
    interval_s: float
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class Grant:
    """What is exchanged for tokens, once."""

    code: Secret
    code_verifier: Secret
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """``grant`` with GRANTED only; ``code`` is a short word for people."""

    verdict: PollVerdict
    code: str = ""
    retry_after_s: float | None = None
    grant: Grant | None = None


class DeviceCalls(Protocol):
    """Whoever can begin a device login and ask for it."""

    async def begin(self, now_s: float) -> DeviceCode: ...

    async def poll(self, device_auth_id: Secret, user_code: str) -> PollAnswer: ...


class DeviceClient:
    """The issuer's device endpoints. ``http`` should be a client of its own, apart from model traffic."""

    def __init__(self, http: httpx.AsyncClient, issuer: str, client_id: str, timeout_s: float = TIMEOUT_S) -> None:
        self._http = http
        self._issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._timeout_s = timeout_s

    async def begin(self, now_s: float) -> DeviceCode:
        """Asks for a code. Raises IssuerTrouble; a code that was made then expires unused. Cancel is safe."""
        answered = await self._post("usercode", {"client_id": self._client_id})
        if answered is None:
            raise IssuerTrouble("issuer_unreachable", "the issuer of the accounts cannot be reached; try again")
        status, _, answer = answered
        if status == 404:
            raise IssuerTrouble(
                "device_login_disabled",
                "the issuer offers no device code; bring the account in by its callback address or its auth.json",
            )
        if status != 200:
            word = error_code(answer) or f"http_{status}"
            raise IssuerTrouble("issuer_refused", f"the issuer gave no device code ({word}); try again later")
        return self._code(answer or {}, now_s)

    async def poll(self, device_auth_id: Secret, user_code: str) -> PollAnswer:
        """Asks once. Never raises for what the issuer or the network does. Cancelled while the answer is under way,
        a grant is lost: run it where nobody cancels."""
        answered = await self._post("token", {"device_auth_id": device_auth_id.reveal(), "user_code": user_code})
        if answered is None:
            return PollAnswer(PollVerdict.LATER, "issuer_unreachable")
        status, headers, answer = answered
        return judge(status, headers, answer, f"{self._issuer}/deviceauth/callback")

    async def _post(
        self, path: str, body: dict[str, str]
    ) -> tuple[int, Mapping[str, str], Mapping[str, Any] | None] | None:
        """Status, headers and JSON object of the answer; None when there was none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                request = self._http.build_request(
                    "POST",
                    f"{self._issuer}/api/accounts/deviceauth/{path}",
                    json=body,
                    headers={"accept": "application/json", "accept-encoding": "identity"},
                    timeout=self._timeout_s,
                )
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    content = await read_bounded(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.HTTPError, httpx.StreamError):
            return None
        return response.status_code, response.headers, json_object(content)

    def _code(self, answer: Mapping[str, Any], now_s: float) -> DeviceCode:
        device_auth_id = usable_token(answer, "device_auth_id")
        user_code = answer.get("user_code") or answer.get("usercode")
        if device_auth_id is None or not isinstance(user_code, str) or len(user_code) > 32:
            raise _unreadable()
        if not _USER_CODE.fullmatch(user_code):
            raise _unreadable()
        return DeviceCode(
            device_auth_id,
            user_code,
            f"{self._issuer}/codex/device",
            interval_s(answer.get("interval")),
            min(now_s + LIFETIME_S, _moment(answer.get("expires_at"), now_s)),
        )


def judge(status: int, headers: Mapping[str, str], answer: Mapping[str, Any] | None, redirect_uri: str) -> PollAnswer:
    """What a whole answer to a poll means; see the module's table. Pure."""
    if status == 200:
        code, verifier = usable_token(answer, "authorization_code"), usable_token(answer, "code_verifier")
        if code is None or verifier is None:
            return PollAnswer(PollVerdict.REFUSED, "answer_unreadable")
        return PollAnswer(PollVerdict.GRANTED, grant=Grant(code, verifier, redirect_uri))
    word = error_code(answer)
    if status in {403, 404} or (status == 400 and word == _WORD_PENDING):
        return PollAnswer(PollVerdict.PENDING)
    if status == 429 or not 400 <= status < 500 or (status == 400 and word == _WORD_SLOWER):
        return PollAnswer(PollVerdict.LATER, word or f"http_{status}", retry_after_s(headers))
    return PollAnswer(PollVerdict.REFUSED, word or f"http_{status}")


def interval_s(value: object) -> float:
    """Seconds between polls, out of a number or its text; 5 where it cannot be read. Pure."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None or not seconds > 0:
        return DEFAULT_INTERVAL_S
    return min(max(seconds, MIN_INTERVAL_S), MAX_INTERVAL_S)


def _moment(value: object, now_s: float) -> float:
    """``expires_at`` as RFC 3339 text or Unix seconds; a time that has passed already is another clock's."""
    found: float | None = None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = float(value)
    except (ValueError, OverflowError):
        found = None
    return found if found is not None and found > now_s else now_s + LIFETIME_S


def _unreadable() -> IssuerTrouble:
    return IssuerTrouble("answer_unreadable", "the issuer's device code cannot be read; try again later")
