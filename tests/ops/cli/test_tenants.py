"""``tenants``: made, changed, removed with their keys."""

from __future__ import annotations

from tests.ops.cli.conftest import Cli


def test_a_tenant_is_made_shown_and_changed_field_by_field(cli: Cli) -> None:
    made = cli.json("tenants", "create", "acme", "--rpm", "100", "--pools", "a,b")
    assert cli.json("tenants", "show", "acme") == made
    changed = cli.json("tenants", "set", "acme", "--streams", "5", "--disable")
    assert changed == made | {"concurrent_streams": 5, "enabled": False}
    changed = cli.json("tenants", "set", made["id"], "--rpm", "0", "--pools", "", "--enable", "--name", "ACME")
    assert changed == made | {"concurrent_streams": 5, "requests_per_minute": None, "pools": [], "name": "ACME"}


def test_a_name_is_taken_once(cli: Cli) -> None:
    cli.run("tenants", "create", "acme")
    assert cli.run("tenants", "create", "acme", code=1).stderr.count("\n") == 1


def test_removing_asks_first_and_takes_the_keys_along(cli: Cli) -> None:
    cli.run("keys", "create", "--tenant", "acme")
    cli.run("tenants", "remove", "acme", stdin="n\n", code=1)
    assert len(cli.json("keys", "list")) == 1
    cli.run("tenants", "remove", "acme", stdin="y\n")
    assert cli.json("keys", "list") == []
    assert cli.json("tenants", "list") == []


def test_an_unknown_tenant_is_one_line_with_the_next_step(cli: Cli) -> None:
    for command in (("show", "x"), ("set", "x", "--rpm", "1"), ("remove", "x", "--yes")):
        error = cli.run("tenants", *command, code=1).stderr
        assert error.splitlines()[-1] == "Error: no tenant 'x'; codex-relay tenants list shows the names"
