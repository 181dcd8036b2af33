"""A key wrapped by Vault's transit engine: unwrapped once, and every failure is one line without a secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from store.errors import StoreError, StoreUnusable, WrongKey
from store.key_transit import TransitService, TransitValues
from store.key_wrapped import WrappedKeys
from store.vault import Place, Vault
from tests.fakes.json_server import json_server
from tests.fakes.transit import Transit, TransitKey


@pytest.fixture
def engine() -> Transit:
    return Transit()


@pytest.fixture
def values(engine: Transit, tmp_path: Path) -> Iterator[TransitValues]:
    token = tmp_path / "token"
    token.write_text(engine.token + "\n")
    token.chmod(0o600)
    with json_server(engine) as origin:
        yield TransitValues(origin, "transit", "relay", token, timeout_s=5.0)


def keys_of(values: TransitValues, tmp_path: Path) -> WrappedKeys:
    return WrappedKeys(tmp_path / "vault.key", TransitService(values))


def test_a_key_is_made_wrapped_and_unwrapped_once(engine: Transit, values: TransitValues, tmp_path: Path) -> None:
    keys = keys_of(values, tmp_path)
    assert not keys.present()
    path = keys.create()
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.create() is None
    ring = keys.load()
    other = keys_of(values, tmp_path)
    calls = len(engine.seen)
    assert other.load().ids == ring.ids
    assert len(engine.seen) == calls + 1
    engine.sealed = True
    for _ in range(3):
        assert other.load().ids == ring.ids  # from memory
    assert len(engine.seen) == calls + 1
    with pytest.raises(StoreUnusable, match="is sealed or in maintenance; unseal it"):
        keys_of(values, tmp_path).load()


def test_what_it_sends_is_what_transit_takes(engine: Transit, values: TransitValues, tmp_path: Path) -> None:
    engine.namespace = "team/relay"
    keys_of(replace(values, namespace="team/relay"), tmp_path).create()
    path, headers = engine.seen[-1]
    assert path == "/v1/transit/encrypt/relay"
    assert headers["x-vault-request"] == "true"
    assert engine.token not in path


def test_its_key_may_be_rotated_and_old_versions_open_until_they_are_forbidden(
    engine: Transit, values: TransitValues, tmp_path: Path
) -> None:
    keys = keys_of(values, tmp_path)
    keys.create()
    first = keys.load().current_id
    engine.keys["relay"].rotate()
    new = keys.make()
    assert b"vault:v2:" in new.line
    keys.add(new)
    assert keys_of(values, tmp_path).load().ids == (first, new.id)
    engine.keys["relay"].min_decryption_version = 2
    with pytest.raises(StoreUnusable, match="does not open this"):
        keys_of(values, tmp_path).load()


def test_the_token_file_is_read_anew_at_every_call(engine: Transit, values: TransitValues, tmp_path: Path) -> None:
    keys = keys_of(values, tmp_path)
    keys.create()
    engine.token = "s.renewed"
    with pytest.raises(StoreUnusable, match="refused the token; renew it"):
        keys.make()
    values.token_file.write_text("s.renewed")
    assert keys.make().id


@pytest.mark.parametrize(
    ("status", "cause"),
    [(400, "does not open this"), (403, "refused the token"), (404, "no such transit key"), (429, "standby"),
     (472, "recovery"), (473, "standby"), (500, "answered 500"), (501, "not initialised"), (503, "sealed"),
     (307, "answered 307")],
)  # fmt: skip
def test_every_refusal_is_one_line_with_the_next_step(
    engine: Transit, values: TransitValues, tmp_path: Path, status: int, cause: str
) -> None:
    engine.status = status
    with pytest.raises(StoreUnusable, match=cause) as caught:
        keys_of(values, tmp_path).create()
    assert engine.token not in str(caught.value)
    assert "said by the test" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "vault.key").exists()


@pytest.mark.parametrize("garbage", [b"<html>", {}, {"data": {}}, {"data": {"ciphertext": "x", "plaintext": "!"}}, []])
def test_an_answer_of_somebody_else_is_refused(
    engine: Transit, values: TransitValues, tmp_path: Path, garbage: object
) -> None:
    keys_of(values, tmp_path).create()
    engine.garbage = garbage
    with pytest.raises(StoreUnusable, match=r"check vault\.address"):
        keys_of(values, tmp_path).load()
    with pytest.raises(StoreUnusable, match=r"check vault\.address"):
        keys_of(values, tmp_path).make()


def test_nobody_there_is_said_within_the_bound(tmp_path: Path, values: TransitValues) -> None:
    with pytest.raises(StoreUnusable, match="cannot be reached"):
        keys_of(replace(values, address="http://127.0.0.1:9", timeout_s=1.0), tmp_path).create()


def test_a_token_that_others_may_read_or_that_is_empty_is_refused(values: TransitValues, tmp_path: Path) -> None:
    values.token_file.chmod(0o644)
    with pytest.raises(WrongKey, match="chmod 600"):
        keys_of(values, tmp_path).create()
    values.token_file.chmod(0o600)
    values.token_file.write_text("\n")
    with pytest.raises(WrongKey, match="holds no token"):
        keys_of(values, tmp_path).create()


@pytest.mark.parametrize(
    "changed", [{"address": "vault.example"}, {"address": "https://user:pw@host"}, {"mount": "../sys"}, {"key": "a?b"},
                {"key": ""}],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(values: TransitValues, changed: dict[str, str]) -> None:
    with pytest.raises(StoreUnusable, match=r"setting vault\."):
        TransitService(replace(values, **changed))  # type: ignore[arg-type]  # texts, all of them


def test_a_line_that_was_swapped_altered_or_is_of_another_service_is_refused(
    engine: Transit, values: TransitValues, tmp_path: Path
) -> None:
    keys, path = keys_of(values, tmp_path), tmp_path / "vault.key"
    keys.create()
    keys.add(keys.make())
    one, two = path.read_bytes().splitlines()
    wrapped_one, wrapped_two = (line.split(b'"wrapped":')[1] for line in (one, two))
    engine.keys["other"] = TransitKey()
    for text, error in (
        (one.replace(wrapped_one, wrapped_two), "names another key than was unwrapped"),
        (one.replace(b'"transit"', b'"aws"'), "set vault.provider to it"),
        (one.replace(b"transit/relay", b"elsewhere/relay"), "set vault.transit_mount"),
        (one.replace(b"transit/relay", b"transit/other"), "does not open this"),
        (one.replace(b'"id":', b'"no":'), "holds no wrapped keys"),
        (b"\n", "holds no wrapped keys"),
    ):
        path.write_bytes(text + b"\n")
        with pytest.raises(StoreError, match=error):
            keys_of(values, tmp_path).load()


def test_keys_are_promoted_retired_and_restored(values: TransitValues, tmp_path: Path) -> None:
    keys = keys_of(values, tmp_path)
    keys.create()
    old, new = keys.load().current_id, keys.make()
    sealed = Vault(keys.load()).seal(b"secret", Place("t", "r", "c", 1))
    keys.add(new)
    keys.add(new)
    assert keys.load().ids == (old, new.id)
    keys.promote(new.id)
    with pytest.raises(WrongKey, match="rotate first"):
        keys.retire(new.id)
    assert keys.retired() is None
    path = keys.retire(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load().ids == (new.id,)
    retired = keys.retired()
    assert retired is not None
    assert Vault(retired).open(sealed, Place("t", "r", "c", 1)) == b"secret"
    keys.restore(old)
    assert keys.load().ids == (new.id, old)
    with pytest.raises(WrongKey, match="holds no key of id"):
        keys.promote(b"x" * 8)
