"""What is a container told, and what is believed of what it says?

Pure: bytes in, records out. Rules that hold:

* what a container says is untrusted text: ``line_of`` and ``result_of`` never raise, whatever comes; a line that is not
  one of the runner's is None, and a result that cannot be read is a failed one;
* everything has a bound: a line, a text, a number, how deep it nests; lone surrogates become U+FFFD, so that what was
  read can always be written;
* texts stay as they are (a log that is not the truth helps nobody); ``inert`` is what a terminal or a page shows;
* a container may say only how its own run ended: lost, out of memory and a silent engine are the worker's to say;
* secrets leave in ``secrets_json`` alone, which is put as a file of mode 0600 and deleted by the runner's first act.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sandbox.out_tar import OutRefused, input_tar, read_out_tar
from sandbox.types import Ended, EnvironmentSpec, GitSource, Phase, RunEvent, RunResult, TaskSpec, Usage
from store.records import Secret

__all__ = ["OutRefused", "inert", "input_tar", "line_of", "read_out_tar", "result_of", "secrets_json", "spec_json"]

LINE_MAX_BYTES: Final = (1 << 20) + 4096
MESSAGE_MAX: Final = 4000
COUNT_MAX: Final = 10**12
DEPTH_MAX: Final = 24
_SOURCES: Final = frozenset({"runner", "codex", "setup", "judge"})
_KIND: Final = re.compile(r"[a-z]+(?:[._][a-z_]+){1,6}")
_THREAD: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}")
_SAYABLE: Final = frozenset(
    {Ended.DONE, Ended.FAILED, Ended.TIMED_OUT, Ended.CANCELLED, Ended.INPUT, Ended.LIMIT, Ended.BUDGET}
)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_UNREADABLE: Final = RunResult(Ended.FAILED, "The runner's result cannot be read; see the log of the attempt")


def spec_json(
    task: TaskSpec,
    environment: EnvironmentSpec,
    phase: Phase,
    *,
    commands: Sequence[tuple[str, str]] = (),
    prompt: str | None = None,
    thread_id: str | None = None,
    base: str | None = None,
    starting_diff: str | None = None,
) -> bytes:
    """The content of ``/task/spec.json``. Nothing in it is secret.

    ``commands`` are (label, script) in order: the set-up or maintenance scripts, or the judge's tests. ``prompt`` and
    ``starting_diff`` None: the task's own (the judge gets an attempt's diff). ``thread_id``: the thread to go on with.
    ``base``: the commit that the diff is made against; None: what is checked out when the phase begins. So a
    difference always includes the starting diff and applies to the source as the task named it.
    """
    git = None
    if phase is Phase.SETUP and isinstance(task.source, GitSource):
        git = {"url": task.source.url, "ref": task.source.ref}
    spec: dict[str, Any] = {
        "phase": phase.value,
        "prompt": task.prompt if prompt is None else prompt,
        "model": task.model,
        "effort": task.effort,
        "thread_id": thread_id,
        "git": git,
        "base": base,
        "commands": [[label, script] for label, script in commands],
        "environment": dict(environment.variables),
        "deadline_s": environment.limits.wall_s,
        "output_bytes": environment.limits.output_mib << 20,
        "artifacts": list(task.artifacts) if phase is Phase.AGENT else [],
        "starting_diff": "",
        "budget": task.budget_tokens,
    }
    if phase is not Phase.SETUP:
        spec["starting_diff"] = task.starting_diff if starting_diff is None else starting_diff
    return json.dumps(spec).encode()


def secrets_json(
    *,
    git_token: Secret | None = None,
    environment: Sequence[tuple[str, Secret]] = (),
    task_key: Secret | None = None,
    egress_token: Secret | None = None,
) -> bytes:
    """The content of ``/task/secrets.json``. Set-up: ``git_token``, ``environment`` and its ``egress_token``; agent:
    ``task_key``, and an ``egress_token`` only when the phase may use the internet (its presence sets the proxy)."""
    named = {"git_token": git_token, "task_key": task_key, "egress_token": egress_token}
    told: dict[str, Any] = {name: value.reveal() for name, value in named.items() if value is not None}
    told["environment"] = {name: value.reveal() for name, value in environment}
    return json.dumps(told).encode()


def line_of(line: bytes) -> RunEvent | None:
    """One line of the runner's standard output, or None for what is none. Never raises."""
    if len(line) > LINE_MAX_BYTES:
        return None
    told = _object(line)
    if told is None:
        return None
    seq, at_s = _count(told.get("seq")), told.get("t")
    source, kind, data = told.get("src"), told.get("kind"), told.get("data")
    if not isinstance(source, str) or not isinstance(kind, str) or not isinstance(data, dict):
        return None
    if seq == 0 or source not in _SOURCES:
        return None
    if len(kind) > 100 or not _KIND.fullmatch(kind) or not kind.startswith(f"{source}."):
        return None
    if isinstance(at_s, bool) or not isinstance(at_s, int | float):
        return None
    if not math.isfinite(at_s) or not 0 <= at_s <= COUNT_MAX:
        return None
    return RunEvent(seq, float(at_s), source, kind, data)


def result_of(data: bytes | Mapping[str, Any]) -> RunResult:
    """``/out/result.json``, or the data of ``runner.ended``. Never raises; ``files`` is empty: what was collected is
    the worker's to say."""
    told = data if isinstance(data, Mapping) else _object(data) if len(data) <= LINE_MAX_BYTES else None
    if told is None:
        return _UNREADABLE
    try:
        ended = Ended(str(told.get("ended")))
    except ValueError:
        return _UNREADABLE
    message, thread_id, passed = told.get("message"), told.get("thread_id"), told.get("tests_passed")
    exit_code, usage = told.get("exit_code"), told.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    return RunResult(
        ended=ended if ended in _SAYABLE else Ended.FAILED,
        message=_clean_text(message)[:MESSAGE_MAX] if isinstance(message, str) else "",
        exit_code=exit_code if type(exit_code) is int and -255 <= exit_code <= 255 else None,
        thread_id=thread_id if isinstance(thread_id, str) and _THREAD.fullmatch(thread_id) else None,
        usage=Usage(
            input_tokens=_count(counts.get("input_tokens")),
            cached_input_tokens=_count(counts.get("cached_input_tokens")),
            output_tokens=_count(counts.get("output_tokens")),
        ),
        files_changed=_count(told.get("files_changed")),
        lines_added=_count(told.get("lines_added")),
        lines_removed=_count(told.get("lines_removed")),
        tests_passed=passed if isinstance(passed, bool) else None,
    )


def inert(text: str) -> str:
    """``text`` as a terminal may print it: control characters, escapes and what turns writing round are spelt out
    (``\\x1b``, ``\\u202e``); line ends and tabs stay."""
    return _OBEYED.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(data, parse_constant=_refuse)
        return _clean(told, 0) if isinstance(told, dict) else None
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _clean_text(value)
    if depth > DEPTH_MAX:
        raise ValueError("too deep")
    if isinstance(value, dict):
        return {_clean_text(key): _clean(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one, depth + 1) for one in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) < 2**63:
        raise ValueError("a number that no store takes")
    return value


def _clean_text(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= COUNT_MAX else 0
