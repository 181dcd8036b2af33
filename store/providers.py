"""Which provider of keys do the settings of ``[vault]`` mean?

    file      keys in a file of ours (store.keyfile)
    env       keys in a setting's value, from the environment
    command   keys that a program prints (store.key_command)
    transit   a key wrapped by the transit engine of HashiCorp Vault or OpenBao
    aws       a key wrapped by AWS KMS
    gcp       a key wrapped by Google Cloud KMS

Nothing is asked of anybody here: a provider speaks to its source when it loads. docs/keys.md says what each protects
against.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from store.errors import StoreUnusable
from store.key_command import CommandKeys
from store.key_wrapped import KeyService, WrappedKeys
from store.keyfile import FileKeys, KeyChanger, KeyProvider, ValueKeys
from store.records import Secret


@dataclass(frozen=True, slots=True)
class VaultValues:
    """The settings of ``[vault]``, as the providers take them. ``timeout_s`` bounds one question to a source."""

    provider: str
    key: Secret | None
    key_file: Path
    command: tuple[str, ...] = ()
    command_environment: tuple[str, ...] = ()
    kms_key: str = ""
    address: str = ""
    transit_mount: str = "transit"
    token_file: Path | None = None
    namespace: str | None = None
    ca_file: Path | None = None
    region: str | None = None
    kms_endpoint: str | None = None
    timeout_s: float = 10.0


def key_provider(values: VaultValues) -> KeyProvider:
    """The provider that the values name. Raises StoreUnusable for one that cannot be meant."""
    if values.provider == "env":
        return ValueKeys(values.key)
    if values.provider == "command":
        return CommandKeys(values.command, values.timeout_s, values.command_environment)
    changer = key_changer(values)
    if changer is None:
        raise StoreUnusable(
            f"vault.provider {values.provider!r} is not known; use file, env, command, transit, aws or gcp"
        )
    return changer


def key_changer(values: VaultValues) -> KeyChanger | None:
    """The same for a provider whose keys are ours to change; None for env and command. Raises StoreUnusable."""
    if values.provider == "file":
        return FileKeys(values.key_file)
    service = _service(values)
    return None if service is None else WrappedKeys(values.key_file, service)


def _service(values: VaultValues) -> KeyService | None:
    """Each speaks by a client of its own, which nobody else should have to load."""
    if values.provider == "aws":
        from store.key_aws import AwsService  # noqa: PLC0415 - loaded when it is used

        return AwsService(values.kms_key, values.region, values.kms_endpoint, values.timeout_s)
    if values.provider == "gcp":
        from store.key_gcp import GcpService, ambient_token  # noqa: PLC0415 - loaded when it is used

        return GcpService(values.kms_key, values.kms_endpoint, values.timeout_s, ambient_token())
    if values.provider != "transit":
        return None
    if values.token_file is None:
        raise StoreUnusable("setting vault.token_file is missing; name the file that holds the token")
    from store.key_transit import TransitService, TransitValues  # noqa: PLC0415 - loaded when it is used

    return TransitService(
        TransitValues(
            values.address,
            values.transit_mount,
            values.kms_key,
            values.token_file,
            values.namespace,
            values.ca_file,
            values.timeout_s,
        )
    )
