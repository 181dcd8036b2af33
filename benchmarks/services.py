"""Starts and stops what is measured: the mock upstream, the nginx proxy and the gateway. Loopback only.

Every child is pinned to a CPU and told by the kernel to end when this process dies, so nothing is left behind. Folders:
``public`` holds what nginx (another user) may see, ``private`` the gateway's store, vault key, log and auth files.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
APT_LINE = "apt-get install nginx libnginx-mod-http-lua gcc util-linux"
TENANT = "bench"
ACCOUNTS = 3
LIMITED_RPM = 1000


class CannotRun(Exception):
    """Something that the benchmarks need is missing or does not start; str() is one line with the fix."""


@dataclass(frozen=True)
class Service:
    """Something that answers POST ``path`` on loopback."""

    name: str
    port: int
    pid: int
    path: str = "/v1/responses"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def get(self, path: str, *, auth: bool = False) -> bytes:
        headers = dict(self.headers) if auth else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())


@dataclass(frozen=True)
class GatewayRun:
    """A running gateway with its folder and the environment that its commands need.

    ``limited`` is the same gateway with another key, which may make LIMITED_RPM requests per minute.
    """

    service: Service
    limited: Service
    folder: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def database(self) -> Path:
        return self.folder / "relay.db"

    def command(self, *arguments: str) -> str:
        return relay_command(self.environment, *arguments)


def module_folder() -> str:
    """Where nginx's lua module lies. CannotRun names the packages when a tool is missing."""
    missing = [tool for tool in ("nginx", "gcc", "setpriv", "taskset") if not shutil.which(tool)]
    for folder in MODULE_FOLDERS:
        if Path(folder, "ngx_http_lua_module.so").exists() and not missing:
            return folder
    raise CannotRun(f"missing: {', '.join(missing) or 'the lua module of nginx'}; as root: {APT_LINE}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str], cpu: int, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Runs ``command`` on ``cpu`` until the block ends; output goes to ``log``. Yields its pid."""
    pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", str(cpu), *command]
    with log.open("ab") as out:
        child = subprocess.Popen(
            pinned, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT,
            env=dict(environment) if environment is not None else None, start_new_session=True,
        )  # fmt: skip
    try:
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until_up(port: int, path: str, name: str, log: Path, pid: int, timeout_s: float = 30.0) -> None:
    """Returns when GET ``path`` answers 200; CannotRun with the end of the log otherwise."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
        time.sleep(0.05)
    raise CannotRun(f"{name} does not come up; its log ends: {log.read_text(errors='replace')[-600:].strip()}")


def _nginx_conf(template: str, public: Path, **values: object) -> Path:
    text = (HERE / template).read_text().replace("load_module modules/", f"load_module {module_folder()}/")
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = public / f"{values['NAME']}.conf"
    path.write_text(text)
    return path


@contextlib.contextmanager
def mock_upstream(public: Path, cpu: int, files: int) -> Iterator[Service]:
    """The mock; its path is the Codex backend's."""
    port = free_port()
    limits = {"FILES": files, "CONNECTIONS": files // 2}
    conf = _nginx_conf("mock.conf", public, NAME="mock", MOCK_PORT=port, **limits)
    log = public / "mock.log"
    with process(["nginx", "-p", str(public), "-c", str(conf)], cpu, log) as pid:
        wait_until_up(port, "/stats", "the mock upstream", log, pid)
        yield Service("direct", port, pid, "/backend-api/codex/responses")


@contextlib.contextmanager
def nginx_proxy(public: Path, cpu: int, files: int, mock: Service, name: str = "nginx") -> Iterator[Service]:
    """A plain reverse proxy in front of the mock."""
    port = free_port()
    limits = {"FILES": files, "CONNECTIONS": files // 2}
    conf = _nginx_conf("nginx-proxy.conf", public, NAME=name, PORT=port, MOCK_PORT=mock.port, **limits)
    log = public / f"{name}.log"
    with process(["nginx", "-p", str(public), "-c", str(conf)], cpu, log) as pid:
        wait_until_up(port, "/stats", "the nginx proxy", log, pid)
        yield Service(name, port, pid, mock.path)


@contextlib.contextmanager
def gateway(
    private: Path, cpu: int, mock: Service, extra: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
) -> Iterator[GatewayRun]:
    """``codex-relay serve`` with benchmarks/gateway.toml, three imported accounts and one client key.

    ``extra`` are more CODEX_RELAY_ variables; ``wrapper`` stands before the program (a profiler).
    """
    folder = private / f"gateway-{len(list(private.glob('gateway-*')))}"
    folder.mkdir(mode=0o700)
    port = free_port()
    environment = _environment(folder, port, mock) | dict(extra or {})
    files = [str(_auth_file(folder, number)) for number in range(1, ACCOUNTS + 1)]
    relay_command(environment, "accounts", "import", *files)
    free = _key(environment)
    limited = _key(environment, "--rpm", str(LIMITED_RPM))
    log = folder / "serve.log"
    command = [sys.executable, *wrapper, "-m", "ops.cli", "serve"]
    with process(command, cpu, log, environment) as pid:
        wait_until_up(port, "/readyz", "the gateway", log, pid)
        yield GatewayRun(
            Service("gateway", port, pid, headers=free),
            Service("gateway", port, pid, headers=limited),
            folder,
            environment,
        )


def _key(environment: Mapping[str, str], *options: str) -> tuple[tuple[str, str], ...]:
    """A new client key, as the header that carries it."""
    made = json.loads(relay_command(environment, "keys", "create", "--tenant", TENANT, "--json", *options))
    return (("Authorization", f"Bearer {made['key']}"),)


def relay_command(environment: Mapping[str, str], *arguments: str) -> str:
    """Standard output of a ``codex-relay`` command; CannotRun with its last line when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing said"]
        raise CannotRun(f"codex-relay {arguments[0]} {arguments[1]}: exit {done.returncode}: {said[-1]}")
    return done.stdout


def _environment(folder: Path, port: int, mock: Service) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CODEX_RELAY_")}
    return kept | {
        "CODEX_RELAY_CONFIG": str(HERE / "gateway.toml"),
        "CODEX_RELAY_SERVER__PORT": str(port),
        "CODEX_RELAY_STORE__URL": f"sqlite:///{folder}/relay.db",
        "CODEX_RELAY_VAULT__KEY_FILE": str(folder / "vault.key"),
        "CODEX_RELAY_UPSTREAM__BASE_URL": f"http://127.0.0.1:{mock.port}/backend-api/codex",
        "CODEX_RELAY_UPSTREAM__CHATGPT_BASE_URL": f"http://127.0.0.1:{mock.port}/backend-api",
    }


def _auth_file(folder: Path, number: int) -> Path:
    """An auth.json as the Codex CLI writes it, for a simulated account with a token that lasts a month."""
    now = int(time.time())
    account = f"acct-bench-{number}"
    claims = {
        "iss": "https://auth.openai.com",
        "aud": ["app_EMoamEEZ73f0CkXaXp7hrann"],
        "iat": now,
        "exp": now + 30 * 86_400,
        "email": f"bench{number}@example.com",
        "sub": f"auth0|bench{number}",
        "https://api.openai.com/auth": {
            "chatgpt_account_id": account,
            "chatgpt_plan_type": "pro",
            "chatgpt_user_id": f"user-bench-{number}",
            "user_id": f"user-bench-{number}",
        },
    }
    token = ".".join([_b64({"alg": "RS256", "typ": "JWT"}), _b64(claims), base64.urlsafe_b64encode(b"sig").decode()])
    tokens = {"id_token": token, "access_token": token, "refresh_token": f"rt_bench_{number}", "account_id": account}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    path = folder / f"auth-{number}.json"
    auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": stamp}
    path.touch(mode=0o600)
    path.write_text(json.dumps(auth))
    return path


def _b64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
