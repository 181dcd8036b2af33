"""Wrapping by Google Cloud KMS, over its REST interface; tokens by google-auth (the extra ``gcp``).

Rules that hold:

* credentials come from google-auth's own chain (workload identity, service account file, metadata server); none
  stands in our settings;
* every call carries the same additional authenticated data, so what was wrapped for something else does not unwrap
  here; CRC32C sums travel both ways and are checked, as Google asks of every client;
* calls are bounded in time, TLS is verified, redirects are not followed.

It needs ``cloudkms.cryptoKeyVersions.useToEncrypt`` and ``useToDecrypt`` on the one key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Final

import httpx
import msgspec

from store.errors import StoreUnusable, WrongKey

ENDPOINT: Final = "https://cloudkms.googleapis.com"
SCOPE: Final = "https://www.googleapis.com/auth/cloudkms"
AAD: Final = b"codex-relay vault key"
_KEY: Final = re.compile(r"projects/[\w:.-]+/locations/[\w-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+")
_CAUSES: Final = {
    400: "refused the request: it was wrapped by another key, or altered, or the key is disabled; check vault.kms_key",
    401: "does not know our credentials; check the service account",
    403: "refused our credentials; grant the role Cloud KMS CryptoKey Encrypter/Decrypter on the key",
    404: "has no such key; check vault.kms_key",
}

Token = Callable[[], str]
"""An access token that is fresh now. Raises StoreUnusable."""


class _Answer(msgspec.Struct):
    ciphertext: str = ""
    plaintext: str = ""
    ciphertextCrc32c: str = ""  # noqa: N815 - Google's name
    plaintextCrc32c: str = ""  # noqa: N815 - the same


class GcpService:
    """Implements store.key_wrapped.KeyService."""

    def __init__(self, key: str, endpoint_url: str | None, timeout_s: float, token: Token) -> None:
        """``key``: projects/P/locations/L/keyRings/R/cryptoKeys/K. Raises StoreUnusable for anything else."""
        if not _KEY.fullmatch(key):
            raise StoreUnusable(
                "setting vault.kms_key is not a key of Google Cloud KMS; "
                "set it to projects/P/locations/L/keyRings/R/cryptoKeys/K"
            )
        self._key = key
        self._endpoint = (endpoint_url or ENDPOINT).rstrip("/")
        self._timeout_s = timeout_s
        self._token = token

    @property
    def name(self) -> str:
        return "gcp"

    @property
    def key_name(self) -> str:
        return self._key

    def wrap(self, key: bytes) -> str:
        answer = self._call(self._key, "encrypt", "plaintext", key)
        return base64.b64encode(self._checked(answer.ciphertext, answer.ciphertextCrc32c)).decode()

    def unwrap(self, wrapped: str, key_name: str) -> bytes:
        if not _KEY.fullmatch(key_name):
            raise WrongKey("the key file names no key of Google Cloud KMS; restore it from its backup")
        try:
            blob = base64.b64decode(wrapped, validate=True)
        except (binascii.Error, ValueError):
            raise WrongKey(
                "the key file holds what Google Cloud KMS did not write; restore it from its backup"
            ) from None
        answer = self._call(key_name, "decrypt", "ciphertext", blob)
        return self._checked(answer.plaintext, answer.plaintextCrc32c)

    def _call(self, key: str, verb: str, field: str, value: bytes) -> _Answer:
        body: dict[str, Any] = {
            field: base64.b64encode(value).decode(),
            f"{field}Crc32c": str(crc32c(value)),
            "additionalAuthenticatedData": base64.b64encode(AAD).decode(),
            "additionalAuthenticatedDataCrc32c": str(crc32c(AAD)),
        }
        try:
            with httpx.Client(timeout=self._timeout_s, trust_env=False, follow_redirects=False) as client:
                answer = client.post(
                    f"{self._endpoint}/v1/{key}:{verb}",
                    headers={"authorization": f"Bearer {self._token()}"},
                    json=body,
                )
        except httpx.HTTPError as error:
            raise StoreUnusable(
                f"Google Cloud KMS cannot be reached ({type(error).__name__}); check the network"
            ) from None
        if answer.status_code != 200:
            cause = _CAUSES.get(answer.status_code, f"answered {answer.status_code}; look at its log")
            raise StoreUnusable(f"Google Cloud KMS key {key} {cause}")
        try:
            return msgspec.json.decode(answer.content, type=_Answer)
        except msgspec.MsgspecError:
            raise StoreUnusable("Google Cloud KMS answered something else than it does; check the network") from None

    def _checked(self, text: str, checksum: str) -> bytes:
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            value = b""
        if not value or checksum != str(crc32c(value)):
            raise StoreUnusable("the answer of Google Cloud KMS was damaged on the way; try again")
        return value


def ambient_token() -> Token:
    """Tokens of the machine's own identity. Raises StoreUnusable when the extra is missing, at once or when asked."""
    try:
        import google.auth  # noqa: PLC0415 - an optional extra that nobody else needs
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - loaded when it is used
        from google.auth.transport.requests import Request  # noqa: PLC0415 - loaded when it is used
    except ImportError:
        raise StoreUnusable("vault.provider gcp needs the extra 'gcp'; run: pip install 'codex-relay[gcp]'") from None

    def token() -> str:
        try:
            credentials, _ = google.auth.default(scopes=[SCOPE])
            credentials.refresh(Request())  # type: ignore[no-untyped-call]
        except GoogleAuthError as error:
            raise StoreUnusable(
                f"there are no Google credentials here ({type(error).__name__}); "
                "run where a service account is, or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from None
        return str(credentials.token)

    return token


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF
