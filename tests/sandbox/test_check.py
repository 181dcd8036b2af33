"""What the probe's words come to, and that an engine which refuses is no proof of anything."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sandbox.check import LIMITS, _host, check, host_addresses, judged, spec_of
from sandbox.engine import LABEL_DEADLINE, EngineError, EngineUnavailable
from sandbox.image import probe
from sandbox.isolation import create_body
from sandbox.types import Phase


def said(**changed: Any) -> list[bytes]:
    return [
        json.dumps({"name": name, "open": name in changed, "detail": changed.get(name, "closed")}).encode()
        for name in probe.ATTEMPTS
    ]


@pytest.mark.parametrize("phase", Phase)
def test_all_closed_is_all_passed(phase: Phase) -> None:
    found = judged(phase, said())
    assert [one.name for one in found] == list(probe.ATTEMPTS)
    assert all(one.passed for one in found)


def test_set_up_may_write_its_root_and_nobody_else() -> None:
    lines = said(**{"root files": "/probe can be opened", "mount": "mount succeeded"})
    failed = {phase: [one.name for one in judged(phase, lines) if not one.passed] for phase in Phase}
    assert failed == {
        Phase.SETUP: ["mount"],
        Phase.AGENT: ["mount", "root files"],
        Phase.JUDGE: ["mount", "root files"],
    }


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"name":"dns"}',
        b'{"name":"dns","open":0,"detail":""}',
        b'{"name":"dns","open":null,"detail":""}',
    ],
)
def test_what_is_not_told_in_so_many_words_is_open(line: bytes) -> None:
    lines = [one for one in said() if b'"dns"' not in one]
    found = [one for one in judged(Phase.AGENT, [*lines, line]) if not one.passed]
    assert [one.name for one in found] == ["dns"]


class Refusing:
    """An engine that answers every create in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def create(self, _spec: object) -> str:
        raise self._error


@pytest.mark.parametrize("error", [EngineUnavailable("no answer"), EngineError("refused"), TimeoutError()])
async def test_an_engine_that_refuses_is_a_finding_in_every_phase(error: Exception, tmp_path: Path) -> None:
    found = await check(Refusing(error), "codex-relay/agent:1", tmp_path, 1000.0)  # type: ignore[arg-type]
    assert [(one.phase, one.passed) for one in found] == [(phase, False) for phase in Phase]
    assert all(one.detail for one in found)


async def test_the_host_listens_where_the_probe_knocks(tmp_path: Path) -> None:
    async with _host(tmp_path) as facts:
        assert probe.tcp([("127.0.0.1", facts["port"])]) is not None
        assert all(probe.tcp([(one, facts["port"])]) is not None for one in facts["addresses"] if ":" not in one)
        assert probe.connects(socket.AF_UNIX, "\0" + facts["abstract"])
        assert (tmp_path / "gw.sock").is_socket()
        assert set(facts) == {
            "port",
            "abstract",
            "addresses",
            "pid",
            "disk",
            "namespaces",
            "pids",
            "memory_bytes",
            "disk_bytes",
        }
    assert probe.tcp([("127.0.0.1", facts["port"])]) is None


def test_this_host_has_no_loopback_among_its_addresses() -> None:
    assert not any(one.startswith("127.") or one == "::1" for one in host_addresses())


@pytest.mark.parametrize("phase", Phase)
def test_the_probe_gets_what_a_task_of_its_phase_gets(phase: Phase, tmp_path: Path) -> None:
    body = create_body(spec_of(phase, "codex-relay/agent:1", tmp_path), None)
    assert (body["User"] == "0:0") is (phase is Phase.SETUP)
    assert body["HostConfig"]["PidsLimit"] == LIMITS.pids
    assert os.path.isabs(body["HostConfig"]["Mounts"][-1]["Source"])


async def test_a_container_of_a_check_is_late_only_after_it(tmp_path: Path) -> None:
    """Reapers of workers on the same host take what is late."""
    seen = []

    class Looking(Refusing):
        async def create(self, spec: object) -> str:
            seen.append(dict(spec.labels)[LABEL_DEADLINE])  # type: ignore[attr-defined]
            raise self._error

    await check(Looking(EngineError("no")), "codex-relay/agent:1", tmp_path, 1000.0)  # type: ignore[arg-type]
    assert seen == ["1180.000"] * 3
