"""Wrapping by AWS KMS, through its official client (the extra ``aws``).

Rules that hold:

* credentials come from the client's own chain (role, profile, environment); none stands in our settings;
* every call carries the encryption context ``purpose=codex-relay-vault-key``: a policy may demand it, the trail shows
  it, and what was wrapped for something else does not unwrap here;
* calls are bounded: ``timeout_s`` for connecting and for answering, two attempts;
* unwrapping names the key, so that a ciphertext of a foreign account's key is refused.

It needs ``kms:Encrypt`` and ``kms:Decrypt`` on the one key.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from store.errors import StoreUnusable, WrongKey

_CONTEXT: Final = {"purpose": "codex-relay-vault-key"}
_CAUSES: Final = {
    "AccessDeniedException": "refused our credentials; allow kms:Encrypt and kms:Decrypt on the key",
    "UnrecognizedClientException": "does not know our credentials; check the role or profile",
    "ExpiredTokenException": "says that our credentials have expired; renew them",
    "NotFoundException": "has no such key; check vault.kms_key and vault.region",
    "DisabledException": "says that the key is disabled; enable it",
    "KMSInvalidStateException": "says that the key is disabled or about to be deleted; bring it back",
    "InvalidCiphertextException": "does not open this: it was wrapped by another key, or altered",
    "IncorrectKeyException": "does not open this: it was wrapped by another key",
}


class AwsService:
    """Implements store.key_wrapped.KeyService."""

    def __init__(self, key: str, region: str | None, endpoint_url: str | None, timeout_s: float) -> None:
        """``key``: id, ARN or alias. Raises StoreUnusable when the extra is missing or the settings cannot be meant."""
        if not key:
            raise StoreUnusable("setting vault.kms_key is empty; set it to the id, ARN or alias of the KMS key")
        try:
            import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional extra that nobody else needs
            from botocore.config import Config  # type: ignore[import-untyped]  # noqa: PLC0415 - loaded when it is used
            from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]  # noqa: PLC0415 - loaded when it is used
        except ImportError:
            raise StoreUnusable(
                "vault.provider aws needs the extra 'aws'; run: pip install 'codex-relay[aws]'"
            ) from None
        self._key = key
        config = Config(
            connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 2, "mode": "standard"}
        )
        try:
            self._client: Any = boto3.session.Session().client(
                "kms", region_name=region, endpoint_url=endpoint_url, config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise StoreUnusable(f"AWS KMS: {type(error).__name__}; check vault.region and vault.kms_endpoint") from None

    @property
    def name(self) -> str:
        return "aws"

    @property
    def key_name(self) -> str:
        return self._key

    def wrap(self, key: bytes) -> str:
        answer = self._call("encrypt", KeyId=self._key, Plaintext=key, EncryptionContext=_CONTEXT)
        return base64.b64encode(answer["CiphertextBlob"]).decode()

    def unwrap(self, wrapped: str, key_name: str) -> bytes:
        try:
            blob = base64.b64decode(wrapped, validate=True)
        except (binascii.Error, ValueError):
            raise WrongKey("the key file holds what AWS KMS did not write; restore it from its backup") from None
        answer = self._call("decrypt", KeyId=key_name, CiphertextBlob=blob, EncryptionContext=_CONTEXT)
        return bytes(answer["Plaintext"])

    def _call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded when it is used

        try:
            answer: dict[str, Any] = getattr(self._client, verb)(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            cause = _CAUSES.get(code, f"answered {code[:60] or 'an error'}; look at its trail")
            raise StoreUnusable(f"AWS KMS key {self._key} {cause}") from None
        except BotoCoreError as error:
            raise StoreUnusable(
                f"AWS KMS cannot be used ({type(error).__name__}); check credentials, vault.region and the network"
            ) from None
        return answer
