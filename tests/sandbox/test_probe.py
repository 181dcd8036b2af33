"""The probe on this very host, where its attempts get through: it must say so, and never call a breakdown closed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.image import probe


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_host_that_can_be_reached_is_open(listener: int) -> None:
    facts = {"addresses": ["127.0.0.1"], "port": listener}
    assert probe.tried("host addresses", facts) == {
        "name": "host addresses", "open": True, "detail": f"connected to 127.0.0.1 port {listener}",
    }  # fmt: skip
    assert probe.tried("host loopback", facts)["open"]


def test_a_host_that_cannot_be_reached_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert probe.tried("host addresses", {"addresses": ["127.0.0.1", "::1"], "port": port})["open"] is False


def test_an_abstract_socket_of_the_host_is_open() -> None:
    name = f"codex-relay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        assert probe.tried("abstract sockets", {"abstract": name})["open"]
    assert not probe.tried("abstract sockets", {"abstract": name})["open"]


def test_shared_namespaces_are_open() -> None:
    mine = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("net", "pid")}
    told = probe.tried("namespaces", {"namespaces": {**mine, "uts": "uts:[1]"}})
    assert told["detail"] == "shared with the host: net, pid"


def test_files_that_can_be_opened_are_open(tmp_path: Path) -> None:
    there = tmp_path / "core_pattern"
    there.write_text("core")
    assert probe.opens([str(tmp_path / "absent"), str(there)], os.O_WRONLY) == f"{there} can be opened"
    assert there.read_text() == "core"
    assert probe.opens([str(tmp_path / "absent")], os.O_WRONLY) is None


def test_the_gateway_must_be_reached() -> None:
    assert probe.tried("gateway socket", {})["open"]


@pytest.mark.parametrize("name", ["namespaces", "host addresses", "process limit", "memory limit", "file size"])
def test_an_attempt_that_breaks_is_open(name: str) -> None:
    told = probe.tried(name, {})
    assert told["detail"].startswith("the attempt broke: ")
    assert told["open"]


def test_a_refusal_and_only_that_is_closed() -> None:
    with pytest.raises(FileNotFoundError):
        os.open("/nowhere", os.O_RDONLY)
    assert probe.denied(0, "call") == "call succeeded"
    assert probe.denied(probe.libc.mount(None, None, None, 0, None), "mount") is None or os.geteuid() == 0


def test_every_attempt_is_in_the_page() -> None:
    page = (Path(__file__).resolve().parent.parent.parent / "docs" / "sandbox-isolation.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    told = {name.strip() for row in rows for name in row.split(",")}
    assert set(probe.ATTEMPTS) - told == set()
