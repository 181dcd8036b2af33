"""One phase of one attempt, from its two input files to ``result.json``: what this container is for.

setup: the source, then the scripts, with the environment's secrets. agent: the starting diff, the CLI, the diff.
judge: the diff of an attempt, then the repository's own tests. Rules that hold:

* whatever happens, the last line is ``runner.ended``, and ``result.json`` has the same: a run that is cancelled, late
  or refused still hands over what there is;
* before the diff is made, everything that the run left behind has been killed;
* an unexpected error ends as ``failed`` with its kind, not with a trace of values.

Exit codes: 0 done, 1 failed (or a limit, or the budget), 2 input refused, 124 timed out, 143 cancelled.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .artifacts import keep
from .changes import apply_patch, diff
from .checkout import Git, GitFailed, adopt_upload, clone, own
from .events import Events, Masks
from .forward import listen, model_port, proxy_port
from .order import Places, Refused, Secrets, Spec, command_environment, read_places, read_spec, take_secrets
from .processes import Child, Stop, adopt_orphans, end_all, run
from .scripts import Scripts
from .turn import KEY_NAME, MESSAGE_MAX, Tail, Turn, arguments

EXITS = {"done": 0, "input_refused": 2, "timed_out": 124, "cancelled": 143}
LOG_MAX = 4 << 20
_BUDGET = "budget_exhausted"


@dataclass(frozen=True)
class Result:
    """What the last line and ``result.json`` hold; field names are their keys."""

    ended: str
    message: str = ""
    exit_code: int | None = None
    thread_id: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    files_changed: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    tests_passed: bool | None = None
    base: str | None = None
    diff_bytes: int | None = None
    diff_cut: bool = False
    artifacts: tuple[str, ...] = ()


class Phase:
    """What every phase has at hand."""

    def __init__(self, places: Places, spec: Spec, secrets: Secrets, events: Events, masks: Masks, stop: Stop) -> None:
        self.places = places
        self.spec = spec
        self.secrets = secrets
        self.events = events
        self.masks = masks
        self.stop = stop
        self.proxy: int | None = None
        if secrets.egress_token is not None:
            self.proxy = listen(places.proxy_port, proxy_port(places.socket, secrets.egress_token))
        self.git = Git(places, stop, self.proxy)
        self.environment = command_environment(places, spec, self.proxy)

    def perform(self) -> Result:
        """Runs the phase. Raises Refused for a source or a diff that cannot be used."""
        self.places.home.mkdir(parents=True, exist_ok=True)
        if self.spec.phase == "setup":
            return self.setup()
        return self.agent() if self.spec.phase == "agent" else self.judge()

    # set-up

    def setup(self) -> Result:
        workspace = self.places.workspace
        if self.spec.git is None:
            own(workspace, self.places.agent_uid)
            base = adopt_upload(self.git, workspace)
        elif (workspace / ".git").is_dir():
            base = self._head()
        else:
            base = clone(self.git, self.spec.git, self.secrets.git_token)
        self.events.say("runner", "runner.source", {"base": base})
        environment = {**self.environment, **self.secrets.environment}
        result = self._scripts("setup", environment, base)
        end_all()
        for folder in (workspace, self.places.home):
            own(folder, self.places.agent_uid)
        return result

    def _scripts(self, source: str, environment: dict[str, str], base: str) -> Result:
        scripts = Scripts(self.events, self.masks, self.stop, source, self.places.out / f"{source}.log", LOG_MAX)
        ran = None
        for label, script in self.spec.commands:
            ran, tail = scripts.run(label, script, environment, self.places.workspace)
            if ran.why is not None:
                return Result(ran.why, _WORDS[ran.why], ran.code, base=base)
            if ran.code != 0:
                message = f"{label} ended with {ran.code}\n{tail}"[-MESSAGE_MAX:]
                return Result("failed", message, ran.code, base=base)
        return Result("done", exit_code=None if ran is None else 0, base=base)

    def _head(self) -> str:
        try:
            return self.git.run("rev-parse", "--verify", "HEAD^{commit}")
        except GitFailed as error:
            raise Refused(f"The workspace has no commit to begin from: {error}") from error

    def _begin(self) -> str:
        """The base, with the starting diff applied. Raises Refused."""
        base = self.spec.base or self._head()
        if self.spec.starting_diff.strip():
            try:
                apply_patch(self.git, self.spec.starting_diff)
            except GitFailed as error:
                raise Refused(f"The starting diff does not apply: {error}") from error
        return base

    # agent

    def agent(self) -> Result:
        port = listen(self.places.model_port, model_port(self.places.socket))
        command = arguments(self.places, self.spec, port)
        base = self._begin()
        codex_home = self.places.home / ".codex"
        codex_home.mkdir(mode=0o700, exist_ok=True)
        environment = {**self.environment, "CODEX_HOME": str(codex_home), KEY_NAME: self.secrets.task_key or "none"}
        turn, tail = Turn(self.events), Tail(lambda text: self.events.say("codex", "codex.stderr", {"text": text}))
        self.events.say("runner", "runner.turn", {"base": base, "resumes": self.spec.thread_id})
        child = Child(command, environment, self.places.workspace)
        child = replace(child, polite=signal.SIGINT)
        ran = run(child, self.stop, turn, tail, stdin=self.spec.prompt.encode("utf-8", "surrogateescape"))
        turn.close()
        end_all()
        ended, message = ran.why, _WORDS.get(ran.why or "", "")
        if ended is None:
            ended, message = self._judged(ran.code, turn, tail.text)
        result = Result(
            ended, self.masks(message)[:MESSAGE_MAX], ran.code, turn.thread_id or self.spec.thread_id, turn.usage or {}
        )
        return self._collected(result, base)

    @staticmethod
    def _judged(code: int, turn: Turn, errors: str) -> tuple[str, str]:
        if code == 0:
            return "done", ""
        message = turn.fault or errors.strip() or f"the CLI ended with {code}"
        return ("budget" if _BUDGET in message else "failed"), message

    def _collected(self, result: Result, base: str) -> Result:
        """The same with the diff and the artifacts; what cannot be had is said in the message."""
        result = replace(result, base=base)
        try:
            _cleared(self.places.out / "diff.patch")
            found = diff(self.git, base, self.places.out / "diff.patch")
        except (GitFailed, OSError) as error:
            result = replace(result, message=f"{result.message}\nThe diff could not be made: {error}".strip())
            if result.ended == "done":
                result = replace(result, ended="failed")
        else:
            result = replace(
                result, files_changed=found.files, lines_added=found.added, lines_removed=found.removed,
                diff_bytes=found.size_bytes, diff_cut=found.cut,
            )  # fmt: skip
            if found.cut:
                message = f"{result.message}\nThe diff is too large; it ends after the last file that fits".strip()
                result = replace(result, message=message, ended="limit" if result.ended == "done" else result.ended)
        with contextlib.suppress(OSError):
            _cleared(self.places.out / "artifacts")
        kept = keep(self.places.workspace, self.spec.artifacts, self.places.out / "artifacts")
        for path, why in kept.left:
            self.events.say("runner", "runner.artifact_left", {"path": path, "reason": why})
        return replace(result, artifacts=kept.names)

    # judge

    def judge(self) -> Result:
        result = self._scripts("judge", self.environment, self._begin())
        end_all()
        if result.ended in {"done", "failed"} and self.spec.commands:
            return replace(result, ended="done", tests_passed=result.ended == "done")
        return result


_WORDS = {"cancelled": "The run was cancelled", "timed_out": "The time of the task is up"}


def main(argv: list[str]) -> int:
    """Runs the phase that the task folder names; the exit code."""
    places = read_places(argv)
    adopt_orphans()
    secrets, spec, refused = _orders(places.task)
    stop = Stop(spec.deadline_s)
    stop.listen()
    masks = Masks(secrets.values())
    events = Events(masks, spec.output_bytes, places.out / "events.jsonl")
    events.say("runner", "runner.started", {"phase": spec.phase})
    try:
        result = refused or Phase(places, spec, secrets, events, masks, stop).perform()
    except Refused as error:
        result = Result("input_refused" if stop.why is None else stop.why, masks(str(error))[:MESSAGE_MAX])
    except Exception as error:  # noqa: BLE001 - the last line must be said, whatever went wrong
        result = Result("failed", masks(f"The runner failed: {type(error).__name__}: {error}")[:MESSAGE_MAX])
    end_all()
    written = dict(vars(result))
    with contextlib.suppress(OSError):
        _written_whole(places.out / "result.json", written)
    events.say("runner", "runner.ended", written)
    events.close()
    return EXITS.get(result.ended, 1)


def _orders(task: Path) -> tuple[Secrets, Spec, Result | None]:
    """The two input files; or, with nothing in them, the result that says why they cannot be used."""
    try:
        return take_secrets(task), read_spec(task), None
    except Refused as error:
        return Secrets(), Spec("setup"), Result("input_refused", str(error))


def _cleared(path: Path) -> None:
    """Takes away whatever the agent may have put there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _written_whole(path: Path, data: dict[str, Any]) -> None:
    _cleared(path)
    path.write_text(json.dumps(data), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
