"""What does the provider of single sign-on say: where its doors are, which keys it signs with, what a code is worth?

Rules that hold:

* no redirect is followed; an answer is read up to 256 KiB, as it is (no encodings), within one deadline;
* the discovery document must name the issuer exactly; its addresses are https (plain http only for a provider on
  loopback, which is how a test or a first look has it);
* discovery and keys are kept for an hour. A key id that is not known fetches the keys once more, once a minute at
  most, so that neither a rotation nor a flood of forged tokens hurts. When they cannot be fetched nobody is let in;
* no code, token or secret stands in an error; a refusal by the provider is quoted by its short word only.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from auth.errors import OidcRefused, OidcUnavailable
from auth.oidc_token import SigningKey, key_of, signing_keys
from auth.provider_url import usable_url
from ops.clock import Clock
from store.records import Secret

KEPT_S: Final = 3600.0
REFETCH_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 256 * 1024
TIMEOUT_S: Final = 10.0
_DISCOVERY: Final = "/.well-known/openid-configuration"
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_BASIC: Final = "client_secret_basic"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What discovery says. ``secret_in_body``: the client's secret is not taken as Basic authentication;
    ``names_itself``: the answer to the browser carries ``iss`` (RFC 9207)."""

    authorization: str
    token: str
    jwks: str
    userinfo: str | None
    secret_in_body: bool
    names_itself: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a code was exchanged for."""

    id_token: Secret
    access_token: Secret | None


class Provider:
    """One issuer. ``http`` follows no redirects and should be a client of its own."""

    def __init__(
        self, http: httpx.AsyncClient, issuer: str, client_id: str, client_secret: Secret | None, clock: Clock
    ) -> None:
        self._http = http
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock
        self._lock = asyncio.Lock()
        self._endpoints: tuple[float, Endpoints] | None = None
        self._keys: tuple[float, tuple[SigningKey, ...]] | None = None

    async def endpoints(self) -> Endpoints:
        """From discovery, or from memory. Raises OidcUnavailable."""
        async with self._lock:
            if self._endpoints is None or self._older(self._endpoints[0], KEPT_S):
                url = self.issuer.rstrip("/") + _DISCOVERY
                status, answer = await self._ask("discovery", httpx.Request("GET", url))
                if status != 200:
                    raise _away("discovery", f"the answer's status is {status}")
                self._endpoints = (self._clock.monotonic_s(), self._understood(answer))
            return self._endpoints[1]

    async def key_for(self, token: Secret) -> SigningKey:
        """The key that the token names. Raises OidcRefused for none, OidcUnavailable when the keys cannot be had."""
        url = (await self.endpoints()).jwks
        async with self._lock:
            if self._keys is None or self._older(self._keys[0], KEPT_S):
                await self._fetch_keys(url)
            found = self._named(token)
            if found is None and self._keys is not None and self._older(self._keys[0], REFETCH_S):
                await self._fetch_keys(url)
                found = self._named(token)
        if found is None:
            raise OidcRefused("token_refused", "the provider has no usable key that the ID token names; sign in again")
        return found

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """Sends the code to the token endpoint, once. Raises OidcRefused, OidcUnavailable."""
        endpoints = await self.endpoints()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        if self._client_secret is None:
            form["client_id"] = self._client_id
        elif endpoints.secret_in_body:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret.reveal()}
        else:
            basic = httpx.BasicAuth(quote(self._client_id, safe=""), quote(self._client_secret.reveal(), safe=""))
            signed = next(basic.auth_flow(httpx.Request("POST", endpoints.token)))
            headers["authorization"] = signed.headers["authorization"]
        status, answer = await self._ask("token", httpx.Request("POST", endpoints.token, data=form, headers=headers))
        if status != 200:
            raise self._denied(status, answer)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str) or not id_token:
            raise OidcRefused("no_id_token", "the provider sent no ID token; is openid among the setting oidc.scopes?")
        return Tokens(Secret(id_token), Secret(access_token) if isinstance(access_token, str) else None)

    async def userinfo(self, access_token: Secret, sub: str) -> Mapping[str, Any]:
        """More claims of the same person; none when the provider has no such door. Raises OidcRefused when they are
        another person's, OidcUnavailable."""
        url = (await self.endpoints()).userinfo
        if url is None:
            return {}
        headers = {"authorization": f"Bearer {access_token.reveal()}"}
        status, answer = await self._ask("userinfo", httpx.Request("GET", url, headers=headers))
        if status != 200:
            raise _away("userinfo", f"the answer's status is {status}")
        if answer.get("sub") != sub:
            raise OidcRefused("token_refused", "the userinfo answer is about another person; sign in again")
        return answer

    async def _fetch_keys(self, url: str) -> None:
        status, answer = await self._ask("keys", httpx.Request("GET", url))
        if status != 200:
            raise _away("keys", f"the answer's status is {status}")
        self._keys = (self._clock.monotonic_s(), signing_keys(answer))

    def _named(self, token: Secret) -> SigningKey | None:
        return None if self._keys is None else key_of(token, self._keys[1])

    def _older(self, since_s: float, than_s: float) -> bool:
        return self._clock.monotonic_s() - since_s >= than_s

    def _understood(self, answer: Mapping[str, Any]) -> Endpoints:
        if answer.get("issuer") != self.issuer:
            raise _away("discovery", "it names another issuer; compare the setting oidc.issuer, to the last slash")
        challenges = answer.get("code_challenge_methods_supported")
        if isinstance(challenges, list) and "S256" not in challenges:
            raise _away("discovery", "the provider does not take PKCE with S256, which is required")
        methods = answer.get("token_endpoint_auth_methods_supported", [_BASIC])
        return Endpoints(
            authorization=self._address(answer, "authorization_endpoint"),
            token=self._address(answer, "token_endpoint"),
            jwks=self._address(answer, "jwks_uri"),
            userinfo=self._address(answer, "userinfo_endpoint") if answer.get("userinfo_endpoint") else None,
            secret_in_body=isinstance(methods, list) and _BASIC not in methods and "client_secret_post" in methods,
            names_itself=answer.get("authorization_response_iss_parameter_supported") is True,
        )

    def _address(self, answer: Mapping[str, Any], name: str) -> str:
        value = answer.get(name)
        if not isinstance(value, str) or not usable_url(value, plain=self.issuer.startswith("http:")):
            raise _away("discovery", f"{name} is missing or not an https URL")
        return value

    def _denied(self, status: int, answer: Mapping[str, Any]) -> OidcRefused | OidcUnavailable:
        word = short_word(answer.get("error"))
        if status == 401 or word in {"invalid_client", "unauthorized_client"}:
            return _away("token", "the provider does not accept us; compare oidc.client_id and oidc.client_secret")
        if 400 <= status < 500 and status != 429:
            return OidcRefused("code_refused", f"the provider refused the sign-in ({word}); begin again")
        return _away("token", f"the answer's status is {status}")

    async def _ask(self, what: str, request: httpx.Request) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object of an answer; an empty object for an error that holds none."""
        request.headers.update({"accept": "application/json", "accept-encoding": "identity"})
        request.extensions["timeout"] = httpx.Timeout(TIMEOUT_S).as_dict()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._http.send(request, stream=True, follow_redirects=False, auth=None)
                try:
                    body = await _bounded(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            raise _away(
                what, "no answer came; is it reachable from here, and its certificate known (oidc.ca_file)?"
            ) from None
        answer = _json_object(body)
        if answer is None and response.status_code == 200:
            raise _away(what, f"the answer is no JSON object of at most {MAX_ANSWER_BYTES} bytes")
        return response.status_code, answer or {}


def short_word(value: object) -> str:
    """An error word of the protocol as it may be shown; anything else is not quoted."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "no reason given"


async def _bounded(response: httpx.Response) -> bytes | None:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return None
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return bytes(body)


def _json_object(body: bytes | None) -> Mapping[str, Any] | None:
    try:
        value = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _away(what: str, why: str) -> OidcUnavailable:
    return OidcUnavailable("provider_unavailable", f"single sign-on, {what}: {why}")
