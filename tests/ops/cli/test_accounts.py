"""``accounts`` as records: listed, explained, changed, removed, without a token ever shown."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.cli.opening import open_store
from ops.clock import SystemClock
from ops.sections.keep import StoreSettings, VaultSettings
from ops.settings import Settings
from store.base import Store
from store.records import (
    ROUTE,
    Account,
    AccountStatus,
    Credential,
    HealthRecord,
    RefreshState,
    Secret,
)
from tests.ops.cli.conftest import Cli

ACCESS = "access-S3cr3tS3cr3t"
REFRESH = "rt_S3cr3tS3cr3tS3cr3t"


def stored(cli: Cli, work: Callable[[Store], Any]) -> None:
    """Runs ``work`` on the store that the commands use."""
    settings = Settings(
        store=StoreSettings(url=f"sqlite:///{cli.folder}/data/relay.db"),
        vault=VaultSettings(key_file=Path(f"{cli.folder}/data/vault.key")),
    )

    async def inside() -> None:
        async with open_store(settings, SystemClock()) as store:
            await work(store)

    asyncio.run(inside())


def account(number: int, **changes: Any) -> Account:
    base = Account(id=f"acc_{number}", chatgpt_account_id=f"chatgpt-{number}", label=f"label-{number}")
    return replace(base, email=f"user{number}@example.com", plan="pro", **changes)


def credential(number: int, **changes: Any) -> Credential:
    return replace(
        Credential(f"acc_{number}", Secret(ACCESS), Secret(REFRESH), None, time.time() + 3600, time.time()), **changes
    )


@pytest.fixture
def two(cli: Cli) -> Cli:
    async def work(store: Store) -> None:
        for number in (1, 2):
            await store.add_account(account(number), credential(number))

    stored(cli, work)
    return cli


def rest(account_id: str, scope: str = "account", kind: str = "cooldown", **changes: Any) -> HealthRecord:
    now_s = time.time()
    record = HealthRecord(
        account_id, scope, kind, "usage_limit", "429 usage_limit_reached", now_s, now_s + 3600, now_s + 300, 1, "", "w",
        now_s,
    )  # fmt: skip
    return replace(record, **changes)


def test_no_command_shows_a_token(two: Cli) -> None:
    for command in (
        ("list",),
        ("show", "acc_1"),
        ("why", "acc_1"),
        ("set", "acc_1", "--pool", "p"),
        ("disable", "acc_1"),
    ):
        for form in ((), ("--json",)):
            output = two.run("accounts", *command, *form).output
            assert "S3cr3t" not in output
            assert "acc_1" in output


def test_an_account_is_named_by_id_label_or_address_and_an_ambiguous_name_is_refused(two: Cli) -> None:
    for name in ("acc_2", "label-2", "user2@example.com", "chatgpt-2"):
        assert two.json("accounts", "show", name)["id"] == "acc_2"
    two.run("accounts", "set", "acc_1", "--label", "label-2")
    assert "names 2 accounts" in two.run("accounts", "show", "label-2", code=1).stderr
    assert "accounts list shows the ids" in two.run("accounts", "show", "nope", code=1).stderr


def test_what_is_not_given_stays(two: Cli) -> None:
    before = two.json("accounts", "show", "acc_1")
    after = two.json("accounts", "set", "acc_1", "--weight", "3")
    assert after == before | {"weight": 3}
    two.run("accounts", "set", "acc_1", code=2)
    two.run("accounts", "set", "acc_1", "--weight", "0", code=2)


def test_a_disabled_account_says_so_until_it_is_enabled(two: Cli) -> None:
    two.run("accounts", "disable", "acc_1")
    assert [one["state"] for one in two.json("accounts", "list")] == ["disabled", "ready"]
    assert "accounts enable acc_1" in two.run("accounts", "why", "acc_1").stdout
    assert two.json("accounts", "enable", "acc_1")["state"] == "ready"
    assert [one["action"] for one in two.json("audit", "search")] == ["account.disable", "account.enable"]


def test_a_removed_account_is_gone_with_its_tokens(two: Cli) -> None:
    two.run("accounts", "remove", "acc_1", stdin="n\n", code=1)
    two.run("accounts", "remove", "acc_1", "--yes")
    assert [one["id"] for one in two.json("accounts", "list")] == ["acc_2"]


def test_why_names_every_ground_with_its_evidence_and_its_end(two: Cli) -> None:
    async def work(store: Store) -> None:
        await store.publish(
            [
                rest("acc_1"),
                rest("acc_1", "model:gpt-5", cause="model", evidence="400 not supported"),
                rest("acc_1", kind="breaker", cause="broken", state="open", evidence="5 resets"),
                rest(ROUTE, cause="route", evidence="dns_error"),
                rest("acc_2", until_s=time.time() - 1),
            ],
            [],
        )
        known = await store.account("acc_1")
        assert known is not None
        await store.put_account(
            replace(known, status=AccountStatus.NEEDS_REAUTH, status_reason="reused"), known.version
        )
        held = await store.credential("acc_1")
        assert held is not None
        uncertain = replace(held, expires_at_s=time.time() - 60, refresh_state=RefreshState.UNCERTAIN)
        await store.put_credential(uncertain, held.version)

    stored(two, work)
    why = two.json("accounts", "why", "acc_1")
    text = "\n".join(why["reasons"])
    assert why["state"] == "needs_reauth"
    for words in (
        "needs a login: reused", "the account rests until", "usage_limit, evidence: 429 usage_limit_reached",
        "model gpt-5 of the account rests", "has its breaker open", "evidence: 5 resets", "every account", "dns_error",
        "access token expired", "no answer came", "next probe in 4 min",
    ):  # fmt: skip
        assert words in text
    other = two.json("accounts", "why", "acc_2")
    assert [line for line in other["reasons"] if "route" not in line] == []
    assert two.json("accounts", "list")[1]["state"] == "ready"


def test_a_cooling_account_shows_when_it_is_back(two: Cli) -> None:
    async def work(store: Store) -> None:
        await store.publish([rest("acc_1")], [])

    stored(two, work)
    assert "in 59 min" in two.run("accounts", "list").stdout
    assert two.json("accounts", "show", "acc_1")["state"] == "cooling"


def test_hostile_labels_cannot_drive_the_terminal(cli: Cli) -> None:
    async def work(store: Store) -> None:
        await store.add_account(account(1, status_reason="\x1b[2J\r\nforged"), credential(1))

    stored(cli, work)
    for command in (("list",), ("show", "acc_1"), ("why", "acc_1")):
        output = cli.run("accounts", *command).output
        assert "\x1b" not in output
        assert "\nforged" not in output
    json.loads(cli.run("accounts", "show", "acc_1", "--json").stdout)


def test_an_empty_store_says_what_to_do_next(cli: Cli) -> None:
    assert "accounts import" in cli.run("accounts", "list").stderr


def test_a_store_in_memory_is_refused_with_the_setting_to_change(make_cli: Callable[..., Cli]) -> None:
    error = make_cli(CODEX_RELAY_STORE__URL="memory://").run("accounts", "list", code=1).stderr
    assert "store.url" in error
    assert error.count("\n") == 1


def test_a_lost_vault_key_is_one_line_and_nothing_is_made(two: Cli) -> None:
    (two.folder / "data" / "vault.key").unlink()
    error = two.run("accounts", "list", code=1).stderr
    assert "restore the key from its backup" in error
    assert not (two.folder / "data" / "vault.key").exists()
