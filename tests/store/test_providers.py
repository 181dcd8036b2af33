"""The settings choose the provider; what cannot be meant is refused before anybody is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from store.errors import StoreUnusable
from store.key_command import CommandKeys
from store.key_wrapped import WrappedKeys
from store.keyfile import FileKeys, ValueKeys
from store.providers import VaultValues, key_changer, key_provider
from store.records import Secret
from tests.fakes.google_kms import NAME


@pytest.fixture
def values(tmp_path: Path) -> VaultValues:
    return VaultValues("file", Secret("x"), tmp_path / "vault.key", ("program",))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"provider": "file"}, FileKeys),
        ({"provider": "env"}, ValueKeys),
        ({"provider": "command"}, CommandKeys),
        ({"provider": "transit", "address": "https://v:8200", "kms_key": "k", "token_file": Path("t")}, WrappedKeys),
        ({"provider": "aws", "kms_key": "alias/relay", "region": "eu-central-1"}, WrappedKeys),
        ({"provider": "gcp", "kms_key": NAME}, WrappedKeys),
    ],
)
def test_each_name_means_one_provider(values: VaultValues, changes: dict[str, object], kind: type) -> None:
    chosen = replace(values, **changes)  # type: ignore[arg-type]  # by name
    assert isinstance(key_provider(chosen), kind)
    changer = key_changer(chosen)
    assert (changer is None) == (kind in {ValueKeys, CommandKeys})


def test_the_wrapping_ones_name_the_missing_setting(values: VaultValues) -> None:
    for provider, setting in (("transit", "token_file"), ("aws", "kms_key"), ("gcp", "kms_key")):
        with pytest.raises(StoreUnusable, match=f"setting vault.{setting}"):
            key_provider(replace(values, provider=provider))
    with pytest.raises(StoreUnusable, match="use file, env, command, transit, aws or gcp"):
        key_provider(replace(values, provider="vault"))
