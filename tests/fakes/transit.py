"""A stand-in for the transit engine of Vault and OpenBao: the two calls that we make, with their semantics.

Keys have versions and a least version that still decrypts; ciphertexts are ``vault:vN:base64(nonce + AES-256-GCM)``.
It answers as the documented interface does: 400 for what does not decrypt, 403 for a token or namespace that may not,
404 for a mount that is not there, 503 when sealed, and upserts a key on encrypt only when the policy lets it create.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.fakes.json_server import Answer


@dataclass(slots=True)
class TransitKey:
    versions: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    min_decryption_version: int = 1

    def rotate(self) -> None:
        self.versions.append(os.urandom(32))


@dataclass(slots=True)
class Transit:
    """Handles requests for ``tests.fakes.json_server``."""

    token: str = "s.token-of-the-gateway"
    mount: str = "transit"
    namespace: str | None = None
    keys: dict[str, TransitKey] = field(default_factory=lambda: {"relay": TransitKey()})
    sealed: bool = False
    status: int | None = None
    garbage: Any = None
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: Any) -> Answer:
        self.seen.append((path, headers))
        if self.sealed:
            return _errors(503, "Vault is sealed")
        if self.status is not None:
            return _errors(self.status, "said by the test")
        if self.garbage is not None:
            return 200, self.garbage
        if headers.get("x-vault-token") != self.token or headers.get("x-vault-namespace") != self.namespace:
            return _errors(403, "permission denied")
        parts = path.removeprefix("/v1/").split("/")
        verb, name = parts[-2], parts[-1]
        if "/".join(parts[:-2]) != self.mount or verb not in {"encrypt", "decrypt"}:
            return _errors(404, f"no handler for route {path!r}")
        key = self.keys.get(name)
        if key is None:
            # with update alone and no create, an unknown key is a permission that is missing
            return _errors(403 if verb == "encrypt" else 400, "encryption key not found")
        return self._encrypt(key, body) if verb == "encrypt" else self._decrypt(key, body)

    def _encrypt(self, key: TransitKey, body: Any) -> Answer:
        try:
            plain = base64.b64decode(body["plaintext"], validate=True)
        except (KeyError, binascii.Error):
            return _errors(400, "failed to base64-decode plaintext")
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(key.versions[-1]).encrypt(nonce, plain, None)
        version = len(key.versions)
        text = f"vault:v{version}:{base64.b64encode(sealed).decode()}"
        return 200, {"request_id": "r", "data": {"ciphertext": text, "key_version": version}}

    def _decrypt(self, key: TransitKey, body: Any) -> Answer:
        prefix, version, text = str(body["ciphertext"]).split(":", 2)
        number = int(version[1:])
        if prefix != "vault" or not key.min_decryption_version <= number <= len(key.versions):
            return _errors(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            sealed = base64.b64decode(text, validate=True)
            plain = AESGCM(key.versions[number - 1]).decrypt(sealed[:12], sealed[12:], None)
        except (binascii.Error, InvalidTag, ValueError):
            return _errors(400, "cipher: message authentication failed")
        return 200, {"request_id": "r", "data": {"plaintext": base64.b64encode(plain).decode()}}


def _errors(status: int, message: str) -> Answer:
    return status, {"errors": [message]}
