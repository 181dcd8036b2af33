"""A key wrapped by AWS KMS, against a server that speaks its interface."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.errors import StoreUnusable, WrongKey
from store.key_aws import AwsService
from store.key_wrapped import WrappedKeys

pytestmark = pytest.mark.slow
boto3 = pytest.importorskip("boto3", reason="pip install 'codex-relay[aws]'")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[server,kms]'")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def admin(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return boto3.session.Session().client("kms", region_name="eu-central-1", endpoint_url=endpoint)


@pytest.fixture
def key(admin: Any) -> str:
    return str(admin.create_key()["KeyMetadata"]["KeyId"])


def service(endpoint: str, key: str) -> AwsService:
    return AwsService(key, "eu-central-1", endpoint, 5.0)


def test_a_key_is_made_wrapped_and_unwrapped_in_the_context(
    endpoint: str, admin: Any, key: str, tmp_path: Path
) -> None:
    keys = WrappedKeys(tmp_path / "vault.key", service(endpoint, key))
    assert keys.create() == tmp_path / "vault.key"
    assert WrappedKeys(tmp_path / "vault.key", service(endpoint, key)).load().ids == keys.load().ids
    wrapped = service(endpoint, key).wrap(b"k" * 32)
    with pytest.raises(admin.exceptions.InvalidCiphertextException):
        admin.decrypt(CiphertextBlob=base64.b64decode(wrapped))
    context = {"purpose": "codex-relay-vault-key"}
    assert admin.decrypt(CiphertextBlob=base64.b64decode(wrapped), EncryptionContext=context)["Plaintext"] == b"k" * 32


def test_what_was_wrapped_for_something_else_or_altered_is_refused(endpoint: str, admin: Any, key: str) -> None:
    foreign = admin.encrypt(KeyId=key, Plaintext=b"k" * 32)["CiphertextBlob"]
    with pytest.raises(StoreUnusable, match="does not open this"):
        service(endpoint, key).unwrap(base64.b64encode(foreign).decode(), key)
    blob = bytearray(base64.b64decode(service(endpoint, key).wrap(b"k" * 32)))
    blob[-1] ^= 1
    with pytest.raises(StoreUnusable, match="does not open this"):
        service(endpoint, key).unwrap(base64.b64encode(blob).decode(), key)
    with pytest.raises(WrongKey):
        service(endpoint, key).unwrap("no base64!", key)


def test_a_key_that_is_not_there_is_named(endpoint: str, admin: Any) -> None:
    with pytest.raises(StoreUnusable, match="has no such key"):
        service(endpoint, "00000000-0000-0000-0000-000000000000").wrap(b"k" * 32)


@pytest.mark.parametrize(
    ("code", "cause"),
    [("DisabledException", "is disabled; enable it"), ("AccessDeniedException", "allow kms:Encrypt"),
     ("KMSInvalidStateException", "bring it back"), ("ExpiredTokenException", "renew them"),
     ("Other", "answered Other")],
)  # fmt: skip
def test_refusals_that_the_server_here_does_not_know_are_told_apart(
    endpoint: str, admin: Any, code: str, cause: str
) -> None:
    from botocore.stub import Stubber  # type: ignore[import-untyped]

    asked = service(endpoint, "alias/relay")
    with Stubber(asked._client) as stub:
        stub.add_client_error("encrypt", code, "said by the test")
        with pytest.raises(StoreUnusable, match=cause) as caught:
            asked.wrap(b"k" * 32)
    assert "said by the test" not in str(caught.value)


def test_nobody_there_and_no_key_are_one_line(key: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnusable, match="AWS KMS cannot be used"):
            AwsService(key, "eu-central-1", f"http://127.0.0.1:{closed.getsockname()[1]}", 1.0).wrap(b"k" * 32)
    with pytest.raises(StoreUnusable, match=r"vault\.kms_key is empty"):
        AwsService("", None, None, 1.0)
    with pytest.raises(StoreUnusable, match=r"check vault\.region"):
        AwsService(key, None, "not a url", 1.0)


def test_a_service_that_went_away_after_the_start_is_not_missed(endpoint: str, key: str, tmp_path: Path) -> None:
    keys = WrappedKeys(tmp_path / "vault.key", service(endpoint, key))
    keys.create()
    first = keys.load()
    keys._service = AwsService(key, "eu-central-1", "http://127.0.0.1:9", 1.0)  # away
    assert keys.load().ids == first.ids
    with pytest.raises(StoreUnusable):
        keys.make()
