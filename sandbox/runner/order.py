"""What is this container told to do? The two input files and the command line, read and checked.

Rules that hold:

* ``secrets.json`` is deleted before anything else happens, also when it cannot be read; its values are in this
  process's memory and in the environment of the one child that needs them;
* a file that is not what it should be raises Refused with one line of cause; nothing has been run by then;
* paths, ports and the agent's uid come by the command line, so that the same code runs on a bare host in tests.

Keys: docs of ``spec_json`` and ``secrets_json`` in sandbox/codex.py, which writes these files.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PHASES = ("setup", "agent", "judge")


class Refused(Exception):
    """The input cannot be used; str() is one line for the task's owner."""


@dataclass(frozen=True)
class Places:
    """Where things are; the defaults are the image's."""

    workspace: Path
    task: Path
    out: Path
    home: Path
    socket: Path
    codex: str
    model_port: int
    proxy_port: int
    agent_uid: int
    git_ca: str


@dataclass(frozen=True)
class Spec:
    """``base``: the commit that the diff is made against; None: what is checked out when the agent begins."""

    phase: str
    prompt: str = ""
    model: str = ""
    effort: str | None = None
    thread_id: str | None = None
    git: dict[str, Any] | None = None
    base: str | None = None
    commands: tuple[tuple[str, str], ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    deadline_s: float = 3600.0
    output_bytes: int = 40 << 20
    artifacts: tuple[str, ...] = ()
    starting_diff: str = ""


@dataclass(frozen=True, repr=False)
class Secrets:
    """``environment`` reaches the set-up scripts alone; ``task_key`` the CLI; ``egress_token`` the proxy port."""

    git_token: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    task_key: str | None = None
    egress_token: str | None = None

    def values(self) -> tuple[str, ...]:
        named = (self.git_token, self.task_key, self.egress_token)
        return (*(one for one in named if one), *self.environment.values())


def read_places(argv: list[str]) -> Places:
    parser = argparse.ArgumentParser(prog="runner", description="Runs one phase of a task inside its container.")
    for name, default in (
        ("workspace", "/workspace"), ("task", "/task"), ("out", "/out"), ("home", "/home/agent"),
        ("socket", "/run/gw/gw.sock"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=Path, default=Path(default))
    parser.add_argument("--codex", default="/opt/codex/bin/codex")
    parser.add_argument("--model-port", type=int, default=8089)
    parser.add_argument("--proxy-port", type=int, default=8090)
    parser.add_argument("--agent-uid", type=int, default=10001, help="who owns the workspace when started as root")
    parser.add_argument("--git-ca", default="", help="a file of certificates that git trusts besides none other")
    return Places(**vars(parser.parse_args(argv)))


def take_secrets(task: Path) -> Secrets:
    """What ``secrets.json`` held; the file is gone afterwards, whatever happens. Raises Refused."""
    path = task / "secrets.json"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Secrets()
    except OSError as error:
        raise Refused(f"The task's secrets cannot be read: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)
    try:
        told = json.loads(raw)
        named = {name: told.get(name) for name in ("git_token", "task_key", "egress_token")}
        found = Secrets(**named, environment=_texts(told.get("environment") or {}))
    except (ValueError, TypeError, AttributeError):
        raise Refused("The task's secrets are not in the form that this image knows; build it anew") from None
    if any(value is not None and not isinstance(value, str) for value in named.values()):
        raise Refused("The task's secrets are not in the form that this image knows; build it anew")
    return found


def read_spec(task: Path) -> Spec:
    """Raises Refused for anything but a spec of a known phase."""
    try:
        told = json.loads((task / "spec.json").read_bytes())
        spec = Spec(
            phase=told["phase"],
            prompt=str(told.get("prompt") or ""),
            model=str(told.get("model") or ""),
            effort=told.get("effort"),
            thread_id=told.get("thread_id"),
            git=told.get("git"),
            base=told.get("base"),
            commands=tuple((str(label), str(script)) for label, script in told.get("commands") or ()),
            environment=_texts(told.get("environment") or {}),
            deadline_s=float(told.get("deadline_s", 3600.0)),
            output_bytes=int(told.get("output_bytes", 40 << 20)),
            artifacts=tuple(str(path) for path in told.get("artifacts") or ()),
            starting_diff=str(told.get("starting_diff") or ""),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"The task cannot be read ({type(error).__name__}); worker and image may differ") from error
    if spec.phase not in PHASES:
        raise Refused("The task names a phase that this image does not know; build it anew")
    return spec


def _texts(told: Any) -> dict[str, str]:
    """A mapping that can be an environment: no NUL, no ``=`` in a name."""
    found = {str(name): str(value) for name, value in told.items()}
    if any(not name or "=" in name or "\0" in name + value for name, value in found.items()):
        raise ValueError("not an environment")
    return found


def command_environment(places: Places, spec: Spec, proxy_port: int | None) -> dict[str, str]:
    """What every child gets: a small environment of its own, the task's plain variables, and the proxy if allowed."""
    tools = Path(places.codex).parent
    base = {
        "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{tools.parent / 'codex-path'}:{tools}",
        "HOME": str(places.home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "CI": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": "1",  # set-up scripts are root's, the work tree is the agent's
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": str(places.workspace),
        "GIT_AUTHOR_NAME": "agent",
        "GIT_AUTHOR_EMAIL": "agent@localhost",
        "GIT_COMMITTER_NAME": "agent",
        "GIT_COMMITTER_EMAIL": "agent@localhost",
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108 - the container's own tmpfs
    }
    local = "127.0.0.1,localhost,::1"
    proxy: dict[str, str] = {}
    if proxy_port is not None:
        address = f"http://127.0.0.1:{proxy_port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        proxy = {**dict.fromkeys(names, address), "NO_PROXY": local, "no_proxy": local}
    return {**base, **spec.environment, **proxy}
