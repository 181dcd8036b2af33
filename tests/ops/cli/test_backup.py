"""``backup`` and ``restore`` as an operator runs them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.ops.cli.conftest import Cli


def test_a_store_comes_back_with_its_records(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    file = cli.folder / "one.backup"
    made = cli.json("backup", str(file))
    assert made["size_bytes"] == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    assert cli.json("backup", "--verify", str(file))["id"] == made["id"]
    assert "whole, of" in cli.run("backup", "--verify", str(file)).output
    assert "exists already" in cli.run("backup", str(file), code=1).output
    cli.run("tenants", "create", "later")
    assert "--force" in cli.run("restore", str(file), code=1).output
    done = cli.json("restore", str(file), "--force")
    assert Path(done["kept"]).is_file()
    assert [one["name"] for one in cli.json("tenants", "list")] == ["acme"]
    actions = [line["action"] for line in cli.json("audit", "search")]
    assert actions[-1] == "store.restore"
    assert cli.run("audit", "verify").exit_code == 0


def test_an_old_backup_opens_with_the_retired_key_or_a_copy_of_the_old_file(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    old = cli.folder / "old.key"
    shutil.copy(cli.folder / "data/vault.key", old)
    file = cli.folder / "one.backup"
    cli.run("backup", str(file))
    turned = cli.json("vault", "rotate")
    cli.run("vault", "retire", turned["from"], "--yes")
    assert cli.json("restore", str(file), "--force")["rewrapped"] > 0
    (cli.folder / "data/vault.key.retired").unlink()
    assert "--key-file" in cli.run("restore", str(file), "--force", code=1).output
    assert cli.json("restore", str(file), "--force", "--key-file", str(old))["rewrapped"] > 0
    assert len(cli.json("keys", "list")) == 1
    assert [one["id"] for one in cli.json("vault", "status")["keys"]] == [turned["to"]]


def test_what_cannot_be_is_one_line(cli: Cli, make_cli: Callable[..., Cli]) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    (cli.folder / "rubbish").write_bytes(b"rubbish")
    for words in (
        ("restore", str(cli.folder / "rubbish"), "--force"),
        ("restore", str(cli.folder / "nothing"), "--force"),
        ("backup", "--verify", str(cli.folder / "rubbish")),
        ("backup", str(cli.folder / "no folder" / "x")),
    ):
        output = cli.run(*words, code=1).output
        assert output.startswith("Error: ")
        assert output.count("\n") == 1, output
    memory = make_cli(CODEX_RELAY_STORE__URL="memory://")
    assert "keeps nothing that could be backed up" in memory.run("restore", "x", code=1).output
