"""The image is built without network and serves as nobody, on a root that nobody can write."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.conftest import missing
from tests.real.docker_engine import Docker, base_tarball, download_wheels, engine, unavailable

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("auth", "gateway", "ops", "router", "sandbox", "store", "upstream")
IMAGE = "codex-relay-under-test"
BASE = "codex-relay-test-base"
CONTAINER = "codex-relay-under-test"
VOLUME = "codex-relay-test-data"

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    reason = unavailable()
    if reason is not None:
        missing(reason)
    with engine() as running:
        yield running


@pytest.fixture(scope="module")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    context = tmp_path_factory.mktemp("context")
    for name in ("Dockerfile", ".dockerignore", "requirements.lock"):
        shutil.copy(ROOT / name, context / name)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, context / package, ignore=shutil.ignore_patterns("__pycache__"))
    download_wheels(ROOT / "requirements.lock", context / "wheels")
    docker.run("import", "-", BASE, stdin=base_tarball(), timeout_s=300)
    try:
        docker.run(
            "build", "--network=none", f"--build-arg=BASE_IMAGE={BASE}", "-q", "-t", IMAGE, str(context), timeout_s=900
        )
        yield IMAGE
    finally:
        docker.run("rmi", "-f", IMAGE, BASE, check=False)


@pytest.fixture(scope="module")
def container(docker: Docker, image: str) -> Iterator[str]:
    docker.run(
        "run", "-d", f"--name={CONTAINER}", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", f"--volume={VOLUME}:/data", image,
    )  # fmt: skip
    try:
        yield CONTAINER
    finally:
        docker.run("rm", "-f", CONTAINER, check=False)
        docker.run("volume", "rm", "-f", VOLUME, check=False)


def test_it_becomes_healthy(docker: Docker, container: str) -> None:
    end = time.monotonic() + 60
    state = ""
    while time.monotonic() < end and state != "healthy":
        state = docker.run("inspect", "--format={{.State.Health.Status}}", container)
        time.sleep(0.5)
    assert state == "healthy", docker.run("logs", container)


def test_it_runs_as_nobody_with_nothing_to_write_but_its_data(docker: Docker, container: str) -> None:
    assert docker.run("exec", container, "id", "-u") == "10001"
    assert docker.run("exec", container, "sh", "-c", "touch /app/x || touch /etc/x || echo refused") == "refused"
    assert docker.run("exec", container, "stat", "-c", "%a %u", "/data/vault.key") == "600 10001"


_STATUS = """
import sys, time, urllib.error, urllib.request
key = sys.stdin.read()
request = urllib.request.Request('http://127.0.0.1:8080/v1/models', headers={'Authorization': 'Bearer ' + key})
for _ in range(100):
    try:
        status = urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        status = error.code
    except urllib.error.URLError:  # not listening yet
        time.sleep(0.1)
        continue
    if status != 401:
        break
    time.sleep(float(sys.argv[1]))
print(status)
"""


def test_the_command_line_works_inside_and_a_key_opens_the_door(docker: Docker, container: str, tmp_path: Path) -> None:
    """Without an account there is nothing to list (503), but a key that is known is let in and another is not."""
    made = json.loads(docker.run("exec", container, "codex-relay", "keys", "create", "--tenant", "t", "--json"))
    for key, wait, expected in ((made["key"], "0.1", {"200", "503"}), (made["key"][:-1] + "!", "0", {"401"})):
        file = tmp_path / "key"
        file.write_text(key)
        answer = docker.run("exec", "-i", container, "/app/venv/bin/python", "-c", _STATUS, wait, stdin=file)
        assert answer in expected


def test_no_secret_is_in_the_image(docker: Docker, image: str) -> None:
    told = json.loads(docker.run("inspect", image))[0]["Config"]
    assert told["User"] == "10001:10001"
    assert not any("SECRET" in one or "TOKEN" in one for one in told["Env"])
    listed = docker.run("run", "--rm", "--network=none", "--entrypoint=/bin/ls", image, "-A", "/data", "/app", "/tmp")
    assert "wheels" not in listed
    assert ".git" not in listed


def test_it_ends_in_order_when_told_to(docker: Docker, container: str) -> None:
    docker.run("stop", "--time=20", container)
    assert docker.run("inspect", "--format={{.State.ExitCode}}", container) == "0"
