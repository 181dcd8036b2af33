"""Documents over HTTP: several at once, each with its outcome, and not a token in any answer or record."""

from __future__ import annotations

import json

from auth.roles import Role
from gateway.admin.routes import API
from tests.fakes.logins import auth_json
from tests.gateway.admin.good import document
from tests.gateway.admin.rig import House

PATH = f"{API}/accounts/import"


async def test_each_document_has_its_own_outcome_and_nothing_is_echoed() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    good = document(house)
    documents = [
        {"name": "good.json", "content": good},
        {"name": "bad\u202e.json", "content": '{"OPENAI_API_KEY":"sk-verysecretverysecret"}'},
        {"name": "none", "content": ""},
        {"name": "wide", "content": "ä" * 600_000},
    ]
    line = await house.ask("POST", PATH, owner, {"documents": documents, "pool": "green", "label": "team"})
    items = line.json["items"]
    assert [one["outcome"] for one in items] == ["imported", "refused", "refused", "refused"]
    assert (items[1]["source"], items[3]["code"]) == ("bad?.json", "too_large")
    account = next(one for one in await house.store.accounts() if one.id == items[0]["account_id"])
    assert (account.pool, account.label) == ("green", "team-1")
    told = line.body.decode() + repr(await house.store.search_audit())
    tokens = json.loads(good)["tokens"]
    assert not [secret for secret in (tokens["access_token"], "rt.import", "verysecret") if secret in told]
    assert [outcome for *_, outcome in await house.audited("account.import")] == ["imported", *["refused"] * 3]


async def test_a_dry_run_says_what_would_happen() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    content = json.dumps(auth_json("chatgpt-dry", house.clock.now_s()))
    body = {"documents": [{"name": "a", "content": content}], "dry_run": True}
    line = await house.ask("POST", PATH, owner, body)
    assert "would be imported" in line.json["items"][0]["message"]
    assert len(await house.store.accounts()) == 2
    assert await house.audited() == []
