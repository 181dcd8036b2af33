"""The shape of Google Cloud KMS's REST interface: encrypt and decrypt, with additional data and checksums.

Written from its public reference; no server of theirs can be had to compare it with (docs/limits.md).
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.key_gcp import crc32c
from tests.fakes.json_server import Answer

NAME = "projects/p1/locations/europe-west3/keyRings/ring/cryptoKeys/relay"


@dataclass(slots=True)
class GoogleKms:
    """Handles requests for ``tests.fakes.json_server``."""

    token: str = "ya29.token"
    key: bytes = field(default_factory=lambda: os.urandom(32))
    status: int | None = None
    flip: bool = False

    def __call__(self, path: str, headers: dict[str, str], body: Any) -> Answer:
        if self.status is not None:
            return self.status, {"error": {"code": self.status, "status": "X", "message": "said by the test"}}
        if headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}}
        name, _, verb = path.removeprefix("/v1/").rpartition(":")
        if name != NAME:
            return 404, {"error": {"code": 404, "status": "NOT_FOUND"}}
        field_name, answer_name = ("plaintext", "ciphertext") if verb == "encrypt" else ("ciphertext", "plaintext")
        given, extra = (base64.b64decode(body[one]) for one in (field_name, "additionalAuthenticatedData"))
        sums = (body[f"{field_name}Crc32c"], body["additionalAuthenticatedDataCrc32c"])
        if sums != (str(crc32c(given)), str(crc32c(extra))):
            return 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}
        nonce = os.urandom(12)
        try:
            made = (
                nonce + AESGCM(self.key).encrypt(nonce, given, extra)
                if verb == "encrypt"
                else AESGCM(self.key).decrypt(given[:12], given[12:], extra)
            )
        except InvalidTag:
            return 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}
        checksum = str(crc32c(made) ^ self.flip)
        return 200, {
            "name": f"{name}/cryptoKeyVersions/1",
            answer_name: base64.b64encode(made).decode(),
            f"{answer_name}Crc32c": checksum,
            f"verified{field_name.title()}Crc32c": True,
            "protectionLevel": "SOFTWARE",
        }
