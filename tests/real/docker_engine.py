"""A Docker engine for tests: the machine's own when it runs, else one of our own in a private folder.

What an image is built from comes from the machine: a Debian base by debootstrap from the mirror that apt uses (kept in
a cache outside the project), wheels by pip from the index that pip uses, each by its hash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "codex-relay-tests"
BASE_RELEASE = "bookworm"
BASE_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.2"}
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Docker:
    """The ``docker`` command against one engine."""

    host: str | None

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 60, stdin: Path | None = None) -> str:
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        if self.host is not None:
            environment["DOCKER_HOST"] = self.host
        with open(stdin or os.devnull, "rb") as source:
            done = subprocess.run(
                ["docker", *arguments],
                env=environment,
                stdin=source,
                check=False,
                capture_output=True,
                text=True,
                timeout=timeout_s,
            )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip() if check else f"{done.returncode}"

    def answers(self) -> bool:
        return self.run("version", check=False) == "0"


def unavailable() -> str | None:
    """Why no engine can be had here, or None."""
    for command in ("docker", "debootstrap", "apt-get"):
        if shutil.which(command) is None:
            return f"{command} is not installed; make system-deps"
    if Docker(None).answers():
        return None
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root can start one"
    return None if shutil.which("dockerd") else "dockerd is not installed; make system-deps"


@contextmanager
def engine() -> Iterator[Docker]:
    """The machine's engine, or one that lives as long as the block."""
    if Docker(None).answers():
        yield Docker(None)
        return
    folder = Path(tempfile.mkdtemp(prefix="relay-dk-", dir="/tmp"))  # short: it holds Unix sockets
    try:
        for driver in ("overlay2", "vfs"):
            process = _start(folder, driver)
            try:
                docker = Docker(f"unix://{folder}/d.sock")
                if _wait(docker, process):
                    yield docker
                    return
            finally:
                process.terminate()
                process.wait(30)
        raise AssertionError((folder / "log").read_text()[-3000:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, driver: str) -> subprocess.Popen[bytes]:
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            ["dockerd", f"--storage-driver={driver}", "--iptables=false", "--ip6tables=false", "--bridge=none",
             f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--host=unix://{folder}/d.sock",
             f"--pidfile={folder}/pid"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def _wait(docker: Docker, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        if docker.answers():
            return True
        time.sleep(0.2)
    return False


def base_tarball(name: str = "base", packages: str = "python3,python3-venv") -> Path:
    """A minimal Debian with ``packages``, made once per machine and ``name``."""
    tarball = CACHE / f"{name}-{BASE_RELEASE}.tar"
    if tarball.is_file():
        return tarball
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="relay-base-") as folder:
        root = Path(folder) / "root"
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={packages}",
            BASE_RELEASE,
            str(root),
            _mirror(),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        draft = tarball.with_suffix(f".{os.getpid()}")
        subprocess.run(["tar", "-C", str(root), "-cf", str(draft), "."], check=True, timeout=300)
        draft.rename(tarball)
    return tarball


def _mirror() -> str:
    shown = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", shown, "Created-By: Packages"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        address, codename, component = line.split()
        if (codename, component) == (BASE_RELEASE, "main"):
            return address
    raise AssertionError(f"apt knows no mirror of {BASE_RELEASE}")


def download_wheels(lock: Path, folder: Path) -> None:
    """Every wheel that the base's Python needs of ``lock``, checked by hash."""
    wanted = []
    for block in re.split(r"\n(?=\S)", lock.read_text()):
        found = re.match(r"(\S+==\S+)(?: ; (.+?))?( \\\n.*)", block, re.DOTALL)
        assert found is not None, block
        if found[2] is None or Marker(found[2]).evaluate(dict(BASE_PYTHON)):
            wanted.append(found[1] + found[3])
    folder.mkdir()
    chosen = folder.parent / "chosen.lock"
    chosen.write_text("\n".join(wanted) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:",
         "--python-version=3.11", "-r", str(chosen), "-d", str(folder)],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
