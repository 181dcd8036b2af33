"""``codex-relay demo``: the main job on embedded defaults, no account needed.

A simulator, three simulated accounts imported the ordinary way, a gateway with a key, and one streamed request
through it. Everything is on loopback and in a temporary directory, and gone afterwards. What is printed is what a
client saw: the text as it streamed, which account answered, the request id, the count of events.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec
import uvloop

from ops.embedded import Embedded, embedded_gateway
from ops.log import configure
from ops.sections.keep import StoreSettings, VaultSettings
from ops.sections.relay import OAuthSettings, ServerSettings, UpstreamSettings
from ops.settings import Settings, SettingsError
from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator

ACCOUNTS: Final = 3
PLAN: Final = "events=24,delay_ms=40"
"""What the simulated model does unless a prompt says otherwise: slow enough to see it stream."""
PROMPT: Final = "Say hello to the three accounts behind this door."
MODEL: Final = "gpt-5.5"


class DemoFailed(Exception):
    """The request did not come through."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the client saw of one streamed request."""

    account: str
    request_id: str
    events: int


def run(*, once: bool, port: int) -> int:
    """Streams one request through; stays up unless ``once``. 0 when the text arrived whole, 130 after a signal."""
    configure("error", "console")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_demo(once, port))
        except (KeyboardInterrupt, asyncio.CancelledError):
            return 130
        except (DemoFailed, SettingsError) as error:
            print(f"codex-relay: {error}", file=sys.stderr)  # noqa: T201 - the operator's terminal
            return 1


async def _demo(once: bool, port: int) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # SIGINT does so by itself
    with tempfile.TemporaryDirectory(prefix="codex-relay-demo-") as folder:
        async with (
            running_simulator(SimulatorConfig(plan=PLAN)) as simulator,
            embedded_gateway(demo_settings(simulator, Path(folder), port)) as gateway,
        ):
            return await _show(simulator, gateway, once)


def demo_settings(simulator: RunningSimulator, folder: Path, port: int) -> Settings:
    """Embedded defaults, but for where the upstream is and where the records rest."""
    return Settings(
        server=ServerSettings(port=port, drain_delay_s=0),
        upstream=UpstreamSettings(base_url=simulator.base_url, chatgpt_base_url=simulator.chatgpt_base_url),
        oauth=OAuthSettings(issuer=simulator.issuer),
        store=StoreSettings(url=f"sqlite:///{folder}/relay.db"),
        vault=VaultSettings(key_file=folder / "vault.key"),
    )


async def _show(simulator: RunningSimulator, gateway: Embedded, once: bool) -> int:
    imported = await gateway.import_accounts([simulator.state.new_account() for _ in range(ACCOUNTS)])
    secret, _ = await gateway.make_key()
    key = secret.reveal()
    _say(f"gateway    {gateway.url} with {len(imported)} simulated accounts behind it")
    _say(f"client     POST {gateway.url}/v1/responses, stream: true\n")
    shown = await _stream(gateway.url, key)
    _say(f"\n\naccount    {shown.account} (one of {', '.join(str(one.account_id) for one in imported)})")
    _say(f"request    {shown.request_id}")
    _say(f"events     {shown.events}, the last of them response.completed")
    if once:
        return 0
    _say(f"\nbase_url   {gateway.url}/v1\nkey        {key}\n")
    _say(f"try it     curl -N {gateway.url}/v1/responses -H 'Authorization: Bearer {key}' \\")
    _say(f"             -H 'Content-Type: application/json' -d '{_body().decode()}'")
    _say("stop       Ctrl-C")
    gateway.stop.on_signals()
    await gateway.stop.drain.wait()
    return 0


async def _stream(url: str, key: str) -> Shown:
    """One request, its text printed as it comes."""
    events, last = 0, ""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as client,
        client.stream("POST", f"{url}/v1/responses", content=_body(), headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise DemoFailed(f"the gateway answered {answer.status_code}: {(await answer.aread()).decode()}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = msgspec.json.decode(line[6:])
            events, last = events + 1, event["type"]
            if last == "response.output_text.delta":
                sys.stdout.write(event["delta"])
                sys.stdout.flush()
    if last != "response.completed":
        raise DemoFailed(f"the stream ended with {last or 'nothing'}")
    return Shown(answer.headers["x-relay-account"], answer.headers["x-request-id"], events)


def _body() -> bytes:
    return msgspec.json.encode({"model": MODEL, "input": PROMPT, "stream": True})


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
