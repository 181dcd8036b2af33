"""How does the source come into the workspace without a hostile address, ref or tree doing anything besides?

git runs here, in the container, and never on a host. Rules that hold:

* https alone: ext::, file://, ssh://, git://, plain paths and ``--upload-pack`` are refused before git is started, and
  git itself is told to allow nothing else; redirects are followed at the beginning only;
* no hooks, no submodules, no LFS download, no template, no configuration of the system or of a home;
* the token is in the environment of the git child alone and offered to the address's own host alone, by a helper
  that knows no other; it is never in an argument, an address, a configuration or a file;
* an upload is already there, unpacked by the engine from a checked stream; it gets a repository of its own, so that a
  diff can be made.

Started as root, git runs as the agent's uid: what it writes is the agent's.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .order import Places, Refused
from .processes import Child, Ran, Stop, run

_URL = re.compile(
    r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?/[A-Za-z0-9._~%!$&'()*+,;=:@/-]{1,1000}"
)
_REF = re.compile(r"(?![-/.])[A-Za-z0-9_./-]{1,200}")
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ERROR_MAX = 2000

GIT = (
    "git", "-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.file.allow=never",
    "-c", "core.symlinks=true", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false",
    "-c", "http.followRedirects=initial", "-c", "submodule.recurse=false", "-c", "init.templateDir=",
    "-c", "safe.directory=*", "-c", "advice.detachedHead=false", "-c", "gc.auto=0",
)  # fmt: skip
_HELPER = '!f() { test "$1" = get && printf "username=x-access-token\\npassword=%s\\n" "$RUNNER_GIT_TOKEN"; }; f'


class GitFailed(Exception):
    """git ended badly; str() is the end of what it said."""


class Git:
    """git in one workspace, with a clean environment, within the run's time."""

    def __init__(self, places: Places, stop: Stop, proxy_port: int | None = None) -> None:
        self._places = places
        self._stop = stop
        self._user = places.agent_uid if os.geteuid() == 0 and places.agent_uid else None
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(places.home),
            "LANG": "C.UTF-8",
            "GIT_ALLOW_PROTOCOL": "https",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_AUTHOR_NAME": "codex-relay",
            "GIT_AUTHOR_EMAIL": "codex-relay@localhost",
            "GIT_COMMITTER_NAME": "codex-relay",
            "GIT_COMMITTER_EMAIL": "codex-relay@localhost",
        }
        if proxy_port is not None:
            self._environment["https_proxy"] = f"http://127.0.0.1:{proxy_port}"
        if places.git_ca:
            self._environment["GIT_SSL_CAINFO"] = places.git_ca

    def run(
        self,
        *words: str,
        take: Callable[[bytes], None] | None = None,
        stdin: bytes = b"",
        more: dict[str, str] | None = None,
        stop: Stop | None = None,
    ) -> str:
        """What it said, or "" when ``take`` took it. Raises GitFailed; Refused when the time is up."""
        said, errors = bytearray(), bytearray()

        def complain(piece: bytes) -> None:
            errors.extend(piece)
            del errors[: -2 * _ERROR_MAX]

        child = Child([*GIT, *words], {**self._environment, **(more or {})}, self._places.workspace, self._user)
        try:
            ran = run(child, stop or self._stop, take or said.extend, complain, stdin)
        except OSError as error:
            raise GitFailed(f"git cannot be run: {error.strerror}") from error
        if ran.code != 0 or ran.why is not None:
            raise GitFailed(_reason(ran, errors.decode("utf-8", "replace")))
        return said.decode("utf-8", "surrogateescape").strip()


def _reason(ran: Ran, errors: str) -> str:
    if ran.why is not None:
        return f"git was stopped ({ran.why})"
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    return "\n".join(lines[-8:])[-_ERROR_MAX:] or f"git ended with {ran.code}"


def checked(source: dict[str, Any]) -> tuple[str, str | None]:
    """Address and ref. Raises Refused for anything but a plain https address and a plain ref."""
    url, ref = source.get("url"), source.get("ref")
    if not isinstance(url, str) or not _URL.fullmatch(url):
        raise Refused("The repository's address is not a plain https address")
    if "@" in urllib.parse.urlsplit(url).netloc:
        raise Refused("The repository's address holds a user or a password; give the token apart from it")
    if ref is None:
        return url, None
    if (
        not isinstance(ref, str)
        or not _REF.fullmatch(ref)
        or ".." in ref
        or "//" in ref
        or ref.endswith((".lock", "/"))
    ):
        raise Refused("The ref is not a branch, a tag or a full SHA")
    return url, ref


def clone(git: Git, source: dict[str, Any], token: str | None) -> str:
    """Checks the source out into the workspace; the commit. Raises Refused with git's own words."""
    url, ref = checked(source)
    try:
        if ref is not None and _SHA.fullmatch(ref):
            git.run("init", "--quiet")
            git.run("remote", "add", "--", "origin", url)
            git.run("fetch", "--depth", "1", "--no-tags", "--", "origin", ref, more=_credential(url, token))
            git.run("checkout", "--quiet", "--detach", "FETCH_HEAD")
        else:
            branch = [] if ref is None else ["-b", ref]
            shallow = ("--quiet", "--depth", "1", "--single-branch", "--no-tags")
            git.run("clone", *shallow, *branch, "--", url, ".", more=_credential(url, token))
            git.run("remote", "set-url", "origin", url)
        return git.run("rev-parse", "--verify", "HEAD^{commit}")
    except GitFailed as error:
        raise Refused(f"The repository could not be had: {error}") from error


def _credential(url: str, token: str | None) -> dict[str, str]:
    """The environment that gives the token to the address's host; asked by any other, git has nothing to say."""
    if token is None:
        return {}
    parts = urllib.parse.urlsplit(url)
    return {
        "RUNNER_GIT_TOKEN": token,
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": "",
        "GIT_CONFIG_KEY_1": f"credential.https://{parts.netloc}.helper",
        "GIT_CONFIG_VALUE_1": _HELPER,
    }


def adopt_upload(git: Git, workspace: Path) -> str:
    """A repository around what was uploaded (or around nothing); the commit. Raises Refused."""
    try:
        if not (workspace / ".git").is_dir():
            git.run("init", "--quiet", "-b", "main")
            git.run("add", "-A", "--force")
            git.run("commit", "--quiet", "--allow-empty", "--no-verify", "-m", "The source as it was given")
        return git.run("rev-parse", "--verify", "HEAD^{commit}")
    except GitFailed as error:
        raise Refused(f"The upload could not be prepared: {error}") from error


def own(folder: Path, uid: int) -> None:
    """Gives everything below ``folder`` to the agent, without following a link; as another than root: nothing."""
    if os.geteuid() != 0 or not uid:
        return
    for here, folders, files in os.walk(folder, followlinks=False):
        for name in (".", *folders, *files):
            path = os.path.join(here, name)
            if os.lstat(path).st_uid != uid:
                os.lchown(path, uid, uid)
