"""``admins``: the first owner's link in a file of the operator's, people made, reset and removed, all on record."""

from __future__ import annotations

import asyncio
import re
import stat
from pathlib import Path

import pytest

from auth.admins import Admin, AdminDirectory
from auth.errors import LinkInvalid
from auth.passwords import Passwords
from auth.roles import Role
from auth.signin import SignIn
from auth.throttle import LoginThrottle
from ops.cli.opening import open_store
from ops.clock import SystemClock
from ops.sections.keep import StoreSettings, VaultSettings
from ops.settings import Settings
from store.records import Secret
from tests.auth.people import CHEAP, GOOD
from tests.ops.cli.conftest import Cli

TOKEN = re.compile(r"http://127\.0\.0\.1:8080/console/link#((?:bootstrap|adm_[0-9a-f]{16})\.[A-Za-z0-9_-]{43})\n?")


def token_of(link: str) -> Secret:
    match = TOKEN.fullmatch(link)
    assert match is not None
    return Secret(match[1])


def redeem(cli: Cli, token: Secret, name: str | None = None) -> Admin:
    """What the page of the link does, in another process's stead."""

    async def body() -> Admin:
        settings = Settings(
            store=StoreSettings(url=cli.environment["CODEX_RELAY_STORE__URL"]),
            vault=VaultSettings(key_file=Path(cli.environment["CODEX_RELAY_VAULT__KEY_FILE"])),
        )
        clock = SystemClock()
        async with open_store(settings, clock) as store:
            throttle = LoginThrottle(store, clock, failures=5, wait_s=60)
            directory = AdminDirectory(store, clock)
            sign_in = SignIn(store, directory, Passwords(CHEAP), throttle, clock, require_totp=False, link_ttl_s=3600)
            admin = await sign_in.redeem(token, name, GOOD)
            await sign_in.password(admin.name, GOOD, None, address="192.0.2.7")
            return admin

    return asyncio.run(body())


def bootstrapped(cli: Cli, name: str = "ann") -> Admin:
    return redeem(cli, token_of(Path(cli.run("admins", "bootstrap").stdout.strip()).read_text()), name)


def test_the_first_owners_link_is_in_a_file_of_the_operators_and_nowhere_else(cli: Cli) -> None:
    result = cli.run("admins", "bootstrap")
    path = Path(result.stdout.strip())
    assert path == cli.folder / "data" / "relay.db.first-sign-in"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = token_of(path.read_text())
    secret = token.reveal().partition(".")[2]
    assert secret not in result.output
    for file in (cli.folder / "data").iterdir():
        assert file == path or secret.encode() not in file.read_bytes()
    assert secret not in cli.run("audit", "search", "--json").output
    owner = redeem(cli, token, "Ann")
    assert (owner.name, owner.role) == ("ann", Role.OWNER)
    with pytest.raises(LinkInvalid):
        redeem(cli, token, "eve")


def test_a_second_link_voids_the_first_and_an_owner_voids_both(cli: Cli) -> None:
    first = token_of(Path(cli.run("admins", "bootstrap").stdout.strip()).read_text())
    shown = cli.json("admins", "bootstrap")
    assert shown["expires_in_s"] == 3600
    second = token_of(Path(shown["file"]).read_text())
    with pytest.raises(LinkInvalid):
        redeem(cli, first, "eve")
    redeem(cli, second, "ann")
    refused = cli.run("admins", "bootstrap", code=1)
    assert "admins reset NAME" in refused.stderr
    assert [one["outcome"] for one in cli.json("audit", "search", "--action", "admin.bootstrap")] == [
        "ok",
        "ok",
        "failed",
    ]


def test_the_link_is_never_written_through_what_somebody_put_in_its_place(cli: Cli) -> None:
    cli.run("tenants", "list")
    place, elsewhere = cli.folder / "data" / "relay.db.first-sign-in", cli.folder / "elsewhere"
    elsewhere.write_text("mine")
    elsewhere.chmod(0o644)
    place.symlink_to(elsewhere)
    assert "clear the way" in cli.run("admins", "bootstrap", code=1).stderr
    assert elsewhere.read_text() == "mine"
    place.unlink()
    place.mkdir()
    assert "clear the way" in cli.run("admins", "bootstrap", code=1).stderr
    place.rmdir()
    place.write_text("an older link")
    place.chmod(0o644)
    cli.run("admins", "bootstrap")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_person_is_made_with_a_link_that_is_shown_once(cli: Cli) -> None:
    result = cli.run("admins", "create", "Bob@Example.org", "--role", "auditor")
    assert "shown this once" in result.stderr
    token = token_of(result.stdout)
    assert redeem(cli, token).name == "bob@example.org"
    secret = token.reveal().partition(".")[2]
    for command in (("admins", "list"), ("admins", "list", "--json"), ("audit", "search", "--json")):
        assert secret not in cli.run(*command).output
    (listed,) = cli.json("admins", "list")
    assert (listed["role"], listed["enabled"], listed["sso"], listed["tenant_id"]) == ("auditor", True, False, None)
    assert listed["last_login_at_s"] is not None
    assert "bob@example.org" in cli.run("admins", "list").stdout


def test_a_member_is_bound_to_his_tenant(cli: Cli) -> None:
    tenant = cli.json("tenants", "create", "acme")
    made = cli.json("admins", "create", "max", "--role", "member", "--tenant", "acme")
    assert made["tenant_id"] == tenant["id"]
    token_of(made["link"])
    assert (
        "no tenant 'nope'" in cli.run("admins", "create", "m2", "--role", "member", "--tenant", "nope", code=1).stderr
    )


def test_a_reset_voids_the_password_and_lets_back_in(cli: Cli) -> None:
    owner = bootstrapped(cli)
    assert "Take the password" in cli.run("admins", "reset", "ann", stdin="n\n", code=1).output
    token = token_of(cli.run("admins", "reset", "ANN", "--yes").stdout)
    assert redeem(cli, token).id == owner.id
    by_id = token_of(cli.json("admins", "reset", owner.id, "--yes")["link"])
    assert redeem(cli, by_id).id == owner.id


def test_the_last_owner_is_not_removed(cli: Cli) -> None:
    bootstrapped(cli)
    assert "last enabled owner" in cli.run("admins", "remove", "ann", "--yes", code=1).stderr
    cli.run("admins", "create", "bob", "--role", "owner")
    assert "Remove ann (owner)?" in cli.run("admins", "remove", "ann", stdin="n\n", code=1).output
    assert cli.json("admins", "remove", "ann", "--yes")["removed"] is True
    assert [one["name"] for one in cli.json("admins", "list")] == ["bob"]
    actions = [(one["action"], one["outcome"]) for one in cli.json("audit", "search", "--action", "admin.*")]
    assert actions == [
        ("admin.bootstrap", "ok"),
        ("admin.remove", "failed"),
        ("admin.create", "ok"),
        ("admin.remove", "ok"),
    ]


def test_wrong_use_is_2_and_what_cannot_be_done_is_1_with_the_next_step(cli: Cli) -> None:
    assert "admins list" in cli.run("admins", "reset", "nobody", "--yes", code=1).stderr
    assert "admins list" in cli.run("admins", "remove", "nobody", "--yes", code=1).stderr
    assert "1 to 64" in cli.run("admins", "create", "a b", "--role", "admin", code=1).stderr
    cli.run("admins", "create", "bob", "--role", "admin")
    assert "is taken" in cli.run("admins", "create", "BOB", "--role", "admin", code=1).stderr
    cli.run("admins", "create", "eve", "--role", "root", code=2)
    cli.run("admins", "create", "eve", code=2)


@pytest.mark.parametrize(
    ("environment", "begin"),
    [
        ({"CODEX_RELAY_SERVER__PUBLIC_URL": "https://relay.example/"}, "https://relay.example/console/link#"),
        ({"CODEX_RELAY_SERVER__HOST": "0.0.0.0"}, "http://127.0.0.1:8080/console/link#"),
        ({"CODEX_RELAY_SERVER__HOST": "::1", "CODEX_RELAY_SERVER__PORT": "9"}, "http://[::1]:9/console/link#"),
    ],
)
def test_the_link_leads_to_where_the_console_is(cli: Cli, environment: dict[str, str], begin: str) -> None:
    cli.environment.update(environment)
    assert cli.run("admins", "create", "bob", "--role", "admin").stdout.startswith(begin)
