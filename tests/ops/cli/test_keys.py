"""``keys``: made, shown once, listed without themselves, revoked."""

from __future__ import annotations

import re
import sqlite3

from tests.ops.cli.conftest import Cli


def test_a_key_is_printed_once_and_kept_nowhere(cli: Cli) -> None:
    made = cli.json("keys", "create", "--tenant", "acme", "--name", "ci")
    key = made["key"]
    assert re.fullmatch(r"at-cr-[a-z0-9]{12}-[A-Za-z0-9]{43}", key)
    assert key.startswith(f"at-cr-{made['id']}-")
    assert made["tenant"] == "acme"
    secret = key.rpartition("-")[2]
    for command in (("keys", "list"), ("keys", "list", "--json"), ("audit", "search", "--json"), ("tenants", "list")):
        assert secret not in cli.run(*command).output
    for file in (cli.folder / "data").iterdir():
        assert secret.encode() not in file.read_bytes()


def test_without_json_the_key_alone_is_on_standard_output(cli: Cli) -> None:
    result = cli.run("keys", "create", "--tenant", "acme")
    assert re.fullmatch(r"at-cr-\S+\n", result.stdout)
    assert "shown this once" in result.stderr


def test_a_new_tenant_is_made_and_a_known_one_is_used(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    cli.run("keys", "create", "--tenant", "acme")
    (tenant,) = cli.json("tenants", "list")
    cli.run("keys", "create", "--tenant", tenant["id"])
    assert [(one["name"], one["keys"]) for one in cli.json("tenants", "list")] == [("acme", 3)]


def test_every_limit_reaches_the_record(cli: Cli) -> None:
    cli.run(
        "keys", "create", "--tenant", "acme", "--name", "ci", "--models", "a, b,a", "--expires", "90d", "--rpm", "60",
        "--streams", "4", "--scopes", "relay,metrics",
    )  # fmt: skip
    (key,) = cli.json("keys", "list", "--tenant", "acme")
    assert key["models"] == ["a", "b"]
    assert key["scopes"] == ["metrics", "relay"]
    assert key["requests_per_minute"] == 60
    assert key["concurrent_streams"] == 4
    assert key["expires_at_s"] - key["created_at_s"] == 90 * 86_400
    assert key["state"] == "live"


def test_a_revoked_key_stays_on_record_as_revoked(cli: Cli) -> None:
    made = cli.json("keys", "create", "--tenant", "acme")
    assert "Revoke" in cli.run("keys", "revoke", made["id"], stdin="n\n", code=1).output
    assert cli.json("keys", "list")[0]["state"] == "live"
    cli.run("keys", "revoke", made["id"], "--yes")
    cli.run("keys", "revoke", made["id"], "--yes")
    assert cli.json("keys", "list")[0]["state"] == "revoked"
    actions = [one["action"] for one in cli.json("audit", "search", "--action", "key.*")]
    assert actions == ["key.create", "key.revoke"]


def test_wrong_use_is_2_and_what_cannot_be_done_is_1_with_the_next_step(cli: Cli) -> None:
    assert "no key 'nope'; codex-relay keys list" in cli.run("keys", "revoke", "nope", "--yes", code=1).stderr
    assert "unknown scope" in cli.run("keys", "create", "--tenant", "a", "--scopes", "root", code=2).stderr
    assert "90d" in cli.run("keys", "create", "--tenant", "a", "--expires", "soon", code=2).stderr
    cli.run("keys", "create", code=2)


def test_nothing_is_made_when_the_audit_log_cannot_be_written(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    holder = sqlite3.connect(cli.folder / "data" / "relay.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    cli.environment["CODEX_RELAY_STORE__BUSY_TIMEOUT_S"] = "0.1"
    try:
        assert cli.run("keys", "create", "--tenant", "acme", code=1).stderr.count("\n") == 1
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert len(cli.json("keys", "list")) == 1
