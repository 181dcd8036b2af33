"""How is a refresh token exchanged, and what does the issuer's answer mean?

One request, one verdict. A refresh token works once, so the verdict says first of all whether the token may have
been used up:

    ROTATED    200 with tokens: use the new ones, the old refresh token is gone
    PERMANENT  the issuer refused the token for good: only a new login helps
    UNSENT     no connection came about: the token was not shown to anybody
    TRANSIENT  the issuer answered and did not rotate (5xx, 429, a Cloudflare page, a redirect)
    UNKNOWN    it was sent and no readable answer came: the token may be used up

Rules that hold:

* only UNSENT is retried here (tenacity, inside the deadline); whatever was sent is sent once;
* no redirect is followed; the answer is read up to 64 KiB; one deadline covers all of it;
* a connection is used for one exchange only: a stale pooled one would turn a harmless close into UNKNOWN;
* no token and no body is ever logged or put into an error.

Wire format and refusal codes: as the Codex CLI 0.169 speaks; RFC 6749 section 5.2 and 6.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

import httpx
from tenacity import (
    AsyncRetrying,
    RetryError,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from store.records import Secret

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_RETRY_AFTER_S: Final = 3600.0
CONNECT_ATTEMPTS: Final = 3
CONNECT_TIMEOUT_S: Final = 5.0
"""Well below the deadline of the exchange, so that an address that swallows packets is UNSENT and not UNKNOWN."""
PERMANENT_CODES: Final = frozenset(
    {
        "refresh_token_expired",
        "refresh_token_reused",
        "refresh_token_invalidated",
        "invalid_refresh_token",
        "token_revoked",
        "invalid_grant",
    }
)


class RefreshReason(StrEnum):
    """The ``refresh_reason`` of the request, as the CLI names them."""

    PROACTIVE = "proactive_expiry"
    SCHEDULED = "scheduled"
    UNAUTHORIZED = "unauthorized_recovery"
    FORCED = "forced"


class Verdict(StrEnum):
    ROTATED = "rotated"
    PERMANENT = "permanent"
    UNSENT = "unsent"
    TRANSIENT = "transient"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What came of one exchange. ``code`` is a short word for people; tokens only with ROTATED, each optional."""

    verdict: Verdict
    code: str = ""
    status: int | None = None
    retry_after_s: float | None = None
    access_token: Secret | None = field(default=None)
    refresh_token: Secret | None = field(default=None)
    id_token: Secret | None = field(default=None)


class TokenExchange(Protocol):
    """Whoever can exchange a refresh token. Never raises for what the issuer or the network does."""

    async def refresh(self, refresh_token: Secret, reason: RefreshReason) -> TokenAnswer: ...


class OAuthClient:
    """The issuer's token endpoint. ``http`` should be a client of its own, apart from model traffic."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        issuer: str,
        client_id: str,
        timeout_s: float,
        connect_retry_s: float = 0.2,
    ) -> None:
        self._http = http
        self._url = issuer.rstrip("/") + "/oauth/token"
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._connect_retry_s = connect_retry_s

    async def refresh(self, refresh_token: Secret, reason: RefreshReason) -> TokenAnswer:
        """Exchanges the token once and says what came of it; see the module's table.

        Cancelling leaves the outcome unknown to the caller: run it where nobody cancels.
        """
        return await self._exchanged(lambda: self._send(refresh_token, reason))

    async def exchange_code(self, code: Secret, code_verifier: Secret, redirect_uri: str) -> TokenAnswer:
        """Exchanges an authorization code once, by the same table: PERMANENT means that this code never works.

        Cancelling leaves the outcome unknown to the caller: run it where nobody cancels.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": redirect_uri,
            "client_id": self._client_id,
            "code_verifier": code_verifier.reveal(),
        }
        return await self._exchanged(lambda: self._posted(self._url, data=form))

    async def revoke(self, refresh_token: Secret) -> bool:
        """Asks the issuer to end a login (RFC 7009): whether it said yes. Best effort, asked once, never raises for
        what the issuer or the network does. Cancelled, the login may have been ended."""
        body = {
            "token": refresh_token.reveal(),
            "token_type_hint": "refresh_token",
            "client_id": self._client_id,
        }
        url = self._url.removesuffix("/token") + "/revoke"
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._posted(url, json=body)
        except (TimeoutError, httpx.HTTPError, httpx.StreamError):
            return False
        return answer.status == 200

    async def _exchanged(self, send: Callable[[], Awaitable[TokenAnswer]]) -> TokenAnswer:
        """``send`` once, or again while it has not gone out; what came of it."""
        on_the_way = False

        async def attempt() -> TokenAnswer:
            nonlocal on_the_way
            on_the_way = True
            try:
                return await send()
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol):
                on_the_way = False
                raise

        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._retrying()(attempt)
        except RetryError:
            return TokenAnswer(Verdict.UNSENT, "issuer_unreachable")
        except TimeoutError:
            return TokenAnswer(Verdict.UNKNOWN if on_the_way else Verdict.UNSENT, "issuer_timeout")
        except httpx.UnsupportedProtocol:
            return TokenAnswer(Verdict.UNSENT, "issuer_url_unusable")
        except (httpx.HTTPError, httpx.StreamError):
            return TokenAnswer(Verdict.UNKNOWN, "answer_lost")

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type((httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)),
            stop=stop_after_attempt(CONNECT_ATTEMPTS),
            wait=wait_exponential(multiplier=self._connect_retry_s, max=2.0) + wait_random(0, self._connect_retry_s),
        )

    async def _send(self, refresh_token: Secret, reason: RefreshReason) -> TokenAnswer:
        return await self._posted(
            self._url,
            json={
                "client_id": self._client_id,
                "grant_type": "refresh_token",
                "refresh_reason": reason.value,
                "refresh_token": refresh_token.reveal(),
            },
        )

    async def _posted(self, url: str, **content: Any) -> TokenAnswer:
        """One POST of ``json`` or ``data``, whole; raises what httpx raises."""
        request = self._http.build_request(
            "POST",
            url,
            **content,
            headers={"accept": "application/json", "accept-encoding": "identity", "connection": "close"},
            timeout=httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s / 2)),
        )
        response = await self._http.send(request, stream=True, follow_redirects=False)
        try:
            body = await read_bounded(response)
        finally:
            await response.aclose()
        return classify(response.status_code, response.headers, body)


async def read_bounded(response: httpx.Response) -> bytes | None:
    """The body, or None when it is longer than we read or encoded though we asked for plain."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return None
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def classify(status: int, headers: Mapping[str, str], body: bytes | None) -> TokenAnswer:
    """The verdict on an answer whose head arrived whole. ``body`` None: it could not be read. Pure."""
    answer = json_object(body)
    if status == 200:
        return _rotated(answer)
    code = error_code(answer)
    refused = status == 401 or (status in {400, 403} and code in PERMANENT_CODES)
    if refused:
        return TokenAnswer(Verdict.PERMANENT, code or "could_not_be_refreshed", status)
    return TokenAnswer(Verdict.TRANSIENT, code or f"http_{status}", status, retry_after_s(headers))


def _rotated(answer: Mapping[str, Any] | None) -> TokenAnswer:
    access, refresh = usable_token(answer, "access_token"), usable_token(answer, "refresh_token")
    if access is None and refresh is None:
        return TokenAnswer(Verdict.UNKNOWN, "answer_unreadable", 200)
    return TokenAnswer(
        Verdict.ROTATED,
        status=200,
        access_token=access,
        refresh_token=refresh,
        id_token=usable_token(answer, "id_token"),
    )


def usable_token(answer: Mapping[str, Any] | None, name: str) -> Secret | None:
    value = answer.get(name) if answer else None
    usable = isinstance(value, str) and value and value.isascii() and value.isprintable() and " " not in value
    return Secret(value) if isinstance(value, str) and usable else None


def json_object(body: bytes | None) -> Mapping[str, Any] | None:
    try:
        value = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def error_code(answer: Mapping[str, Any] | None) -> str:
    """``error.code``, else ``error`` as a string, else ``code``: where the CLI looks. Short words only."""
    if answer is None:
        return ""
    error = answer.get("error")
    found = error.get("code") if isinstance(error, dict) else error or answer.get("code")
    plain = isinstance(found, str) and len(found) <= 64 and found.replace("_", "").isalnum() and found.isascii()
    return found if isinstance(found, str) and plain else ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return min(float(value), MAX_RETRY_AFTER_S) if value.isascii() and value.isdigit() and len(value) < 10 else None
