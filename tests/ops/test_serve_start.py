"""``codex-relay serve`` starts, or refuses to with one line and nothing touched."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sqlite3
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from ops.simulator import SimulatorConfig, running_simulator
from ops.simulator.server import self_signed
from store.schema import APPLICATION_ID
from tests.ops.processes import Ran, command, kill, metric, relay, serving, start, write_config

pytestmark = pytest.mark.slow
NOWHERE = "http://127.0.0.1:9/backend-api/codex"


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` and what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(ran: Ran, *words: str) -> None:
    """Exit code 1 and one line that holds ``words``; no traceback."""
    assert ran.code == 1, ran
    assert "Traceback" not in ran.err
    assert len(ran.lines) == 1, ran.err
    for word in words:
        assert word in ran.lines[0]


async def test_a_first_start_makes_the_key_says_where_and_serves(tmp_path: Path) -> None:
    """From an empty folder: a key of mode 0600 is made and named, accounts and key by the command line, then a call."""
    async with running_simulator(SimulatorConfig()) as simulator:
        write_config(tmp_path, simulator.base_url)
        one = await start(tmp_path)
        try:
            made = one.logged("key_file_created")
            assert [record["path"] for record in made] == ["data/vault.key"]
            assert stat.S_IMODE((tmp_path / "data/vault.key").stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "data/relay.db").stat().st_mode) == 0o600
            async with httpx.AsyncClient(base_url=one.url, trust_env=False) as client:
                assert (await client.get("/readyz")).status_code == 200
                closed = await client.post("/v1/responses", json={"model": "gpt-5.5", "input": "x"})
                assert (closed.status_code, closed.json()["error"]["code"]) == (503, "not_configured")
        finally:
            await kill(one)
        async with serving(tmp_path, simulator) as again:
            assert again.logged("key_file_created") == []
            async with again.client() as client:
                assert (await relay(client)).code is None


async def test_a_relative_config_and_the_command_line_reach_workers(tmp_path: Path) -> None:
    """--config of a relative path and --host, --port and --workers hold in workers too."""
    (tmp_path / "etc").mkdir()
    write_config(tmp_path, NOWHERE, server={"workers": 1, "port": 1, "heartbeat_s": 7.0})
    (tmp_path / "config.toml").rename(tmp_path / "etc/relay.toml")
    words = ("--config", "etc/relay.toml", "--port", "0", "--host", "127.0.0.2", "--workers", "2")
    one = await start(tmp_path, *words)
    try:
        assert one.url.startswith("http://127.0.0.2:")
        assert sorted(one.worker_pids) == [0, 1]
        async with httpx.AsyncClient(base_url=one.url, trust_env=False) as client:
            assert (await client.get("/readyz")).status_code == 200
    finally:
        await kill(one)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_in_use_refuses_the_start(tmp_path: Path, workers: str) -> None:
    """Whoever listens on the port goes on; we say so and end."""
    write_config(tmp_path, NOWHERE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(await command(tmp_path, "serve", "--port", str(port), "--workers", workers), "server.port", str(port))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"server": {"prot": 1}}, ("server.prot", "no such setting")),
        ({"server": {"drain_s": -1}}, ("server.drain_s",)),
        ({"server": {"tls_cert_file": "cert.pem"}}, ("server.tls_cert_file", "go together")),
        ({"server": {"tls_cert_file": "no.pem", "tls_key_file": "no.key"}}, ("server.tls_cert_file", "No such file")),
        ({"server": {"host": "192.0.2.1"}}, ("server.port", "192.0.2.1")),
        ({"server": {"host": "no.such.host.invalid"}}, ("server.port", "no.such.host.invalid")),
        ({"server": {"workers": 2}, "store": {"url": "memory://"}}, ("server.workers", "memory://")),
        (
            {"server": {"workers": 3}, "router": {"per_account_concurrency": 2}},
            ("per_account_concurrency", "at least 3"),
        ),
        ({"store": {"url": "postgres://u:secret@h/x"}}, ("store.url", "postgres")),
        ({"store": {"hot_url": "http://h"}}, ("store.hot_url",)),
        ({"upstream": {"ca_file": "no-bundle.pem"}}, ("upstream.ca_file", "No such file")),
        ({"vault": {"provider": "env"}}, ("vault.key",)),
    ],
)
async def test_settings_that_cannot_be_used_refuse_the_start(
    tmp_path: Path, sections: dict[str, dict[str, object]], words: tuple[str, ...]
) -> None:
    """One line names the setting; nothing secret is in it and nothing was made."""
    write_config(tmp_path, NOWHERE, **sections)
    ran = await command(tmp_path, "serve")
    refused(ran, *words)
    assert "secret" not in ran.err
    assert set(fingerprint(tmp_path)) <= {"config.toml", "data/vault.key", "data/relay.db"}


@pytest.mark.parametrize(
    "name",
    ["CODEX_RELAY_SERVER__PROT", "CODEX_RELAY_SERVER__PORT", "CODEX_RELAY_CONFIG"],
)
async def test_an_environment_that_cannot_be_used_refuses_the_start(tmp_path: Path, name: str) -> None:
    """A misspelt variable, a value that is none and a file that is not there are each named."""
    ran = await command(tmp_path, "serve", env={name: "nowhere"})
    refused(ran)
    assert "nowhere" in ran.err or name in ran.err or "server.port" in ran.err
    assert fingerprint(tmp_path) == {}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(5000, min(len(data), 60_000), 97):
        data[at] ^= 0xFF
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()


def future(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA user_version = 999")
    db.close()
    assert int.from_bytes(path.read_bytes()[68:72], "big") == APPLICATION_ID


def no_database(path: Path) -> None:
    path.write_text("hello, I am a text\n" * 20)


def other_key(path: Path) -> None:
    key = path.with_name("vault.key")
    key.write_text("A" * 43 + "=\n")


def lost_key(path: Path) -> None:
    path.with_name("vault.key").unlink()


def open_key(path: Path) -> None:
    path.with_name("vault.key").chmod(0o644)


@pytest.mark.fault("B58")
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (flip, "damaged"),
        (truncate, "damaged"),
        (foreign, "another program"),
        (future, "schema 999"),
        (no_database, "not a database"),
        (other_key, "key"),
        (lost_key, "missing"),
        (open_key, "0644"),
    ],
)
async def test_a_store_that_must_not_be_used_refuses_the_start_and_stays_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None], word: str
) -> None:
    """Damaged, foreign, newer, under another key: exit code 1, one line, every file byte for byte as before."""
    write_config(tmp_path, NOWHERE, server={"workers": 2})
    made = await command(tmp_path, "keys", "create", "--tenant", "team")
    assert made.code == 0
    damage(tmp_path / "data/relay.db")
    before = fingerprint(tmp_path)
    ran = await command(tmp_path, "serve")
    refused(ran, word)
    assert fingerprint(tmp_path) == before
    listed = await command(tmp_path, "keys", "list")
    assert listed.code == 1
    assert "Traceback" not in listed.err
    assert fingerprint(tmp_path) == before


async def test_a_store_that_another_process_holds_refuses_the_start(tmp_path: Path) -> None:
    """A database locked from outside is named; the start does not hang."""
    write_config(tmp_path, NOWHERE)
    assert (await command(tmp_path, "keys", "create", "--tenant", "team")).code == 0
    db = sqlite3.connect(tmp_path / "data/relay.db", isolation_level=None)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        refused(await command(tmp_path, "serve"), "locked")
    finally:
        db.close()


async def test_a_second_gateway_on_a_taken_port_leaves_the_first_ones_counts_alone(tmp_path: Path) -> None:
    """The limits of a running gateway survive a start beside it that is refused."""
    async with (
        running_simulator(SimulatorConfig()) as simulator,
        serving(tmp_path, simulator, "--workers", "2", key_words=("--rpm", "3")) as one,
        one.client() as client,
    ):
        assert [(await relay(client)).status for _ in range(3)] == [200, 200, 200]
        port = one.url.rpartition(":")[2]
        refused(await command(tmp_path, "serve", "--port", port, "--workers", "2"), "server.port")
        assert (await relay(client)).status == 429


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_front_door_speaks_tls_when_it_has_a_certificate(tmp_path: Path, workers: str) -> None:
    """A client that trusts the certificate is served over https; one that does not is not."""
    certificate, key = self_signed()
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    tls = {"port": 0, "drain_delay_s": 0, "tls_cert_file": "cert.pem", "tls_key_file": "key.pem"}
    async with (
        running_simulator(SimulatorConfig()) as simulator,
        serving(tmp_path, simulator, "--workers", workers, accounts=1, server=tls) as one,
    ):
        assert one.url.startswith("https://")
        async with one.client(verify=ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))) as client:
            assert (await relay(client)).code is None
        async with one.client() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/healthz")


async def test_an_encrypted_private_key_refuses_the_start_instead_of_asking(tmp_path: Path) -> None:
    """Nobody is asked for a passphrase on a terminal that may not be there."""
    certificate, key = self_signed()
    sealed = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"words"),
    )
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(sealed)
    write_config(tmp_path, NOWHERE, server={"tls_cert_file": "cert.pem", "tls_key_file": "key.pem"})
    refused(await command(tmp_path, "serve", timeout_s=10), "server.tls_cert_file", "unencrypted")


async def eventually(client: httpx.AsyncClient, url: str, status: int, headers: dict[str, str], route: str = "") -> str:
    """The text of the first answer with ``status`` that counts a request to ``route``, within two seconds."""
    for _ in range(40):
        got = await client.get(url, headers=headers)
        if got.status_code == status and (not route or metric(got.text, "relay_requests_total", route=route) == 1):
            return got.text
        await asyncio.sleep(0.05)
    raise AssertionError(f"{got.status_code} {got.text[:200]}")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_metrics_have_a_port_of_their_own_when_the_settings_say_so(tmp_path: Path, workers: str) -> None:
    """/metrics answers on its port only, and the model paths are not there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with (
        running_simulator(SimulatorConfig()) as simulator,
        serving(tmp_path, simulator, "--workers", workers, metrics={"port": port}) as one,
        one.client() as client,
        httpx.AsyncClient(trust_env=False) as scraper,
    ):
        assert (await relay(client)).code is None
        assert (await client.get("/metrics")).status_code == 404
        await eventually(scraper, f"http://127.0.0.1:{port}/metrics", 200, {}, "responses")
        elsewhere = await scraper.get(f"http://127.0.0.1:{port}/v1/models")
        assert elsewhere.status_code in (401, 404)
        refused(await command(tmp_path, "serve", "--port", "0", "--workers", workers), "metrics.port", str(port))


async def test_a_metrics_port_can_ask_for_a_key(tmp_path: Path) -> None:
    """With require_key a key with the scope metrics opens it, a relay key does not."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with (
        running_simulator(SimulatorConfig()) as simulator,
        serving(tmp_path, simulator, metrics={"port": port, "require_key": True}) as one,
    ):
        made = json.loads((await one.cli("keys", "create", "--tenant", "ops", "--scopes", "metrics", "--json")).out)
        wanted = [(None, 401), (one.key, 403), (made["key"], 200)]
        async with httpx.AsyncClient(trust_env=False) as scraper:
            for key, status in wanted:
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                await eventually(scraper, f"http://127.0.0.1:{port}/metrics", status, headers)
