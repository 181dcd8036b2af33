"""Who is calling? Client keys: how they look, how they are kept, how one is recognised.

    at-cr-<id>-<secret>     id: 12 of [a-z0-9], names the key in lists and logs
                            secret: 43 of [A-Za-z0-9], 256 bits; shown once, when the key is made

Rules that hold:

* the store has HMAC-SHA256(pepper, whole key) only; the pepper is a sealed record of the vault, so a stolen table of
  digests cannot even be tested against a guess;
* a key is taken from ``Authorization: Bearer`` and nowhere else; no address, cookie, query or other header counts;
* unknown, malformed, expired, revoked and disabled are one refusal, InvalidKey, and cost the same work: the digest is
  computed and compared in constant time, for an unknown id against a dummy;
* no key at all means closed (NotConfigured), never open.

KeyDirectory is a snapshot: it sees a change when ``load`` is called. It keeps recognised headers by their SHA-256, so
a key that is used again costs one hash and one look-up; what it keeps ends with ``load`` and with the key's expiry.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import string
from collections.abc import Iterable
from typing import Final

from auth.errors import InvalidKey, NotConfigured
from auth.types import Caller
from store.records import ClientKey, Limits, Secret, Tenant

PREFIX: Final = "at-cr-"
SCOPES: Final = frozenset({"relay", "tasks", "metrics", "admin"})
TASK_SCOPE: Final = "task"
"""The only scope of a key that one attempt of a task holds: POST /v1/responses under a budget, and nothing else. No
person can give it; auth.task_keys does."""
PEPPER_NAME: Final = "pepper"
PEPPER_BYTES: Final = 32
MAX_DURATION_S: Final = 10 * 366 * 86_400.0
_ID_CHARS: Final = string.ascii_lowercase + string.digits
_SECRET_CHARS: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43
_HEADER: Final = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] (at-cr-([a-z0-9]{10,32})-[A-Za-z0-9_]{32,128})")
_MAX_HEADER: Final = 256
_DURATION: Final = re.compile(r"([1-9][0-9]{0,6})([smhdw])")
_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_CACHE_SIZE: Final = 4096


class KeyRing:
    """Makes keys and digests them under the pepper."""

    __slots__ = ("_pepper",)

    def __init__(self, pepper: bytes) -> None:
        if len(pepper) < PEPPER_BYTES:
            raise ValueError(f"the pepper must have at least {PEPPER_BYTES} bytes")
        self._pepper = pepper

    def digest(self, key: bytes) -> bytes:
        """HMAC-SHA256 of the whole key under the pepper."""
        return hmac.digest(self._pepper, key, "sha256")

    def mint(
        self,
        tenant_id: str,
        *,
        now_s: float,
        name: str = "",
        scopes: frozenset[str] = frozenset({"relay"}),
        models: tuple[str, ...] = (),
        limits: Limits | None = None,
        expires_at_s: float | None = None,
    ) -> tuple[Secret, ClientKey]:
        """A new key: the plain text, to be shown once, and the record to be stored.

        Raises ValueError for a scope that does not exist.
        """
        if scopes != {TASK_SCOPE} and (unknown := scopes - SCOPES):
            raise ValueError(f"unknown scope {min(unknown)!r}; there are {', '.join(sorted(SCOPES))}")
        key_id = "".join(secrets.choice(_ID_CHARS) for _ in range(_ID_LENGTH))
        plain = f"{PREFIX}{key_id}-" + "".join(secrets.choice(_SECRET_CHARS) for _ in range(_SECRET_LENGTH))
        record = ClientKey(
            id=key_id,
            tenant_id=tenant_id,
            name=name,
            digest=self.digest(plain.encode()),
            scopes=scopes,
            models=models,
            limits=limits or Limits(),
            expires_at_s=expires_at_s,
            created_at_s=now_s,
        )
        return Secret(plain), record


class KeyDirectory:
    """All keys and tenants as last loaded, and the check of a request against them."""

    __slots__ = ("_cache", "_dummy", "_key_defaults", "_keys", "_ring", "_tenant_defaults")

    def __init__(self, ring: KeyRing, key_defaults: Limits, tenant_defaults: Limits) -> None:
        self._ring = ring
        self._key_defaults = key_defaults
        self._tenant_defaults = tenant_defaults
        self._keys: dict[bytes, tuple[ClientKey, Tenant | None]] = {}
        self._cache: dict[bytes, tuple[Caller, float]] = {}
        self._dummy = secrets.token_bytes(hashlib.sha256().digest_size)

    def load(self, keys: Iterable[ClientKey], tenants: Iterable[Tenant]) -> None:
        """Replaces the snapshot as a whole; what was recognised before is forgotten."""
        by_id = {tenant.id: tenant for tenant in tenants}
        self._keys = {key.id.encode(): (key, by_id.get(key.tenant_id)) for key in keys}
        self._cache = {}

    def __len__(self) -> int:
        return len(self._keys)

    def authenticate(self, authorization: bytes | None, now_s: float) -> Caller:
        """Who sent this ``Authorization`` header, at Unix time ``now_s``.

        Raises NotConfigured when there are no keys at all, InvalidKey in every other case of refusal.
        """
        if authorization is None or len(authorization) > _MAX_HEADER:
            raise self._refusal()
        name = hashlib.sha256(authorization).digest()
        known = self._cache.get(name)
        if known is not None and now_s < known[1]:
            return known[0]
        caller, expires_at_s = self._recognise(authorization, now_s)
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[name] = (caller, expires_at_s)
        return caller

    def is_live(self, key_id: str, now_s: float) -> bool:
        """Whether a key that was recognised earlier would still be: for streams that outlast a revocation."""
        found = self._keys.get(key_id.encode())
        return found is not None and _usable(found[0], found[1], now_s)

    def _recognise(self, authorization: bytes, now_s: float) -> tuple[Caller, float]:
        match = _HEADER.fullmatch(authorization)
        found = self._keys.get(match[2]) if match else None
        digest = self._ring.digest(match[1] if match else authorization)
        same = hmac.compare_digest(digest, found[0].digest if found else self._dummy)
        if not same or found is None:
            raise self._refusal()
        key, tenant = found
        if tenant is None or not _usable(key, tenant, now_s):
            raise self._refusal()
        caller = Caller(
            tenant_id=tenant.id,
            tenant_name=tenant.name,
            key_id=key.id,
            scopes=key.scopes,
            models=key.models,
            pools=tenant.pools,
            key_limits=_effective(key.limits, self._key_defaults),
            tenant_limits=_effective(tenant.limits, self._tenant_defaults),
        )
        return caller, math.inf if key.expires_at_s is None else key.expires_at_s

    def _refusal(self) -> InvalidKey | NotConfigured:
        if not self._keys:
            return NotConfigured("no client key exists yet; make one with: codex-relay keys create --tenant NAME")
        return InvalidKey("the key is not accepted")


def parse_duration_s(text: str) -> float:
    """Seconds of ``90d``, ``12h``, ``30m``, ``45s`` or ``2w``. Raises ValueError that says what is taken."""
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_DURATION_S:
        raise ValueError("not a duration: write a number and s, m, h, d or w, such as 90d, 12h or 30m, up to ten years")
    return seconds


def _usable(key: ClientKey, tenant: Tenant | None, now_s: float) -> bool:
    expired = key.expires_at_s is not None and now_s >= key.expires_at_s
    return tenant is not None and tenant.enabled and key.revoked_at_s is None and not expired


def _effective(own: Limits, defaults: Limits) -> Limits:
    return Limits(
        own.requests_per_minute if own.requests_per_minute is not None else defaults.requests_per_minute,
        own.concurrent_streams if own.concurrent_streams is not None else defaults.concurrent_streams,
    )
