"""The doctor: every check is broken once, and says what to do."""

from __future__ import annotations

import datetime
import resource
import socket
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ops import doctor
from ops.clock import SystemClock
from ops.doctor import Reached
from ops.findings import Finding, Status
from ops.sections.keep import StoreSettings
from ops.sections.relay import ServerSettings, UpstreamSettings
from ops.settings import Settings
from ops.simulator import RunningSimulator, running_simulator
from store.keyfile import FileKeys
from store.open import open_store, prepare_key
from store.records import Account, AccountStatus, ClientKey, Credential, RefreshState, Secret, Tenant
from tests.fakes.clock import FakeClock

NOW_S = 1_795_000_000.0
ACCOUNT = Account(id="acc_1", chatgpt_account_id="c1", label="one")
CREDENTIAL = Credential("acc_1", Secret("access"), Secret("refresh"), None, NOW_S + 3600, NOW_S)
KEY = ClientKey(id="k1", tenant_id="t1", name="", digest=b"d")


class Place:
    """A data folder with a key and a store, as the gateway would have made them."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "data"
        self.keys = FileKeys(self.folder / "vault.key")
        self.settings = StoreSettings(url=f"sqlite:///{self.folder}/relay.db", busy_timeout_s=0.2)

    async def make(self) -> None:
        prepare_key(self.keys, self.settings.url)
        store = await open_store(self.settings.url, keys=self.keys, busy_timeout_s=1.0)
        await store.add_account(ACCOUNT, CREDENTIAL)
        await store.add_tenant(Tenant("t1", "acme"))
        await store.add_key(KEY)
        await store.close()


@pytest.fixture
def empty(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
async def made(empty: Place) -> Place:
    await empty.make()
    return empty


@pytest.fixture
async def sim() -> AsyncIterator[RunningSimulator]:
    async with running_simulator() as running:
        yield running


def statuses(findings: list[Finding]) -> dict[str, Status]:
    return {one.name: one.status for one in findings}


async def test_a_sound_house_has_no_finding_but_ok(made: Place, sim: RunningSimulator, tmp_path: Path) -> None:
    settings = Settings(
        server=ServerSettings(port=0, max_inflight=8),
        store=made.settings,
        upstream=UpstreamSettings(base_url=sim.base_url),
    )
    settings = settings.model_copy(update={"oauth": settings.oauth.model_copy(update={"issuer": sim.issuer})})
    findings = await doctor.examine(settings, made.keys, SystemClock())
    assert {one.status for one in findings} == {Status.OK}, findings
    assert all(one.message and not one.fix for one in findings)


async def test_an_empty_folder_is_told_what_comes_next_and_stays_empty(
    empty: Place, sim: RunningSimulator, tmp_path: Path
) -> None:
    settings = Settings(
        server=ServerSettings(port=0), store=empty.settings, upstream=UpstreamSettings(base_url=sim.base_url)
    )
    findings = statuses(await doctor.examine(settings, empty.keys, FakeClock()))
    assert findings["data folder"] == findings["vault key"] == findings["store"] == Status.WARN
    assert findings["accounts"] == findings["client keys"] == Status.FAIL
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_may_write_fails(empty: Place) -> None:
    empty.folder.mkdir()
    empty.folder.chmod(0o777)
    finding = doctor.check_data_folder(empty.settings)
    assert (finding.status, finding.fix) == (Status.FAIL, f"chmod 700 {empty.folder}")


@pytest.mark.fault("B64")
async def test_a_key_that_is_readable_by_others_broken_or_lost_fails_with_the_fix(made: Place) -> None:
    file = made.folder / "vault.key"
    file.chmod(0o644)
    finding = doctor.check_vault_key(made.settings, made.keys)
    assert (finding.status, finding.fix) == (Status.FAIL, f"run: chmod 600 {file}")
    file.chmod(0o600)
    file.write_text("not a key")
    assert doctor.check_vault_key(made.settings, made.keys).status is Status.FAIL
    file.unlink()
    assert "backup" in doctor.check_vault_key(made.settings, made.keys).fix


@pytest.mark.fault("B58")
async def test_a_store_that_is_no_database_fails_and_is_left_alone(made: Place) -> None:
    database = made.folder / "relay.db"
    for leftover in made.folder.glob("relay.db-*"):
        leftover.unlink()
    database.write_bytes(b"x" * 5000)
    (finding,) = await doctor.examine_store(made.settings, made.keys, FakeClock())
    assert finding.status is Status.FAIL
    assert finding.fix
    assert database.read_bytes() == b"x" * 5000


@pytest.mark.fault("B56")
async def test_a_store_that_cannot_be_written_now_fails(made: Place) -> None:
    holder = sqlite3.connect(made.folder / "relay.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        findings = await doctor.examine_store(made.settings, made.keys, FakeClock())
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert statuses(findings)["store"] is Status.FAIL


async def test_an_unknown_kind_of_store_fails_and_one_in_memory_warns(empty: Place) -> None:
    for url, status in (("mysql://user:hunter2@host/db", Status.FAIL), ("memory://", Status.WARN)):
        (finding,) = await doctor.examine_store(StoreSettings(url=url), empty.keys, FakeClock())
        assert finding.status is status
        assert "hunter2" not in f"{finding}"


def test_several_workers_over_a_store_in_memory_fail() -> None:
    settings = Settings(server=ServerSettings(workers=2), store=StoreSettings(url="memory://"))
    assert doctor.check_workers(settings).status is Status.FAIL
    assert doctor.check_workers(Settings(store=StoreSettings(url="memory://"))).status is Status.OK


@pytest.mark.parametrize(
    ("account", "credential", "words"),
    [
        ({"status": AccountStatus.NEEDS_REAUTH, "status_reason": "reused"}, {}, "needs a login: reused"),
        ({}, {"refresh_state": RefreshState.SPENT}, "cannot refresh; it serves until its access token ends"),
        (
            {},
            {"refresh_token": None, "expires_at_s": NOW_S - 1},
            "cannot refresh; it serves until its access token has",
        ),
    ],
)
def test_an_account_that_needs_a_person_is_named(
    account: dict[str, Any], credential: dict[str, Any], words: str
) -> None:
    healthy = replace(ACCOUNT, id="acc_2", label="two")
    findings = list(
        doctor.check_accounts(
            [replace(ACCOUNT, **account), healthy], [replace(CREDENTIAL, **credential), CREDENTIAL], NOW_S
        )
    )
    assert [one.status for one in findings] == [Status.OK, Status.WARN]
    assert findings[1].name == "account one"
    assert words in findings[1].message
    assert "import" in findings[1].fix


def test_no_account_that_can_serve_fails() -> None:
    (finding, *_) = doctor.check_accounts([replace(ACCOUNT, enabled=False)], [CREDENTIAL], NOW_S)
    assert finding.status is Status.FAIL
    (finding, *_) = doctor.check_accounts([], [], NOW_S)
    assert "accounts import" in finding.fix


@pytest.mark.parametrize("change", [{"revoked_at_s": NOW_S - 1}, {"expires_at_s": NOW_S - 1}])
def test_client_keys_that_do_not_work_any_more_do_not_count(change: dict[str, Any]) -> None:
    assert doctor.check_client_keys([KEY], NOW_S).status is Status.OK
    assert doctor.check_client_keys([replace(KEY, **change)], NOW_S).status is Status.FAIL


def test_a_port_that_is_taken_warns_and_an_address_that_is_not_ours_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = doctor.check_port(ServerSettings(port=server.getsockname()[1]))
    assert taken.status is Status.WARN
    assert doctor.check_port(ServerSettings(host="203.0.113.1", port=0)).status is Status.FAIL
    assert doctor.check_port(ServerSettings(port=0)).status is Status.OK


def certificate(folder: Path, days: float) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.test")])
    ends = datetime.datetime.fromtimestamp(NOW_S + days * 86_400, datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(ends - datetime.timedelta(days=400))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return files


@pytest.mark.parametrize(("days", "status"), [(90, Status.OK), (5, Status.WARN), (-1, Status.FAIL)])
def test_a_certificate_is_judged_by_its_end(tmp_path: Path, days: float, status: Status) -> None:
    cert, key = certificate(tmp_path, days)
    finding = doctor.check_tls(ServerSettings(tls_cert_file=cert, tls_key_file=key), NOW_S)
    assert finding.status is status


def test_tls_files_that_are_missing_alone_or_strangers_fail(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, 90)
    (tmp_path / "other").mkdir()
    _, other = certificate(tmp_path / "other", 90)
    for chosen in ((cert, None), (None, key), (cert, tmp_path / "no"), (cert, other), (key, key)):
        server = ServerSettings(tls_cert_file=chosen[0], tls_key_file=chosen[1])
        assert doctor.check_tls(server, NOW_S).status is Status.FAIL


def test_no_tls_is_fine_on_loopback_and_a_warning_elsewhere() -> None:
    assert doctor.check_tls(ServerSettings(host="localhost"), NOW_S).status is Status.OK
    assert doctor.check_tls(ServerSettings(host="0.0.0.0"), NOW_S).status is Status.WARN


def test_too_few_open_files_warn() -> None:
    server = ServerSettings(max_inflight=1000)
    assert doctor.check_open_files(server, 1024).status is Status.WARN
    assert doctor.check_open_files(server, 2256).status is Status.OK
    assert doctor.check_open_files(server, resource.RLIM_INFINITY).status is Status.OK


async def test_reach_knows_an_answer_from_a_refusal_a_bad_name_and_a_bad_certificate(sim: RunningSimulator) -> None:
    settings = UpstreamSettings()
    assert (await doctor.reach(settings, sim.base_url)).status is not None
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "ConnectError" in (await doctor.reach(settings, f"http://127.0.0.1:{port}")).problem
    assert (await doctor.reach(settings, "nonsense://x")).status is None
    async with running_simulator(tls=True) as strange:
        assert (await doctor.reach(settings, strange.url)).status is None


async def test_reach_sends_no_credential(sim: RunningSimulator) -> None:
    await doctor.reach(UpstreamSettings(), sim.base_url + "/models")
    assert "authorization" not in sim.state.requests[-1].headers


@pytest.mark.parametrize(
    ("reached", "status"),
    [
        (Reached("u", 401), Status.OK),
        (Reached("u", None, "refused"), Status.FAIL),
        (Reached("u", 403, challenged=True), Status.WARN),
        (Reached("u", 302), Status.WARN),
    ],
)
def test_an_answer_is_judged(reached: Reached, status: Status) -> None:
    assert doctor.check_reached("upstream", "upstream.base_url", reached).status is status


def test_a_clock_that_is_off_is_found() -> None:
    assert doctor.check_clock(NOW_S, NOW_S + 5).status is Status.OK
    assert doctor.check_clock(NOW_S, None).status is Status.OK
    assert doctor.check_clock(NOW_S, NOW_S + 3600).status is Status.WARN
    assert doctor.check_clock(0.0, None).status is Status.FAIL
