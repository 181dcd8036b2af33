"""Accounts over HTTP: told without tokens, changed by compare-and-put, asked about, and removed by their label."""

from __future__ import annotations

import pytest

from auth.errors import NeedsReauth, RefreshUnavailable
from auth.roles import Role
from gateway.admin.routes import API
from store.errors import SealBroken
from store.records import Credential, HealthRecord
from tests.fakes.records import NOW_S
from tests.gateway.admin.rig import House
from upstream.errors import FaultKind, UpstreamError

SECRETS = (b"access-of", b"refresh-of", b"identity-of")


def rest(account_id: str, cause: str = "usage_limit") -> HealthRecord:
    return HealthRecord(
        account_id, "account", "cooldown", cause, "429 usage_limit_reached", NOW_S, NOW_S + 3600, NOW_S + 300, 1, "",
        "w", NOW_S,
    )  # fmt: skip


async def test_an_account_is_told_with_its_reasons_and_without_its_tokens() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.AUDITOR)
    await house.store.publish([rest("acct-1")], [])
    await house.used("acct-1", 3)
    line = await house.ask("GET", f"{API}/accounts/acct-1", owner)
    shown = line.json
    assert (shown["state"], shown["status"], shown["pool"], shown["weight"]) == ("cooling", "active", "blue", 3)
    assert "usage_limit, evidence: 429 usage_limit_reached" in shown["reasons"][0]
    assert shown["blocks"] == [
        {
            "scope": "account", "kind": "cooldown", "cause": "usage_limit", "evidence": "429 usage_limit_reached",
            "since_at_s": NOW_S, "until_at_s": NOW_S + 3600, "next_probe_at_s": NOW_S + 300,
        }
    ]  # fmt: skip
    assert (shown["requests"], shown["input_tokens"], shown["output_tokens"]) == (3, 30, 6)
    listed = await house.ask("GET", f"{API}/accounts", owner)
    assert [one["id"] for one in listed.json["items"]] == ["acct-1", "acct-2"]
    assert not [secret for secret in SECRETS if secret in line.body + listed.body]


async def test_a_change_touches_what_is_named_and_only_from_what_was_read() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    path = f"{API}/accounts/acct-1"
    changed = (await house.ask("PATCH", path, owner, {"label": "mine", "version": 1})).json
    assert (changed["label"], changed["pool"], changed["enabled"], changed["version"]) == ("mine", "blue", True, 2)
    stale = await house.ask("PATCH", path, owner, {"enabled": False, "version": 1})
    assert (stale.status, stale.code) == (409, "conflict")
    for body in (
        {"status": "active"},
        {"email": "x@y"},
        {"chatgpt_account_id": "x"},
        {"workspace_origin": "https://e"},
    ):
        assert (await house.ask("PATCH", path, owner, body)).code == "invalid_request"
    assert [outcome for *_, outcome in await house.audited("account.set")] == ["ok", "failed"]


@pytest.mark.parametrize(("allowed", "state"), [(True, "ready"), (False, "cooling")])
async def test_a_probe_notes_the_windows_and_ends_a_rest_without_ground(allowed: bool, state: str) -> None:
    house = await House().furnish()
    house.world.allowed = allowed
    owner = await house.person("root", Role.OWNER)
    await house.store.publish([rest("acct-1")], [])
    shown = (await house.ask("POST", f"{API}/accounts/acct-1/probe", owner)).json
    assert shown["state"] == state
    assert [(one["name"], one["used_percent"]) for one in shown["windows"]] == [("primary", 12.0)]
    record = (await house.store.search_audit(action="account.probe"))[0]
    assert dict(record.detail) == {"allowed": allowed, "ended": int(allowed)}


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (NeedsReauth("the issuer refused the refresh token"), 409, "conflict"),
        (RefreshUnavailable("the issuer does not answer"), 502, "upstream_error"),
        (UpstreamError(FaultKind.CONNECT, "refused"), 502, "upstream_error"),
    ],
)
async def test_what_the_outside_refuses_is_told_with_its_cause(fault: Exception, status: int, code: str) -> None:
    house = await House().furnish()
    house.world.fault = fault
    owner = await house.person("root", Role.OWNER)
    line = await house.ask("POST", f"{API}/accounts/acct-1/refresh", owner)
    assert (line.status, line.code) == (status, code)
    assert str(fault) in line.json["error"]["message"]
    assert await house.audited() == [("admin:root", "account.refresh", "failed")]


async def test_an_account_goes_by_its_label_and_its_login_is_given_back() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    path = f"{API}/accounts/acct-1"
    assert (await house.ask("DELETE", path, owner, {"confirm": "acct-1"})).status == 400
    gone = await house.ask("DELETE", path, owner, {"confirm": "label of acct-1"})
    assert gone.json == {"id": "acct-1", "revoked": True}
    assert (house.world.revoked, house.world.forgotten) == (["refresh-of-acct-1"], ["acct-1"])
    assert (await house.ask("GET", path, owner)).status == 404


async def test_an_account_whose_tokens_do_not_open_is_shown_and_can_go() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)

    async def broken(account_id: str) -> Credential | None:
        raise SealBroken("altered")

    house.store.credential = broken  # type: ignore[method-assign]
    shown = (await house.ask("GET", f"{API}/accounts/acct-1", owner)).json
    assert shown["reasons"] == ["it has no credential; import its auth.json again"]
    gone = await house.ask("DELETE", f"{API}/accounts/acct-1", owner, {"confirm": "label of acct-1"})
    assert gone.json == {"id": "acct-1", "revoked": False}


async def test_a_label_is_not_in_the_audit_log_and_a_pool_is() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    await house.ask("PATCH", f"{API}/accounts/acct-1", owner, {"label": "a secret plan", "pool": "green"})
    record = (await house.store.search_audit(action="account.set"))[0]
    assert dict(record.detail) == {"pool": "green", "relabelled": True}
    assert record.target == "acct-1"
