"""Wrapping by the transit engine of HashiCorp Vault or OpenBao, over its HTTP interface.

Rules that hold:

* the token is read from a file at every call, so an agent may renew it under us; it travels in a header alone and
  reaches no message. A file that others may read is refused;
* TLS is verified, against the system's authorities or ``ca_file``; redirects are not followed (a standby that
  redirects is not followed with our token: name the active node or a load balancer);
* every call is bounded in time. Sealed, standby, down, forbidden and no such key are told apart, each with the next
  step. What Vault says in its own words is not repeated.

It needs ``update`` on ``<mount>/encrypt/<key>`` and ``<mount>/decrypt/<key>``, nothing else: it never makes a key,
since a policy that may make keys hides a misspelt name.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec

from store.errors import StoreUnusable, WrongKey
from store.private_file import read_private

_LARGEST_TOKEN: Final = 4096
_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_CAUSES: Final = {
    400: "refused the request: the key does not open this, or is of a kind that cannot encrypt",
    403: "refused the token; renew it, and allow update on the encrypt and decrypt paths of the key",
    404: "has no such transit key or mount; check vault.transit_mount and vault.kms_key",
    429: "is a standby; name the active node in vault.address",
    472: "is a replica in recovery; name the active node in vault.address",
    473: "is a standby; name the active node in vault.address",
    501: "is not initialised",
    503: "is sealed or in maintenance; unseal it",
}


@dataclass(frozen=True, slots=True)
class TransitValues:
    """Where the engine is. ``address`` is the origin; ``key`` the transit key's name."""

    address: str
    mount: str
    key: str
    token_file: Path
    namespace: str | None = None
    ca_file: Path | None = None
    timeout_s: float = 10.0


class _Data(msgspec.Struct):
    ciphertext: str = ""
    plaintext: str = ""


class _Answer(msgspec.Struct):
    data: _Data


class TransitService:
    """Implements store.key_wrapped.KeyService."""

    def __init__(self, values: TransitValues) -> None:
        """Raises StoreUnusable for an address, a mount or a key name that cannot be meant."""
        if not re.fullmatch(r"https?://[^\s/@]+", values.address.rstrip("/")):
            raise StoreUnusable("setting vault.address is not an origin; set it to https://HOST:PORT")
        for name, text in (("transit_mount", values.mount), ("kms_key", values.key)):
            if not _PATH.fullmatch(text):
                raise StoreUnusable(f"setting vault.{name} is not a name; set it to what vault list shows")
        self._values = values

    @property
    def name(self) -> str:
        return "transit"

    @property
    def key_name(self) -> str:
        return f"{self._values.mount}/{self._values.key}"

    def wrap(self, key: bytes) -> str:
        answer = self._call("encrypt", self._values.key, {"plaintext": base64.b64encode(key).decode()})
        if not answer.ciphertext.startswith("vault:v"):
            raise StoreUnusable(f"{self._who()} answered without a ciphertext; check vault.address")
        return answer.ciphertext

    def unwrap(self, wrapped: str, key_name: str) -> bytes:
        mount, _, key = key_name.rpartition("/")
        if mount != self._values.mount or not _PATH.fullmatch(key):
            raise WrongKey(f"the key file names transit key {key_name!r}; set vault.transit_mount to its mount")
        answer = self._call("decrypt", key, {"ciphertext": wrapped})
        try:
            plain = base64.b64decode(answer.plaintext, validate=True)
        except (binascii.Error, ValueError):
            plain = b""
        if not plain:
            raise StoreUnusable(f"{self._who()} answered without a plaintext; check vault.address")
        return plain

    def _call(self, verb: str, key: str, body: dict[str, str]) -> _Data:
        values = self._values
        token = read_private(values.token_file, f"token file {values.token_file}", _LARGEST_TOKEN).strip()
        if not token or not token.isascii():
            raise WrongKey(f"token file {values.token_file} holds no token")
        headers = {"x-vault-token": token.decode(), "x-vault-request": "true"}
        if values.namespace:
            headers["x-vault-namespace"] = values.namespace
        url = f"{values.address.rstrip('/')}/v1/{values.mount}/{verb}/{key}"
        try:
            verify = ssl.create_default_context()
            if values.ca_file is not None:
                verify.load_verify_locations(values.ca_file)
            with httpx.Client(
                verify=verify, timeout=values.timeout_s, trust_env=False, follow_redirects=False
            ) as client:
                answer = client.post(url, headers=headers, json=body)
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise StoreUnusable(
                f"{self._who()} cannot be reached ({type(error).__name__}); check vault.address"
            ) from None
        if answer.status_code != 200:
            cause = _CAUSES.get(answer.status_code, f"answered {answer.status_code}; look at its log")
            raise StoreUnusable(f"{self._who()} {cause}")
        try:
            return msgspec.json.decode(answer.content, type=_Answer).data
        except msgspec.MsgspecError:
            raise StoreUnusable(f"{self._who()} answered something else than Vault does; check vault.address") from None

    def _who(self) -> str:
        return f"transit key {self.key_name} at {self._values.address}"
