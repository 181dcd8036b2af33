"""A whole gateway on loopback in front of a scripted upstream, and the one helper that proves a fault.

``stage(...)`` gives a Stage: the real server, store, router and transport, with short deadlines. ``Stage.prove``
demands all three of every fault: what the client saw, how the account stands afterwards, and what the metrics say.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ops.clock import Clock
from ops.embedded import Embedded, embedded_gateway
from ops.settings import Settings
from ops.simulator import Simulator, SimulatorConfig
from router.explain import Explanation
from store.records import Account
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream

TEXT = {"model": "gpt-5.5", "input": "hello", "stream": True}


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event as the client read it: the exact bytes of its data, and what they say."""

    name: str
    data: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded = json.loads(self.data)
        assert isinstance(decoded, dict)
        return decoded

    @property
    def type(self) -> str:
        return str(self.json.get("type", ""))


@dataclass(slots=True)
class Answer:
    """What the client got. ``events`` are whole events; ``rest`` is what followed the last one (must be empty)."""

    status: int
    headers: httpx.Headers
    body: bytes
    events: list[Event] = field(default_factory=list)
    rest: bytes = b""
    took_s: float = 0.0

    @property
    def account(self) -> str:
        """Our id of the account that served it, "" when none did."""
        return str(self.headers.get("x-relay-account", ""))

    @property
    def attempts(self) -> int:
        """How often the upstream was tried, as the answer says."""
        return int(self.headers.get("x-relay-attempts", "0"))

    @property
    def numbers(self) -> list[int]:
        """The sequence numbers of the events that carry one."""
        return [event.json["sequence_number"] for event in self.events if b'"sequence_number"' in event.data]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def text(self) -> str:
        return "".join(e.json["delta"] for e in self.events if e.type == "response.output_text.delta")

    @property
    def error(self) -> dict[str, Any]:
        """The error object of an answer that is not a stream."""
        found = json.loads(self.body)["error"]
        assert isinstance(found, dict)
        return found

    @property
    def code(self) -> str | None:
        """The error code, whether it came as a status or inside the stream; None for a good answer."""
        if self.status != 200:
            return str(self.error["code"])
        last = self.events[-1].json if self.events else {}
        return str(last["response"]["error"]["code"]) if last.get("type") == "response.failed" else None


@dataclass(slots=True)
class Stage:
    """One gateway with its accounts and a client that holds a key."""

    gateway: Embedded
    client: httpx.AsyncClient
    accounts: list[Account]

    async def relay(self, body: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        """One model call, read to its end."""
        return await self.post(json.dumps({**TEXT, **(body or {})}).encode(), **headers)

    async def post(self, body: bytes, **headers: str) -> Answer:
        sent = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        started_s = time.monotonic()
        response = await self.client.post("/v1/responses", content=body, headers=sent)
        answer = Answer(response.status_code, response.headers, response.content, took_s=time.monotonic() - started_s)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            answer.events, answer.rest = parse_events(response.content)
        return answer

    def why(self, number: int = 0) -> Explanation:
        """What ``accounts why`` says of account ``number``."""
        found = self.gateway.gateway.pool.explain(self.accounts[number].id)
        assert found is not None
        return found

    def state(self, number: int = 0) -> str:
        """How account ``number`` stands, in the router's word."""
        return self.why(number).state.value

    def strikes(self, number: int = 0) -> int:
        """Strikes in a row on account ``number``."""
        return self.why(number).failures or 0

    def causes(self, number: int = 0) -> set[str]:
        """The causes of every block in force on account ``number``, the route's left out."""
        return {str(block.cause) for block in self.why(number).blocks if block.scope != "route"}

    @property
    def route(self) -> str:
        """How the way to the upstream stands, in the router's word."""
        return self.gateway.gateway.pool.snapshot().route.value

    def number_of(self, answer: Answer) -> int:
        """Which account served ``answer``."""
        return [account.id for account in self.accounts].index(answer.account)

    async def settled(self) -> None:
        """What the background would do within a fifth of a second: publish, reload, sample."""
        await self.gateway.gateway.background.share()

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one series now; 0 when it does not exist. Fails when a word was counted that is not known."""
        await self.settled()
        lines = (await self.client.get("/metrics")).text.splitlines()
        strays = [line for line in lines if '="other"' in line and "_created{" not in line]
        assert all(line.endswith(" 0.0") for line in strays), strays
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        total = 0.0
        for line in lines:
            series, _, value = line.rpartition(" ")
            found, _, inside = series.partition("{")
            if found == name and wanted <= set(inside.rstrip("}").split(",")):
                total += float(value)
        return total

    async def prove(
        self,
        answer: Answer,
        *,
        status: int,
        code: str | None,
        states: Sequence[str],
        metric: tuple[str, Mapping[str, str], float],
        attempts: int | None = None,
        strikes: Sequence[int] | None = None,
        in_order: bool = True,
        within_s: float = 8.0,
    ) -> None:
        """All three demands at once: the client's answer, every account's state, and one metric's exact value.

        ``attempts`` is what the answer says of them; ``strikes`` in any order, because the turn decides who is hit.
        """
        assert answer.status == status, answer.body[:500]
        assert answer.code == code, answer.body[-500:]
        assert answer.took_s < within_s
        assert "x-request-id" in answer.headers
        assert b"<html" not in answer.body.lower()
        assert b"Traceback" not in answer.body
        if status != 200:
            assert set(answer.error) >= {"message", "type", "code", "param"}
            assert answer.headers["content-type"] == "application/json"
        else:
            assert answer.rest == b"", "half an event went down"
            assert answer.types.count("response.failed") == (code is not None)
            assert answer.types.count("response.completed") == (code is None)
            if in_order:
                assert answer.numbers == list(range(len(answer.numbers)))
        if attempts is not None:
            assert answer.attempts == attempts
        await self.settled()
        assert [self.state(n) for n in range(len(self.accounts))] == list(states)
        if strikes is not None:
            assert sorted(self.strikes(n) for n in range(len(self.accounts))) == sorted(strikes)
        name, labels, value = metric
        assert await self.metric(name, **labels) == value, f"{name}{dict(labels)}"


def tried(outcome: str, times: float) -> tuple[str, Mapping[str, str], float]:
    """The metric of failed attempts, for ``prove``."""
    return "relay_attempts_total", {"outcome": outcome}, times


def ended(reason: str, times: float = 1) -> tuple[str, Mapping[str, str], float]:
    """The metric of streams that began, by their end, for ``prove``."""
    return "relay_stream_end_total", {"reason": reason}, times


def parse_events(body: bytes) -> tuple[list[Event], bytes]:
    """Whole events of an SSE body (comments left out), and what follows the last empty line."""
    blocks = body.replace(b"\r\n", b"\n").split(b"\n\n")
    events = []
    for block in blocks[:-1]:
        name, data = "", []
        for line in block.split(b"\n"):
            if line.startswith(b"event:"):
                name = line[6:].strip().decode()
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
        if data:
            events.append(Event(name, b"\n".join(data)))
    return events, blocks[-1]


def settings_for(folder: Path, base_url: str, **sections: Mapping[str, Any]) -> Settings:
    """Short deadlines, a store in ``folder``, and whatever ``sections`` change."""
    origin = base_url.partition("/backend-api")[0]
    values: dict[str, dict[str, Any]] = {
        "server": {"port": 0, "drain_delay_s": 0, "heartbeat_s": 5.0},
        "upstream": {
            "base_url": base_url,
            "chatgpt_base_url": f"{origin}/backend-api",
            "connect_timeout_s": 1.0,
            "first_event_timeout_s": 2.0,
            "idle_timeout_s": 2.0,
            "total_timeout_s": 20.0,
        },
        "oauth": {"issuer": origin, "refresh_spacing_s": 0, "refresh_timeout_s": 3, "refresh_wait_s": 2},
        "store": {"url": f"sqlite:///{folder}/relay.db"},
        "vault": {"key_file": str(folder / "vault.key")},
        "router": {"wait_max_s": 0},
    }
    for name, changes in sections.items():
        values.setdefault(name, {}).update(changes)
    return Settings(**values)  # type: ignore[arg-type]  # sections are validated from plain mappings


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    base_url: str,
    *,
    documents: Sequence[dict[str, Any]] | None = None,
    accounts: int = 2,
    clock: Clock | None = None,
    **sections: Mapping[str, Any],
) -> AsyncIterator[Stage]:
    """A gateway in front of ``base_url`` with ``accounts`` made-up accounts, or those of ``documents``.

    With a ``clock`` that stands still rests and windows last until it is moved; deadlines of connections too.
    """
    if documents is None:
        maker = Simulator(SimulatorConfig(), FakeClock(4_000_000_000.0))
        documents = [maker.new_account(account_id=f"acct-{n}") for n in range(accounts)]
    async with embedded_gateway(settings_for(folder, base_url, **sections), clock) as gateway:
        await gateway.import_accounts(documents)
        secret, _ = await gateway.make_key()
        order = {str(one["tokens"]["account_id"]): n for n, one in enumerate(documents)}
        known = sorted(await gateway.gateway.store.accounts(), key=lambda one: order[one.chatgpt_account_id])
        headers = {"authorization": f"Bearer {secret.reveal()}"}
        no_roots = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no public authority has to be read for plain HTTP
        async with httpx.AsyncClient(
            base_url=gateway.url, headers=headers, timeout=30, trust_env=False, verify=no_roots
        ) as client:
            yield Stage(gateway, client, known)


__all__ = ["Answer", "Event", "FaultyUpstream", "Stage", "ended", "parse_events", "settings_for", "stage", "tried"]
