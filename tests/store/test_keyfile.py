"""A key comes from a private file or a setting, is made once, and never shows."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from store.errors import StoreUnusable, WrongKey
from store.keyfile import FileKeys, ValueKeys
from store.private_file import make_private_folders
from store.records import Secret
from store.vault import key_id

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY)


def write(path: Path, text: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_key_file_is_made_private_with_its_folders_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "vault.key"
    keys = FileKeys(path)
    assert not keys.present()
    assert keys.create() == path
    assert keys.present()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert keys.load().current_id == key_id(base64.b64decode(path.read_bytes()))


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "vault.key", TEXT)
    assert FileKeys(path).create() is None
    assert path.read_bytes() == TEXT


def test_two_files_get_two_keys(tmp_path: Path) -> None:
    for name in ("a", "b"):
        FileKeys(tmp_path / name).create()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.fault("B64")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_key_file_that_others_may_read_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "vault.key", TEXT, mode)
    with pytest.raises(WrongKey, match=f"mode {mode:04o}.*chmod 600 "):
        FileKeys(path).load()


def test_a_link_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "vault.key", TEXT)
    (tmp_path / "link").symlink_to(tmp_path / "vault.key")
    with pytest.raises(WrongKey, match="symbolic link"):
        FileKeys(tmp_path / "link").load()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert FileKeys(tmp_path / "dangling").create() is None
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(WrongKey, match="not a regular file"):
        FileKeys(tmp_path).load()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(WrongKey, match="not a regular file"):
        FileKeys(tmp_path / "pipe").load()


@pytest.mark.parametrize("text", [b"", b"\n", b"not base64!", TEXT[:-4], base64.b64encode(KEY + b"x"), b"\xff\xfe"])
def test_a_malformed_key_is_refused_without_showing_it(tmp_path: Path, text: bytes) -> None:
    path = write(tmp_path / "vault.key", text)
    with pytest.raises(WrongKey) as caught:
        FileKeys(path).load()
    assert str(path) in str(caught.value)
    if text.strip():
        assert text.decode("latin-1") not in str(caught.value)


def test_a_missing_key_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match="is missing; restore it") as caught:
        FileKeys(tmp_path / "vault.key").load()
    assert "\n" not in str(caught.value)


def test_a_key_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnusable, match="cannot be made"):
        FileKeys(tmp_path / "file" / "vault.key").create()


def test_several_keys_may_stand_in_a_file_the_first_of_them_seals(tmp_path: Path) -> None:
    old = bytes(32)
    path = write(tmp_path / "vault.key", TEXT + b"\n" + base64.b64encode(old) + b"\n")
    ring = FileKeys(path).load()
    assert ring.current_id == key_id(KEY)
    assert key_id(old) in ring


def test_a_key_may_come_from_a_setting(tmp_path: Path) -> None:
    keys = ValueKeys(Secret(TEXT.decode() + "\n"))
    assert keys.present()
    assert keys.load().current_id == key_id(KEY)


@pytest.mark.parametrize("value", [None, Secret(""), Secret("c2hvcnQ="), Secret("é" * 44)])
def test_a_setting_without_a_usable_key_is_refused_and_none_is_made(value: Secret | None) -> None:
    keys = ValueKeys(value)
    with pytest.raises(WrongKey, match=r"vault\.key") as caught:
        keys.load()
    if value:
        assert value.reveal() not in str(caught.value)
    with pytest.raises(StoreUnusable):
        keys.create()


def test_folders_that_exist_keep_their_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private_folders(tmp_path / "inner")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "inner").stat().st_mode) == 0o700
