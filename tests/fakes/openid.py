"""An OpenID provider that can be told to lie: discovery, keys, tokens and userinfo behind an httpx transport."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.fakes.clock import FakeClock

ISSUER = "https://id.example"
CLIENT = "codex-relay"
Key = RSAKey | ECKey | OKPKey
Answer = Callable[[httpx.Request], httpx.Response]


def private_key(kind: str = "RSA", size: int | str = 2048, kid: str = "k1", **parameters: Any) -> Key:
    fields: Any = {"kid": kid, "use": "sig", **parameters}
    crv: Any = size
    if kind == "RSA":
        return RSAKey.generate_key(int(size), fields)
    return ECKey.generate_key(crv, fields) if kind == "EC" else OKPKey.generate_key(crv, fields)


RSA_KEY = private_key()
EC_KEY = private_key("EC", "P-256", "k2")
ED_KEY = private_key("OKP", "Ed25519", "k3")
STRANGER = private_key(kid="k1")


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sign(claims: dict[str, Any], key: Key = RSA_KEY, header: dict[str, Any] | None = None) -> str:
    """Signed with any header that one likes; a field of None is left out."""
    fields = {"alg": "RS256", "kid": key.kid, **(header or {})}
    fields = {name: value for name, value in fields.items() if value is not None}
    registry = JWSRegistry(algorithms=[str(fields["alg"])], strict_check_header=False)
    registry.max_payload_length = 10**6
    return jwt.encode(fields, claims, key, registry=registry)


@dataclass
class OpenId:
    """``claims`` and ``header`` are laid over what an honest token says (None takes a claim away); ``forge`` replaces
    the token, ``answers`` whole answers by path. ``asked`` is every request that came."""

    clock: FakeClock
    key: Key = field(default_factory=lambda: RSA_KEY)
    header: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    groups: object = field(default_factory=lambda: ["staff"])
    sub: str = "user-1"
    userinfo: dict[str, Any] | None = None
    discovery: dict[str, Any] = field(default_factory=dict)
    keys: list[dict[str, Any]] | None = None
    forge: Callable[[dict[str, Any]], str] | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer), follow_redirects=True)

    def authorize(self, url: str) -> dict[str, str]:
        """What the browser brings back when the person said yes."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return {"state": query["state"], "code": code, "iss": ISSUER}

    def asked_for(self, path: str) -> int:
        return sum(request.url.path == path for request in self.asked)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path
        if path in self.answers:
            return self.answers[path](request)
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json=self._configuration())
        if path == "/jwks":
            public = [key.as_dict(private=False) for key in (RSA_KEY, EC_KEY, ED_KEY)]
            return httpx.Response(200, json={"keys": public if self.keys is None else self.keys})
        if path == "/token":
            return self._token(request)
        if path == "/me" and self.userinfo is not None:
            return httpx.Response(200, json={"sub": self.sub, **self.userinfo})
        return httpx.Response(404, json={"error": "not_found"})

    def honest(self, nonce: str) -> dict[str, Any]:
        now = int(self.clock.now_s())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": CLIENT,
            "sub": self.sub,
            "nonce": nonce,
            "iat": now,
            "exp": now + 300,
            "preferred_username": "Ann",
        }
        if self.groups is not None:
            claims["groups"] = self.groups
        merged = {**claims, **self.claims}
        return {name: value for name, value in merged.items() if value is not None}

    def _configuration(self) -> dict[str, Any]:
        found = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/auth",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/jwks",
            "userinfo_endpoint": f"{ISSUER}/me" if self.userinfo is not None else None,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        } | self.discovery
        return {name: value for name, value in found.items() if value is not None}

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if asked is None or segment(digest) != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return httpx.Response(400, json={"error": "invalid_grant"})
        claims = self.honest(asked["nonce"])
        token = self.forge(claims) if self.forge else sign(claims, self.key, self.header)
        return httpx.Response(200, json={"id_token": token, "access_token": "at-1", "token_type": "Bearer"})
