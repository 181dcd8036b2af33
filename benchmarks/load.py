"""Builds the load generator, runs it against a service, and weighs what the service used meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import bodies
from benchmarks.machine import Placement, Watch, busy_seconds, cpu_seconds, speed_ms, tree
from benchmarks.services import Service

HERE = Path(__file__).resolve().parent
LIMIT_S = 180


@dataclass(frozen=True)
class Load:
    """What the generator is told: ``connections`` at once, for ``seconds`` or until ``requests`` are through.

    ``ramp_s`` opens the connections evenly over that time; ``leave_after`` events the client closes (0: as soon as the
    request is sent), in ``leave_percent`` of the requests.
    """

    body: str
    stream: str
    connections: int = 1
    seconds: float = 0.0
    requests: int = 0
    ramp_s: float = 0.0
    leave_after: int | None = None
    leave_percent: int = 100

    def arguments(self) -> list[str]:
        given = ["-c", str(self.connections), "-T", str(LIMIT_S)]
        given += ["-n", str(self.requests)] if self.requests else ["-d", str(self.seconds)]
        if self.ramp_s:
            given += ["-r", str(self.ramp_s)]
        if self.leave_after is not None:
            given += ["-A", str(self.leave_after), "-P", str(self.leave_percent)]
        return given


@dataclass(frozen=True)
class Row:
    """One run. ``told`` is the generator's own report; times in milliseconds, memory in MB. ``strangers``: how many CPUs
    other processes and the host took on average."""

    service: str
    cpu_s: float
    peak_mb: float
    speed_ms: float
    strangers: float
    told: dict[str, Any] = field(repr=False)

    @property
    def requests(self) -> int:
        return int(self.told["requests"])

    @property
    def events(self) -> int:
        return int(self.told["events"])

    @property
    def failures(self) -> int:
        """Requests that did not end as they should: broken, not 200, without completed, or not in time."""
        return sum(int(self.told[name]) for name in ("errors", "non200", "incomplete", "hard_stop"))

    @property
    def cpu_ms_per_request(self) -> float:
        return self.cpu_s * 1e3 / max(1, self.requests)

    @property
    def cpu_us_per_event(self) -> float:
        return self.cpu_s * 1e6 / max(1, self.events)

    def ms(self, name: str, quantile: str = "p50") -> float:
        return float(self.told[name][quantile])

    def as_json(self) -> dict[str, Any]:
        return {
            "service": self.service,
            "cpu_s": round(self.cpu_s, 3),
            "peak_mb": round(self.peak_mb, 1),
            "speed_ms": round(self.speed_ms, 2),
            "strangers": round(self.strangers, 2),
            "failures": self.failures,
            **self.told,
        }


class Generator:
    """Runs sseload on the CPU of this process, which is the load CPU. ``sent`` counts the requests by service name."""

    def __init__(self, scratch: Path, folder: Path, where: Placement) -> None:
        self._binary = scratch / "sseload"
        self._folder = folder
        self._where = where
        self.sent: dict[str, int] = {}
        command = ["gcc", "-O2", "-o", str(self._binary), str(HERE / "sseload.c")]
        subprocess.run(command, check=True)

    def run(self, service: Service, load: Load) -> Row:
        """One run against ``service``; RuntimeError when the generator itself failed."""
        path = bodies.write(self._folder, load.body, load.stream)
        command = [str(self._binary), "-u", f"127.0.0.1:{service.port}", "-p", service.path, "-f", str(path)]
        command += [part for name, value in service.headers for part in ("-H", f"{name}: {value}")]
        speed = speed_ms(self._where.proxy_cpu)
        family = tree(os.getpid())
        busy, ours = busy_seconds(), cpu_seconds(family)
        with Watch(service.pid) as watch:
            done = subprocess.run(
                command + load.arguments(),
                capture_output=True,
                text=True,
                check=False,
                timeout=LIMIT_S + 30,
            )
        if done.returncode:
            raise RuntimeError(f"sseload failed against {service.name}: {done.stderr.strip()[-300:]}")
        told = json.loads(done.stdout)
        others = busy_seconds() - busy - (cpu_seconds(family) - ours) - float(told["client_cpu"])
        strangers = max(0.0, others / max(float(told["elapsed"]), 0.01))
        self.sent[service.name] = self.sent.get(service.name, 0) + int(told["started"])
        return Row(service.name, watch.cpu_s, watch.peak_mb, speed, strangers, told)
