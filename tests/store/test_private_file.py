"""A small secret file is made once, replaced whole, and changed by one at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from store.errors import StoreUnusable
from store.keyfile import FileKeys
from store.private_file import create_private, locked_folder, mark_of, one_change, replace_private

ADD = (
    "import sys; from pathlib import Path; from store.keyfile import FileKeys; k = FileKeys(Path(sys.argv[1])); "
    "[k.add(k.make()) for _ in range(8)]"
)


def test_a_file_is_made_once_and_nothing_is_made_when_its_content_fails(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise StoreUnusable("the service is away")

    with pytest.raises(StoreUnusable):
        create_private(tmp_path / "a", "file a", fails)
    assert list(tmp_path.iterdir()) == []
    assert create_private(tmp_path / "a", "file a", lambda: b"one")
    assert not create_private(tmp_path / "a", "file a", fails)
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_replacement_is_private_whole_and_another_mark(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o644)
    before = mark_of(path)
    replace_private(path, "file a", b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert mark_of(path) != before
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    with pytest.raises(StoreUnusable, match="cannot be written"):
        replace_private(tmp_path / "no" / "a", "file a", b"new")
    assert mark_of(tmp_path / "none") == "absent"


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), locked_folder(tmp_path / "none"):
        pass
    with pytest.raises(StoreUnusable, match="cannot be changed"), one_change(tmp_path / "none" / "a", "file a"):
        pass


@pytest.mark.slow
def test_processes_that_change_one_key_file_lose_no_key(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "vault.key")
    keys.create()
    running = [subprocess.Popen([sys.executable, "-c", ADD, str(tmp_path / "vault.key")]) for _ in range(4)]
    assert [one.wait() for one in running] == [0] * 4
    assert len(keys.load().ids) == 33
