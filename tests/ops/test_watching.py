"""An account needs a login: somebody hears of it, once, through the real door; and bad targets refuse the start."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.house_watch import webhook_settings
from ops.settings import Settings, SettingsError
from ops.simulator import running_simulator
from ops.webhooks import verify
from store.records import Secret
from tests.flow.stage import stage

SECRET = "0123456789abcdef0123456789abcdef"


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, asyncio.Queue[tuple[dict[str, str], bytes]]]]:
    """A server that takes every message, and the messages."""
    taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        taken.put_nowait((headers, body))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", taken


@pytest.mark.fault("B34")
async def test_a_login_that_is_needed_is_told_once_and_signed(tmp_path: Path) -> None:
    async with running_simulator() as simulator, receiver() as (url, taken):
        lost = simulator.state.new_account(account_id="acct-0", access_token_lifetime_s=-60)
        well = simulator.state.new_account(account_id="acct-1")
        simulator.state.end_refresh("acct-0")
        hooks = {"urls": [url], "secret": SECRET, "allow_private": ["127.0.0.0/8"]}
        async with stage(tmp_path, simulator.base_url, documents=[lost, well], webhooks=hooks) as scene:
            for _ in range(4):
                assert (await scene.relay()).status == 200
            headers, body = await asyncio.wait_for(taken.get(), 10)
            message = json.loads(body)
            assert message["type"] == "alert.needs_reauth"
            assert message["data"] == {"alert": "needs_reauth", "account": scene.accounts[0].id}
            assert verify(
                Secret(SECRET), headers["x-codex-relay-signature"], message["id"], body, message["created_at_s"]
            )
            for _ in range(4):
                assert (await scene.relay()).status == 200
            assert await scene.metric("relay_alerts_total", kind="needs_reauth") == 1
            await scene.gateway.gateway.background.beside[0][0]()
            assert await scene.metric("relay_webhooks_total", result="delivered") == 1
            assert taken.empty()


@pytest.mark.parametrize(
    "given",
    [
        {"urls": ["https://hooks.example.com/"]},
        {"urls": ["https://hooks.example.com/"], "secret": "short"},
        {"urls": ["http://hooks.example.com/"], "secret": SECRET},
        {"urls": ["https://hooks.example.com/"], "secret": SECRET, "allow_private": ["10.0.0.0/99"]},
    ],
)
def test_what_cannot_be_signed_or_sent_refuses_the_start(given: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="webhooks"):
        webhook_settings(Settings(webhooks=given))
