"""Sources: a real git server over https behind the proxy port, and addresses and refs that are weapons."""

from __future__ import annotations

import base64
import http.server
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ops.simulator.server import tls_context
from sandbox.runner.checkout import Git, adopt_upload, checked, clone
from sandbox.runner.forward import listen, proxy_port
from sandbox.runner.order import Places, Refused
from sandbox.runner.processes import Stop

TOKEN = "git-t0ken-value"
BACKEND = Path("/usr/lib/git-core/git-http-backend")
needs_backend = pytest.mark.skipif(not BACKEND.exists(), reason="git http-backend is not installed; apt install git")


@dataclass
class GitHost:
    """``repo`` is public, ``private`` wants the token; every header of authorization that came is kept."""

    folder: Path
    ca: Path
    port: int = 0
    authorizations: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"


def handler(host: GitHost) -> type[http.server.BaseHTTPRequestHandler]:
    wanted = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            if given is not None:
                host.authorizations.append(given)
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", f"https://127.0.0.1:{host.port}/private{self.path[6:]}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path.startswith("/private") and given != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic realm=x")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.replace("/private", "/repo", 1).partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            done = subprocess.run(
                [BACKEND], input=body, capture_output=True, check=False,
                env={"GIT_PROJECT_ROOT": str(host.folder), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                     "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                     "CONTENT_TYPE": self.headers.get("Content-Type", ""), "PATH": os.environ["PATH"],
                     "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                     "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_COUNT": "1",
                     "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
            )  # fmt: skip
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = [line.partition(": ") for line in head.decode().splitlines()]
            status = next((value for name, _, value in lines if name == "Status"), "200 OK")
            self.send_response(int(status.split()[0]))
            for name, _, value in lines:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the name that the server calls

    return Handler


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    context, pem = tls_context()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem)
    found = GitHost(tmp_path / "served", ca)
    work = tmp_path / "origin"
    for words in (
        ["init", "-q", "-b", "main", str(work)],
        ["-C", str(work), "commit", "-q", "--allow-empty", "-m", "first"],
        ["-C", str(work), "tag", "v1"],
        ["-C", str(work), "commit", "-q", "--allow-empty", "-m", "second"],
        ["-C", str(work), "branch", "feature/x"],
        ["clone", "-q", "--bare", str(work), str(found.folder / "repo")],
    ):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], check=True, timeout=30)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(found)) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """The proxy port, and the heads that came to the socket behind it, which opens tunnels."""
    path, heads = tmp_path / "gw.sock", list[bytes]()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def tunnel(client: socket.socket) -> None:
        head = client.recv(65536)
        heads.append(head)
        name, _, port = head.split(b" ")[1].rpartition(b":")
        with client, socket.create_connection((name.decode(), int(port))) as target:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            up = threading.Thread(target=copy, args=(client, target), daemon=True)
            up.start()
            copy(target, client)
            up.join()

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=tunnel, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listen(0, proxy_port(path, "egress-t0ken")), heads
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@needs_backend
@pytest.mark.slow
def test_a_repository_is_had_by_branch_tag_sha_and_token_through_the_proxy(
    host: GitHost, places: Places, proxied: tuple[int, list[bytes]], run_git: Callable[..., str]
) -> None:
    port, heads = proxied
    git = Git(replace(places, git_ca=str(host.ca)), Stop(60.0), port)
    subjects = {}
    origin = host.folder / "repo"
    first = run_git("rev-parse", "v1", folder=origin)
    for name, ref in (("repo", None), ("repo", "feature/x"), ("repo", "v1"), ("repo", first), ("private", "main"),
                      ("private", first)):  # fmt: skip
        token = TOKEN if name == "private" else None
        commit = clone(git, {"url": host.url(name), "ref": ref}, token)
        assert commit == run_git("rev-parse", "HEAD")
        subjects[name, ref] = run_git("log", "--format=%s")
        assert run_git("remote", "get-url", "origin") == host.url(name)
        assert files_with(places.workspace, TOKEN) == []
        shutil.rmtree(places.workspace)
        places.workspace.mkdir()
    assert list(subjects.values()) == ["second", "second", "first", "first", "second", "first"]
    assert heads
    assert all(b"Proxy-Authorization: Basic " in head for head in heads)
    assert files_with(places.home, TOKEN) == []


@needs_backend
@pytest.mark.slow
def test_a_redirect_to_another_host_does_not_get_the_token(host: GitHost, places: Places) -> None:
    git = Git(replace(places, git_ca=str(host.ca)), Stop(60.0))
    with pytest.raises(Refused):
        clone(git, {"url": host.url("moved"), "ref": None}, TOKEN)
    assert host.authorizations == []


@needs_backend
@pytest.mark.slow
def test_a_private_repository_without_a_token_is_refused_with_gits_words(host: GitHost, places: Places) -> None:
    git = Git(replace(places, git_ca=str(host.ca)), Stop(60.0))
    for token in (None, "wrong"):
        with pytest.raises(Refused, match="could not be had") as caught:
            clone(git, {"url": host.url("private"), "ref": None}, token)
        assert "wrong" not in str(caught.value)


CANARY = "/tmp/codex-relay-runner-canary"
HOSTILE_URLS = (
    f"ext::sh -c touch% {CANARY}", "file:///etc", "/etc", "./x", "ssh://-oProxyCommand=touch/x", "git://h/x",
    "http://h/x", f"--upload-pack=touch {CANARY}", "-u", "https://", "https://-x/y", "https://h", "https://u:p@h/x",
    "https://u@h/x", "https://h/x\n", "https://h/x\r\n[core]", "https://h/x y", "https://h/\x00", "https://h\\@e/x",
    "HTTPS::x", f"https://h/x;touch {CANARY}", "https://h/x`id`", 'https://h/"x', "https://h/#x", "https://h/?x", "",
    None, 7, ["https://h/x"],
)  # fmt: skip
HOSTILE_REFS = (
    "-x", "--upload-pack=x", "a..b", "a b", "a\n", "a;b", "/a", "a/", "a//b", ".a", "a.lock", "a@{1}", "a:b", "a~1",
    "a^", "", "a" * 201, "$(id)", 7, ["a"],
)  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_address_is_refused_before_git_is_started(places: Places, url: object) -> None:
    git = Git(places, Stop(60.0))
    with pytest.raises(Refused):
        clone(git, {"url": url, "ref": None}, "t0ken")
    assert list(places.workspace.iterdir()) == []
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("ref", HOSTILE_REFS)
def test_a_hostile_ref_is_refused(ref: object) -> None:
    with pytest.raises(Refused):
        checked({"url": "https://h/x", "ref": ref})


@pytest.mark.slow
@pytest.mark.parametrize("url", [f"ext::sh -c touch% {CANARY}", "file://{origin}", "{origin}", "http://127.0.0.1:9/x"])
def test_git_itself_allows_nothing_but_https(
    places: Places, repository: str, run_git: Callable[..., str], tmp_path: Path, url: str
) -> None:
    """The second line of defence, asked without the first one."""
    git = Git(replace(places, workspace=places.home), Stop(60.0))
    with pytest.raises(Exception, match="not allowed"):
        git.run("clone", "--", url.replace("{origin}", str(places.workspace)), "there")
    assert not Path(CANARY).exists()


@pytest.mark.slow
def test_an_upload_gets_a_repository_without_hooks_or_a_foreign_configuration(places: Places) -> None:
    (places.workspace / "sub").mkdir()
    (places.workspace / "sub" / "x.o").write_text("x")
    (places.workspace / ".gitignore").write_text("*.o\n")
    (places.home / ".gitconfig").write_text(f'[core]\n\tfsmonitor = "touch {CANARY}"\n')
    git = Git(places, Stop(60.0))
    base = adopt_upload(git, places.workspace)
    assert git.run("ls-tree", "-r", "--name-only", base).split() == [".gitignore", "sub/x.o"]
    assert adopt_upload(git, places.workspace) == base
    assert not Path(CANARY).exists()
