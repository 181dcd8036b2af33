"""The admin API through the front door of a whole gateway: from the first owner's link to an account's last day."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from auth.admins import AdminDirectory
from ops.embedded import Embedded, embedded_gateway
from ops.house_admin import sign_in
from ops.settings import Settings
from ops.simulator import RunningSimulator, running_simulator
from tests.flow.stage import settings_for

PASSWORD = "a plain long password"


class Browser:
    """Keeps cookies, and brings token and origin along as the console does."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.client = client
        self.headers = {"origin": url}

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        content = {} if body is None else {"json": body}
        return await self.client.request(method, f"/admin/api/{path}", headers=self.headers, **content)

    async def begin(self, gateway: Embedded, settings: Settings) -> None:
        """The first owner comes in by his link."""
        store = gateway.gateway.store
        door = sign_in(settings, store, AdminDirectory(store, gateway.clock), gateway.clock)
        token = (await door.bootstrap()).reveal()
        answer = await self.ask("POST", "bootstrap", {"token": token, "name": "root", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.headers["x-csrf-token"] = answer.json()["csrf_token"]


@pytest.fixture
async def sim() -> AsyncIterator[RunningSimulator]:
    async with running_simulator() as running:
        yield running


async def test_an_account_comes_in_serves_is_asked_about_and_leaves(sim: RunningSimulator, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, sim.base_url)
    async with (
        embedded_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=20) as client,
    ):
        browser = Browser(client, gateway.url)
        await browser.begin(gateway, settings)
        login = sim.state.new_account(email="owner@example.com")
        documents = [{"name": "auth.json", "content": json.dumps(login)}]
        taken = (await browser.ask("POST", "accounts/import", {"documents": documents})).json()["items"][0]
        assert taken["outcome"] == "imported"
        path = f"accounts/{taken['account_id']}"
        probed = (await browser.ask("POST", f"{path}/probe")).json()
        assert {one["name"] for one in probed["windows"]} == {"primary", "secondary"}
        refreshed = await browser.ask("POST", f"{path}/refresh")
        assert refreshed.json()["refresh_state"] == "ready"

        await browser.ask("POST", "tenants", {"name": "team"})
        made = (await browser.ask("POST", "keys", {"tenant": "team"})).json()
        await gateway.gateway.background.share()
        bearer = {"authorization": f"Bearer {made['key']}"}
        call = {"model": "gpt-5.5", "input": "hello", "stream": False}
        served = await client.post("/v1/responses", json=call, headers=bearer)
        assert served.status_code == 200, served.text
        lesser = await client.get("/admin/api/accounts", headers=bearer)
        assert (lesser.status_code, lesser.json()["error"]["code"]) == (403, "forbidden")
        await browser.ask("DELETE", f"keys/{made['record']['id']}")
        await gateway.gateway.background.share()
        assert (await client.get("/v1/models", headers=bearer)).status_code == 401

        gone = (await browser.ask("DELETE", path, {"confirm": "owner@example.com"})).json()
        assert gone == {"id": taken["account_id"], "revoked": True}
        items = (await browser.ask("GET", "audit")).json()["items"]
        acts = [one["action"] for one in items if one["actor"] == "admin:root" and one["action"] != "request.admin"]
        assert acts == [
            "link.redeem", "account.import", "account.probe", "account.refresh", "tenant.create", "key.create",
            "key.revoke", "account.remove",
        ]  # fmt: skip
        told = json.dumps(items) + (await client.get("/metrics")).text
        tokens = (login["tokens"][name] for name in ("access_token", "refresh_token", "account_id"))
        assert not [value for value in tokens if value in told]
        assert 'relay_requests_total{outcome="ok",route="admin",status_class="2xx"}' in told


async def test_a_device_login_goes_from_code_to_account(sim: RunningSimulator, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, sim.base_url)
    async with (
        embedded_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=20) as client,
    ):
        browser = Browser(client, gateway.url)
        await browser.begin(gateway, settings)
        made = (await browser.ask("POST", "logins", {"kind": "device"})).json()
        assert made["user_code"]
        assert made["verification_url"].startswith(sim.issuer)
        seen = (await browser.ask("GET", f"logins/{made['id']}")).json()
        assert (seen["state"], seen["user_code"]) == ("pending", made["user_code"])


async def test_without_the_admin_part_there_is_nothing_behind_its_doors(sim: RunningSimulator, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, sim.base_url, admin={"enabled": False})
    async with (
        embedded_gateway(settings) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        for path in ("/admin/api", "/admin/api/session", "/console", "/console/oidc/start"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
        assert (await client.get("/v1/models")).status_code == 503, "no key exists yet: closed"


async def test_the_console_is_served_and_the_doors_keep_the_frames(sim: RunningSimulator, tmp_path: Path) -> None:
    async with (
        embedded_gateway(settings_for(tmp_path, sim.base_url)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client,
    ):
        page = await client.get("/console")
        assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
        assert page.headers["x-request-id"]
        foreign = await client.get("/console", headers={"host": "relay.example.com"})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "https_required")
        gateway.gateway.inflight.draining = True
        assert (await client.get("/admin/api/sign-in")).json()["error"]["code"] == "draining"
        gateway.gateway.inflight.draining = False
