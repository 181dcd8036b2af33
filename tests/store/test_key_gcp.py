"""A key wrapped by Google Cloud KMS: the contract of its REST interface over HTTP; no server of theirs can be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import StoreError, StoreUnusable, WrongKey
from store.key_gcp import GcpService, crc32c
from store.key_wrapped import WrappedKeys
from tests.fakes.google_kms import NAME, GoogleKms
from tests.fakes.json_server import json_server


@pytest.fixture
def kms() -> GoogleKms:
    return GoogleKms()


@pytest.fixture
def service(kms: GoogleKms) -> Iterator[GcpService]:
    with json_server(kms) as origin:
        yield GcpService(NAME, origin, 5.0, lambda: "ya29.token")


def test_a_key_is_made_wrapped_and_unwrapped(service: GcpService, kms: GoogleKms, tmp_path: Path) -> None:
    keys = WrappedKeys(tmp_path / "vault.key", service)
    assert keys.create() == tmp_path / "vault.key"
    assert WrappedKeys(tmp_path / "vault.key", service).load().ids == keys.load().ids
    kms.key = bytes(32)
    with pytest.raises(StoreUnusable, match="wrapped by another key"):
        WrappedKeys(tmp_path / "vault.key", service).load()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_every_refusal_is_one_line_without_its_words(service: GcpService, kms: GoogleKms, status: int) -> None:
    kms.status = status
    with pytest.raises(StoreUnusable) as caught:
        service.wrap(b"k" * 32)
    assert "said by the test" not in str(caught.value)
    assert ";" in str(caught.value)


def test_an_answer_that_was_damaged_on_the_way_is_refused(service: GcpService, kms: GoogleKms) -> None:
    wrapped = service.wrap(b"k" * 32)
    kms.flip = True
    with pytest.raises(StoreUnusable, match="damaged on the way"):
        service.unwrap(wrapped, NAME)
    with pytest.raises(StoreUnusable, match="damaged on the way"):
        service.wrap(b"k" * 32)


def test_names_and_texts_that_cannot_be_meant_are_refused(service: GcpService) -> None:
    for name in ("", "relay", NAME + "/../x", NAME + "?x"):
        with pytest.raises(StoreUnusable, match=r"setting vault\.kms_key"):
            GcpService(name, None, 1.0, lambda: "")
        with pytest.raises(WrongKey):
            service.unwrap("AAAA", name)
    with pytest.raises(WrongKey):
        service.unwrap("not base64!", NAME)
    with pytest.raises(StoreError, match="cannot be reached"):
        GcpService(NAME, "http://127.0.0.1:9", 1.0, lambda: "t").wrap(b"k" * 32)


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
