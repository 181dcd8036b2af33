"""What is told to a container, and what is believed of it: tables of hostile lines and results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.codex import LINE_MAX_BYTES, inert, line_of, result_of, secrets_json, spec_json
from sandbox.runner.order import read_spec, take_secrets
from sandbox.types import ArchiveSource, Ended, EnvironmentSpec, GitSource, Phase, RunEvent, TaskSpec, Usage
from store.records import Secret

GOOD: dict[str, Any] = {"seq": 1, "t": 5.5, "src": "codex", "kind": "codex.item.completed", "data": {"a": ["b"]}}


def line(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_a_line_of_the_runner_is_an_event() -> None:
    assert line_of(line()) == RunEvent(1, 5.5, "codex", "codex.item.completed", {"a": ["b"]})
    assert line_of(line(src="setup", kind="setup.output", more=1)) is not None


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"\n", b"{", b"[]", b"null", b"\xff\xfe", b"\x00" * 100, b"x" * (LINE_MAX_BYTES + 1), b"[" * 100_000,
        b'{"a":' * 100_000, b'{"seq":' + b"9" * 5000 + b"}", line()[:-1], line() + line(),
        line(seq=0), line(seq=-1), line(seq=True), line(seq="1"), line(seq=1.0), line(seq=10**30),
        line(t="now"), line(t=None), line(t=-1), line(t=True), line(t=1e300), line(t=float("nan")),
        line(t=float("inf")), line(src="worker", kind="worker.x"), line(src="egress", kind="egress.x"), line(src=[]),
        line(src="runner"), line(kind="codex"), line(kind="codex.A"), line(kind="codex.\x1b[2J"), line(kind=7),
        line(kind="codex." + "a" * 200), line(kind="codexx.a"), line(data=[]), line(data="x"), line(data=None),
        line(data={"n": float("nan")}), line(data={"n": 2**70}),
        line(data=json.loads('{"a":' * 40 + "1" + "}" * 40)),
    ],
)  # fmt: skip
def test_anything_else_is_none(bad: bytes) -> None:
    assert line_of(bad) is None


def test_what_was_read_can_be_written_and_is_inert_when_shown() -> None:
    text = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e\u2066\x00\r\x7f ok\t\n\u00e9"
    event = line_of(line(data={"te\ud800xt": [text, "\udfff"]}))
    assert event is not None
    assert event.data == {"te\ufffdxt": [text, "\ufffd"]}
    assert b"\x1b" not in msgspec.json.encode(event)
    shown = inert(text)
    assert shown.endswith(" ok\t\n\u00e9")
    assert shown.startswith("\\x1b]0;owned\\x07\\x1b[2J\\x9b1m\\u202e\\u2066\\x00\\r\\x7f")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["seq", "t", "src", "kind", "data", "ended"])
                                                    | st.text(max_size=3), inner), max_leaves=8,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_neither_lines_nor_results_ever_raise(data: bytes) -> None:
    event = line_of(data)
    assert event is None or msgspec.json.encode(event)
    assert result_of(data).ended in set(Ended)


def test_a_result_is_read_within_bounds() -> None:
    told = {
        "ended": "done", "message": "m" * 9000, "exit_code": 0, "thread_id": "019a-bcde-f012", "tests_passed": True,
        "usage": {"input_tokens": 5, "cached_input_tokens": 2, "output_tokens": 3, "other": 9},
        "files_changed": 1, "lines_added": 2, "lines_removed": 3,
    }  # fmt: skip
    result = result_of(json.dumps(told).encode())
    assert (result.ended, result.exit_code, result.thread_id) == (Ended.DONE, 0, "019a-bcde-f012")
    assert (result.tests_passed, result.usage) == (True, Usage(5, 2, 3))
    assert (result.files_changed, result.lines_added, result.lines_removed) == (1, 2, 3)
    assert len(result.message) == 4000
    assert result_of(told) == result
    hostile = result_of({
        "ended": "done", "message": 7, "exit_code": 10**9, "thread_id": "--last", "tests_passed": "yes",
        "usage": [1], "files_changed": -1, "lines_added": 10**40, "lines_removed": True, "files": [["a", "b"]],
    })  # fmt: skip
    assert (hostile.message, hostile.exit_code, hostile.thread_id, hostile.tests_passed) == ("", None, None, None)
    assert (hostile.usage, hostile.files) == (Usage(), ())
    assert (hostile.files_changed, hostile.lines_added, hostile.lines_removed) == (0, 0, 0)


@pytest.mark.parametrize("said", ["lost", "out_of_memory", "engine_unavailable"])
def test_a_container_cannot_say_what_only_the_worker_knows(said: str) -> None:
    assert result_of({"ended": said}).ended is Ended.FAILED


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"ended":[]}', b'{"ended":"x"}', {}, b"x" * (2 << 20)])
def test_a_result_that_cannot_be_read_is_a_failed_one(data: Any) -> None:
    assert result_of(data).ended is Ended.FAILED
    assert "cannot be read" in result_of(data).message


ENVIRONMENT = EnvironmentSpec("e", "t", "l", variables=(("A", "b"),), secrets=(("TOKEN", Secret("hidden-value")),))
TASK = TaskSpec(
    "pr\u00f6mpt", "gpt-5.5", "e", source=GitSource("https://h/x", "main", Secret("git-hidden")),
    starting_diff="diff", artifacts=("a/b",), effort="high",
)  # fmt: skip


def test_the_runner_reads_what_is_written_and_nothing_in_it_is_secret(tmp_path: Path) -> None:
    data = spec_json(TASK, ENVIRONMENT, Phase.SETUP, commands=[("setup", "make")])
    assert b"hidden" not in data
    (tmp_path / "spec.json").write_bytes(data)
    spec = read_spec(tmp_path)
    assert (spec.phase, spec.git, spec.commands) == (
        "setup",
        {"url": "https://h/x", "ref": "main"},
        (("setup", "make"),),
    )
    assert (spec.environment, spec.starting_diff, spec.artifacts) == ({"A": "b"}, "", ())
    assert (spec.deadline_s, spec.output_bytes) == (3600.0, 40 << 20)
    (tmp_path / "spec.json").write_bytes(spec_json(TASK, ENVIRONMENT, Phase.AGENT, prompt="more", thread_id="abc"))
    spec = read_spec(tmp_path)
    assert (spec.prompt, spec.model, spec.effort, spec.thread_id) == ("more", "gpt-5.5", "high", "abc")
    assert (spec.git, spec.starting_diff, spec.artifacts) == (None, "diff", ("a/b",))
    upload = TaskSpec("p", "m", "e", source=ArchiveSource("blob", "x.zip"))
    assert json.loads(spec_json(upload, ENVIRONMENT, Phase.SETUP))["git"] is None


def test_secrets_arrive_and_their_file_goes(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_bytes(
        secrets_json(git_token=Secret("g"), environment=ENVIRONMENT.secrets, task_key=Secret("k"))
    )
    secrets = take_secrets(tmp_path)
    assert (secrets.git_token, secrets.environment, secrets.task_key) == ("g", {"TOKEN": "hidden-value"}, "k")
    assert secrets.egress_token is None
    assert list(tmp_path.iterdir()) == []
