"""No secret of a session in anything that is written or shown: logs, metrics, database, processes, export (A22)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.simulator import Fail, RunningSimulator, SimulatorConfig, running_simulator
from tests.ops.processes import command, kill, relay, serving, start, until

pytestmark = pytest.mark.slow
PROMPT = "canary-prompt-7f3a9b: my mother's maiden name is Quetzalcoatlus"
INSTRUCTIONS = "canary-instructions-55e0 never say the word Archaeopteryx"


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


def forms(secret: str) -> set[bytes]:
    """A secret as it may be written: plain, in the three alignments of base64, in hexadecimal; and its middle."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    if len(raw) > 40:
        middle = len(raw) // 2
        found.add(raw[middle - 10 : middle + 10])
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            inner = encode(b"\0" * shift + raw)
            found.add(inner[4 * bool(shift) : -4])
    return found


def assert_clean(what: str, data: bytes, secrets: dict[str, str]) -> None:
    for name, secret in secrets.items():
        for form in forms(secret):
            assert form not in data, f"{name} is in {what}: " + repr(
                [line for line in data.split(b"\n") if form in line][:3]
            )


async def test_no_secret_leaves_the_gateway(tmp_path: Path, simulator: RunningSimulator) -> None:
    """A session with refreshes, refusals, bad keys and a kill: no byte of a token, a key or a prompt anywhere."""
    async with serving(tmp_path, simulator, "--workers", "2", log={"level": "debug"}) as two:
        secrets = {"the client key": two.key, "the prompt": PROMPT, "the instructions": INSTRUCTIONS}
        async with two.client() as client:
            assert (await relay(client, PROMPT, instructions=INSTRUCTIONS)).code is None
            assert (await relay(client, PROMPT, stream=False)).status == 200
            secrets |= tokens_of(simulator, "before")
            simulator.state.expire_access()
            assert (await relay(client, PROMPT)).code is None
            bad = "at-cr-" + "Zq8" * 14
            secrets["a bad key"] = bad
            await client.post("/v1/responses", json={"input": PROMPT}, headers={"authorization": f"Bearer {bad}"})
            await client.get(f"/v1/{bad}")
            await client.post("/v1/responses", content=b'{"input": "' + PROMPT.encode() + b'",}')
            echo = {"error": {"message": f"I do not like {PROMPT}", "code": "bad_" + two.key}}
            simulator.state.script("acct-0", [Fail(400, echo)] * 2)
            simulator.state.script("acct-1", [Fail(422, {"detail": PROMPT}), Fail(400, PROMPT)])
            for _ in range(4):
                await relay(client, PROMPT)
            simulator.state.script("acct-0", [Fail(500, {"error": {"message": PROMPT}}), Fail(200, PROMPT)])
            simulator.state.script("acct-1", [Fail(503, PROMPT)])
            for _ in range(2):
                await relay(client, PROMPT)
            metrics = (await client.get("/metrics")).content
        secrets |= tokens_of(simulator, "after")
        await asyncio.sleep(0.5)  # records are flushed five times a second
        for pid in (two.process.pid, *two.worker_pids.values()):
            for shown in ("environ", "cmdline"):
                assert_clean(f"/proc/PID/{shown}", Path(f"/proc/{pid}/{shown}").read_bytes(), secrets)
        os.kill(two.worker_pids[0], signal.SIGKILL)
        await until(lambda: two.logged("worker_died"))
        database = b"".join(path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file())
        two.process.terminate()
        assert await two.ended() == 0
        exported = await two.cli("audit", "export")
        assert exported.code == 0, exported.err
        assert exported.out.count("request.responses") >= 5
        listed = await two.cli("accounts", "list", "--json")
        why = await two.cli("accounts", "why", two.accounts[1])
    vault_key = (tmp_path / "data/vault.key").read_text().strip()
    assert_clean("the log", "\n".join(two.lines).encode(), secrets | {"the vault key": vault_key})
    assert_clean("/metrics", metrics, secrets)
    assert_clean("the audit export", exported.out.encode(), secrets)
    assert_clean("accounts list", listed.out.encode(), secrets)
    assert_clean("accounts why", why.out.encode(), secrets)
    database = database.replace(vault_key.encode(), b"")  # the key file itself lies in the same folder
    assert_clean("the database", database, secrets | {"the vault key": vault_key})


def tokens_of(simulator: RunningSimulator, when: str) -> dict[str, str]:
    """The tokens of all accounts as they are now."""
    found: dict[str, str] = {}
    for account_id in simulator.state.accounts:
        tokens = simulator.state.auth_json(account_id)["tokens"]
        for name in ("access_token", "refresh_token", "id_token"):
            # a JSON web token of the simulator: its head is the same for all, its signature is its own
            found[f"{account_id}'s {name} {when}"] = tokens[name].rpartition(".")[2]
    return found


async def test_each_request_leaves_one_line_and_each_line_is_json(tmp_path: Path, simulator: RunningSimulator) -> None:
    """Served, refused, unknown: one summary line per request with its id, whatever its path; probes leave none."""
    async with serving(tmp_path, simulator) as one:
        ids = []
        async with one.client() as client:
            ids.append((await relay(client)).headers["x-request-id"])
            for path in ("/nope", "/v1/%0aforged%22%7d", "/v1/models"):
                ids.append((await client.get(path)).headers["x-request-id"])
            ids.append((await client.post("/v1/responses", content=b"{")).headers["x-request-id"])
            for path in ("/healthz", "/readyz", "/metrics"):
                await client.get(path)
        one.process.terminate()
        assert await one.ended() == 0
        assert [line["request_id"] for line in one.logged("request")] == ids
        assert all({"time", "level", "event"} <= set(record) for record in one.records)


@pytest.mark.fault("B63")
async def test_a_log_that_nobody_reads_stops_no_request(tmp_path: Path, simulator: RunningSimulator) -> None:
    """The pipe of the log is full: requests are served as fast as ever, the end is orderly."""
    async with serving(tmp_path, simulator, log={"level": "debug"}) as one:
        url, key = one.url, one.key
        assert one.process.stderr is not None
        transport = one.process.stderr._transport  # type: ignore[attr-defined]  # the only way not to read
        transport.pause_reading()
        async with one.client() as client:
            for _ in range(400):
                assert (await client.get("/nope", headers={"x": "y" * 500})).status_code == 404
            assert (await relay(client)).code is None
        assert url
        assert key
        one.process.terminate()
        transport.resume_reading()
        assert await one.ended(8) == 0


async def test_a_gateway_that_was_killed_leaves_a_whole_audit_chain(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """kill -9 under load: the chain verifies, what was flushed is there, and the next run carries it on."""
    async with serving(tmp_path, simulator) as one:
        async with one.client() as client:
            for _ in range(20):
                assert (await relay(client)).code is None
            await until(lambda: len(one.logged("request")) == 20)
        one.process.kill()
        await one.ended()
        checked = await one.cli("audit", "verify", "--json")
        assert checked.code == 0, checked.out + checked.err
        again = await start(tmp_path)
        again.key = one.key
        try:
            async with again.client() as client:
                assert (await relay(client)).code is None
            again.process.terminate()
            assert await again.ended() == 0
        finally:
            await kill(again)
        checked = await command(tmp_path, "audit", "verify", "--json")
        assert checked.code == 0
        found = json.loads((await one.cli("audit", "search", "--action", "request.responses", "--json")).out)
        logged = {line["request_id"] for line in one.logged("request") + again.logged("request")}
        ids = [record["request_id"] for record in found]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= logged
        assert len(ids) >= 1
        assert again.logged("request")[0]["request_id"] in ids
