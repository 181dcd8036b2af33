"""What the machine is, how fast it is at this moment, and what a process tree costs.

CPU seconds and resident memory come from /proc, so they count every process of a service and nothing else. The host may
be shared: ``speed_ms`` times a fixed piece of Python on the measured CPU, before each run, so that a drift is seen, and
``busy_seconds`` tells what others used meanwhile.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Placement:
    """Which CPU carries what: the measured proxy alone on one, mock and load on the other."""

    proxy_cpu: int
    load_cpu: int

    @property
    def shared(self) -> bool:
        return self.proxy_cpu == self.load_cpu


def placement() -> Placement:
    cpus = sorted(os.sched_getaffinity(0))
    return Placement(cpus[0], cpus[min(1, len(cpus) - 1)])


def speed_ms(cpu: int) -> float:
    """CPU milliseconds of a fixed pure Python loop on ``cpu``: lower is faster."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        start = time.process_time()
        x = 0
        for number in range(300_000):
            x += number & 7
        return (time.process_time() - start) * 1e3
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """Raises the soft limit of open files to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def facts() -> dict[str, str]:
    """What a reader has to know to read the numbers."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
    found = {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "nginx": nginx.strip().rpartition("/")[2],
    }
    for package in ("uvloop", "httptools", "uvicorn", "starlette", "msgspec"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    out, todo = [], [pid]
    while todo:
        one = todo.pop()
        out.append(one)
        todo += children.get(one, [])
    return out


def cpu_seconds(pids: list[int]) -> float:
    return sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid))) / TICKS


def busy_seconds() -> float:
    """CPU seconds that all CPUs together have spent on anything, the host's theft included."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of one process, by its id."""
    found: dict[int, float] = {}
    for name in os.listdir(f"/proc/{pid}/task"):
        fields = Path(f"/proc/{pid}/task/{name}/stat").read_text().rpartition(")")[2].split()
        found[int(name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return found


def rss_mb(pids: list[int]) -> float:
    return sum(int(fields[21]) for pid in pids if (fields := _stat(pid))) * PAGE / 1e6


def open_files(pids: list[int]) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Watch:
    """CPU used and highest memory of a process tree between enter and exit."""

    def __init__(self, pid: int) -> None:
        self._pids = tree(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self.cpu_s = 0.0
        self.peak_mb = 0.0

    def __enter__(self) -> Self:
        self._before = cpu_seconds(self._pids)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_s = cpu_seconds(self._pids) - self._before
        self._stop.set()
        self._thread.join()
        self.peak_mb = max(self.peak_mb, rss_mb(self._pids))

    def _poll(self) -> None:
        while not self._stop.wait(0.25):
            self.peak_mb = max(self.peak_mb, rss_mb(self._pids))
