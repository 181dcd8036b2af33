"""``vault``: what is under which key, a rotation, the end of a key; no key is ever printed."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from tests.ops.cli.conftest import Cli


def keys_in(path: Path) -> list[str]:
    return path.read_text().split()


def test_a_new_key_takes_over_and_the_old_one_is_retired(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    (first,) = cli.json("vault", "status")["keys"]
    assert (first["role"], first["may_retire"]) == ("seals", False)
    assert first["tables"] == {"audit_head": 1, "sealed_values": 2}
    done = cli.json("vault", "rotate")
    assert (done["from"], done["left"], done["broken"]) == (first["id"], 0, [])
    status = cli.json("vault", "status")
    assert {one["id"]: (one["role"], one["rows"], one["may_retire"]) for one in status["keys"]} == {
        done["to"]: ("seals", 3, False),
        first["id"]: ("opens", 0, True),
    }
    assert status["rotation"] is None
    text = cli.run("vault", "status").output
    assert first["id"] in text
    assert "yes" in text
    for words in (("vault", "retire", done["to"], "--yes"), ("vault", "retire", "00" * 8, "--yes")):
        assert "Error: " in cli.run(*words, code=1).output
    cli.run("vault", "retire", "nonsense", "--yes", code=2)
    cli.run("vault", "retire", first["id"], code=1, stdin="n\n")
    kept = Path(cli.json("vault", "retire", first["id"], "--yes")["kept_in"])
    assert [one["id"] for one in cli.json("vault", "status")["keys"]] == [done["to"]]
    assert len(keys_in(kept)) == 1
    actions = [line["action"] for line in cli.json("audit", "search", "--action", "vault.*")]
    assert actions[-1] == "vault.retire"
    assert "vault.rotate" in actions
    for shown in (("vault", "status"), ("vault", "rotate"), ("audit", "search")):
        output = cli.run(*shown).output
        for key in (*keys_in(cli.folder / "data/vault.key"), *keys_in(kept)):
            assert key not in output


def test_a_key_can_be_added_first_and_promoted_later(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    added = cli.json("vault", "rotate", "--add")
    assert added["left"] is None
    assert "under way" in cli.run("vault", "status").output
    assert cli.json("vault", "status")["rotation"]["to"] == added["to"]
    done = cli.json("vault", "rotate")
    assert (done["to"], done["resumed"], done["left"]) == (added["to"], True, 0)


def test_keys_of_the_operator_are_swept_and_not_changed(make_cli: Callable[..., Cli]) -> None:
    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    cli = make_cli(CODEX_RELAY_VAULT__PROVIDER="env", CODEX_RELAY_VAULT__KEY=old)
    cli.run("keys", "create", "--tenant", "acme")
    (first,) = cli.json("vault", "status")["keys"]
    turned = make_cli(CODEX_RELAY_VAULT__PROVIDER="env", CODEX_RELAY_VAULT__KEY=f"{new} {old}")
    assert "codex-relay vault rotate" in turned.run("vault", "status").output
    assert turned.json("vault", "rotate")["left"] == 0
    assert "not ours to change" in turned.run("vault", "retire", first["id"], "--yes", code=1).output
    assert "--add is for keys" in turned.run("vault", "rotate", "--add", code=1).output
    ended = make_cli(CODEX_RELAY_VAULT__PROVIDER="env", CODEX_RELAY_VAULT__KEY=new)
    assert len(ended.json("keys", "list")) == 1
