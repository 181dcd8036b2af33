"""``audit``: search, verify, export; a broken chain is found."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3

from tests.ops.cli.conftest import Cli


def test_acts_are_found_by_action_tenant_and_time_with_the_user_who_did_them(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    cli.run("keys", "create", "--tenant", "other")
    mine = cli.json("audit", "search", "--tenant", "acme", "--since", "1h")
    assert [one["action"] for one in mine] == ["tenant.create", "key.create"]
    assert {one["actor"] for one in mine} == {f"cli:{pwd.getpwuid(os.getuid()).pw_name}"}
    assert [one["action"] for one in cli.json("audit", "search", "--action", "tenant.*")] == ["tenant.create"] * 2
    assert len(cli.json("audit", "search", "--limit", "1")) == 1
    assert "tenant.create" in cli.run("audit", "search").stdout


def test_a_failed_act_is_on_record_as_failed(cli: Cli) -> None:
    cli.run("tenants", "create", "acme")
    cli.run("tenants", "create", "acme", code=1)
    assert [one["outcome"] for one in cli.json("audit", "search")] == ["ok", "failed"]


def test_an_export_holds_every_record_with_its_place_in_the_chain(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    file = cli.folder / "audit.jsonl"
    cli.run("audit", "export", "--output", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [1, 2]
    assert lines[1]["prev_hash"] == lines[0]["hash"]
    assert len(cli.run("audit", "export").stdout.splitlines()) == 3
    cli.run("audit", "export", "--output", str(cli.folder / "no" / "where"), code=1)


def test_verify_says_whole_and_finds_a_record_that_was_removed(cli: Cli) -> None:
    for name in ("a", "b", "c"):
        cli.run("tenants", "create", name)
    assert cli.json("audit", "verify") == {"records": 3, "whole": True, "problem": None}
    with sqlite3.connect(cli.folder / "data" / "relay.db") as db:
        (table,) = db.execute("SELECT name FROM sqlite_master WHERE type='table' AND name LIKE '%audit%'").fetchone()
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute(f"DELETE FROM {table} WHERE seq = 2")
    broken = cli.run("audit", "verify", code=1)
    assert "broken after 1 records" in broken.stderr


def test_with_the_audit_log_turned_off_nothing_is_recorded(cli: Cli) -> None:
    cli.environment["CODEX_RELAY_AUDIT__ENABLED"] = "false"
    cli.run("tenants", "create", "acme")
    assert cli.json("audit", "search") == []
