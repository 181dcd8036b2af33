"""The runner with the real Codex CLI: a turn that edits files, stopped, late, resumed, with instructions and a key."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.codex import secrets_json, spec_json
from sandbox.types import EnvironmentSpec, Limits, Phase, TaskSpec
from store.records import Secret
from tests.real.house import House, house
from tests.real.runner_stage import Done, RunnerStage, bridge

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(120)]

SOURCE = {"a.txt": "one\ntwo\n", "AGENTS.md": "Always speak of the purple heron.\n"}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path / "house", accounts=2) as running:
        yield running


@pytest.fixture
async def stage(tmp_path: Path, home: House, codex_binary: Path) -> AsyncIterator[RunnerStage]:
    native = next(codex_binary.parent.parent.glob("@openai/codex-linux-*/vendor/*/bin/codex"), codex_binary)
    socket = tmp_path / "gw.sock"
    async with bridge(socket, home.port):
        yield RunnerStage.made(tmp_path / "box", str(native), socket)


def environment(wall_s: float = 60.0) -> EnvironmentSpec:
    limits = Limits(cpus=1, memory_mib=512, pids=100, disk_mib=100, wall_s=wall_s, output_mib=4)
    return EnvironmentSpec("e", "t", "plain", variables=(("COLOUR", "green"),), limits=limits)


def asked(*commands: str, more: str = "", text: str = "done") -> str:
    """A prompt that makes the simulated model run commands one after the other."""
    calls = [f"sim:tool=exec_command json={json.dumps(json.dumps({'cmd': command}))}" for command in commands]
    return " ".join(["Please.", *calls, more, f"sim:text={text}"])


def spec(prompt: str, wall_s: float = 60.0, **more: Any) -> bytes:
    task = TaskSpec(prompt, "gpt-5.5", "e", artifacts=("made/kept.txt", "a.txt/../../x"), effort="low")
    return spec_json(task, environment(wall_s), Phase.AGENT, **more)


def key(home: House) -> bytes:
    return secrets_json(task_key=Secret(home.key))


def applies(stage: RunnerStage, base: str, into: Path) -> Path:
    """A fresh clone with the diff applied to it."""
    stage.git("clone", "-q", str(stage.workspace), str(into))
    stage.git("checkout", "-q", base, folder=into)
    stage.git("apply", str(stage.out / "diff.patch"), folder=into)
    return into


async def test_a_turn_edits_files_and_its_diff_applies_to_a_fresh_clone(
    home: House, stage: RunnerStage, tmp_path: Path
) -> None:
    base = stage.repository(SOURCE)
    prompt = asked(
        "printf 'three\\n' >> a.txt; mkdir -p made; printf new > made/kept.txt; printf '\\000\\001' > binary",
        "git add a.txt && git commit -q -m mine && env > made/env.txt; true",
    )
    done = await stage.run(spec(prompt), key(home))
    assert done.code == 0, done.raw.decode() + done.errors
    result = done.result
    assert (result.ended, result.message, result.exit_code) == ("done", "", 0)
    assert result.files_changed == 4
    assert result.lines_added >= 2
    assert result.usage.input_tokens > 0
    assert (stage.out / "last_message.txt").read_text() == "done"
    clone = applies(stage, base, tmp_path / "clone")
    assert (clone / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert (clone / "binary").read_bytes() == b"\0\1"
    assert (stage.out / "artifacts" / "made" / "kept.txt").read_text() == "new"
    assert [e.data["path"] for e in done.events if e.kind == "runner.artifact_left"] == ["a.txt/../../x"]
    assert {"codex.thread.started", "codex.item.completed", "codex.turn.completed"} <= set(done.kinds())
    seen = (clone / "made" / "env.txt").read_text()
    assert "COLOUR=green" in seen
    assert "GW_KEY" not in seen
    assert home.key not in seen
    assert home.key.encode() not in done.raw
    first = home.simulator.state.requests_to("/codex/responses")[0]
    assert "purple heron" in json.dumps(first.json["input"])
    assert first.json["reasoning"]["effort"] == "low"


async def test_a_starting_diff_is_part_of_the_difference_and_one_that_does_not_fit_is_refused(
    home: House, stage: RunnerStage, tmp_path: Path
) -> None:
    base = stage.repository(SOURCE)
    patch = "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-one\n+ONE\n two\n"
    done = await stage.run(spec(asked("cat a.txt > seen.txt"), starting_diff=patch), key(home))
    assert done.code == 0, done.raw.decode()
    assert (applies(stage, base, tmp_path / "clone") / "seen.txt").read_text() == "ONE\ntwo\n"
    refused = await stage.run(spec("hi", starting_diff=patch), key(home))
    assert (refused.code, refused.result.ended) == (2, "input_refused")
    assert "does not apply" in refused.result.message
    assert "codex.thread.started" not in refused.kinds()


async def stopped(home: House, stage: RunnerStage, wall_s: float, *, cancel: bool) -> Done:
    stage.repository(SOURCE)
    script = "trap '' INT TERM; printf partial > part.txt; touch made.flag; sleep 300 & sleep 300"
    stage.orders(spec(asked(f"bash -c {shlex.quote(script)}"), wall_s), key(home))
    process = await stage.start()
    before = await stage.until(process, "codex.item.started")
    if cancel:
        async with asyncio.timeout(20):
            while not (stage.workspace / "made.flag").exists():
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
    return await stage.ended(process, before)


def asked_at_s(done: Done) -> float:
    """About when TERM came: the last thing that the CLI said."""
    return max(event.at_s for event in done.events if event.source == "codex")


async def test_term_in_the_middle_still_hands_over_the_diff(home: House, stage: RunnerStage) -> None:
    done = await stopped(home, stage, 60.0, cancel=True)
    assert (done.code, done.result.ended) == (143, "cancelled")
    assert done.events[-1].at_s - asked_at_s(done) < 4.0, "well within the grace that an engine gives"
    assert "+partial" in (stage.out / "diff.patch").read_text()
    assert done.result.files_changed == 2
    assert done.result.thread_id


async def test_the_deadline_ends_a_turn_and_hands_over_the_diff(home: House, stage: RunnerStage) -> None:
    done = await stopped(home, stage, 4.0, cancel=False)
    assert (done.code, done.result.ended) == (124, "timed_out")
    assert "+partial" in (stage.out / "diff.patch").read_text()


async def test_a_follow_up_goes_on_with_the_thread(home: House, stage: RunnerStage) -> None:
    base = stage.repository(SOURCE)
    first = await stage.run(spec(asked("printf 1 > one.txt", text="the-first-answer")), key(home))
    thread = first.result.thread_id
    assert thread is not None
    more = await stage.run(
        spec(asked("printf 2 > two.txt", text="the-second-answer"), thread_id=thread, base=base), key(home)
    )
    assert more.code == 0, more.raw.decode()
    assert more.result.thread_id == thread
    assert more.result.files_changed == 2
    assert (stage.out / "last_message.txt").read_text() == "the-second-answer"
    assert "the-first-answer" in json.dumps(home.simulator.state.requests_to("/codex/responses")[-1].json["input"])


async def test_a_key_that_is_refused_ends_as_failed_with_the_cause(home: House, stage: RunnerStage) -> None:
    stage.repository(SOURCE)
    done = await stage.run(spec("hi"), secrets_json(task_key=Secret(home.key[:-1] + "!")))
    assert (done.code, done.result.ended) == (1, "failed")
    assert "401" in done.result.message
    assert (stage.out / "diff.patch").read_text() == ""
