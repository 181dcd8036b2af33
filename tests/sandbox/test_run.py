"""One attempt from its lease to its result: what it leaves, how its endings are told apart, what is never said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sandbox.engine import Exit
from sandbox.run_watch import Stopped, ending_of
from sandbox.types import ArchiveSource, Ended, GitSource, NetworkPolicy, RunResult
from store.records import Secret
from store.task_records import TaskFilter, TaskState
from tests.fakes.engine import Inside, Script, tar_of
from tests.sandbox.worker_rig import ANN, ENVIRONMENT, PATCH, SPEC, Rig, good, until_stopped


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


async def test_a_whole_attempt_leaves_its_files_its_log_and_nothing_else(rig: Rig) -> None:
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    assert task.record.state is TaskState.READY
    result = task.attempts[0].body.result
    assert result is not None
    assert (result.ended, result.files_changed, result.thread_id) == (Ended.DONE, 1, "thread-0001")
    assert sorted(name for name, _ in result.files) == ["diff.patch", "prompt.txt", "setup.log"]
    assert await rig.file(task, 1, "diff.patch") == PATCH
    assert await rig.file(task, 1, "prompt.txt") == b"fix the bug"
    kinds = await rig.kinds(task)
    assert kinds.index("worker.container") < kinds.index("codex.began") < kinds.index("runner.ended")
    assert kinds[-1] == "task.ready"
    assert (rig.engine.there, rig.keys.alive, rig.egress.granted) == ({}, {}, {})
    assert rig.told == ["task.created", "task.setting_up", "task.running", "task.ready"]


async def test_the_container_is_told_no_secret_outside_its_input_file(rig: Rig) -> None:
    rig.begin()
    await rig.over(await rig.service.create(ANN, SPEC))
    agent = rig.engine.made[-1]
    assert agent.told["secrets"]["task_key"] == "key-1"
    assert "key-1" not in repr(agent.spec)
    assert not agent.spec.as_root
    assert agent.spec.read_only_root
    assert agent.spec.labels[0] == ("codex-relay.task", agent.labels["codex-relay.task"])


async def test_tests_of_the_environment_judge_the_agents_own_tree(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        if inside.step == "agent":
            inside.files["/workspace/x.py"] = b"fixed"
        if inside.step == "judge":
            assert inside.files["/workspace/x.py"] == b"fixed"
            assert "task_key" not in inside.told["secrets"]
            assert inside.spec.socket_folder is None
            return inside.end("failed", tests_passed=False)
        return await good(inside)

    rig.engine.script = script
    rig.environments.known["env_1"] = replace(ENVIRONMENT, test_command="make test")
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    result = task.attempts[0].body.result
    assert result is not None
    assert (result.ended, result.tests_passed) == (Ended.DONE, False)
    assert [one.step for one in rig.engine.made] == ["checkout", "agent", "judge"]


async def test_cancelling_keeps_the_diff_so_far(rig: Rig) -> None:
    rig.engine.script = until_stopped
    rig.begin()
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: rig.agent is not None and bool(rig.agent.lines))
    await rig.service.cancel(ANN, task.record.id)
    task = await rig.over(task)
    assert task.record.state is TaskState.CANCELLED
    assert await rig.file(task, 1, "diff.patch") == PATCH
    assert rig.keys.alive == {}


async def test_one_that_does_not_listen_is_killed_and_still_cancelled(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        if inside.step != "agent":
            return await good(inside)
        inside.say("codex.item.completed")
        await asyncio.Event().wait()
        return 0

    rig.engine.script = script
    rig.begin()
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: rig.agent is not None and bool(rig.agent.lines))
    await rig.service.cancel(ANN, task.record.id)
    assert (await rig.over(task)).record.state is TaskState.CANCELLED


async def ended_by(rig: Rig, script: Script, **how: float) -> tuple[Ended, str]:
    async def agents_alone(inside: Inside) -> int:
        return await (script if inside.step == "agent" else good)(inside)

    rig.engine.script = agents_alone
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC), **how)
    result = task.attempts[0].body.result
    assert result is not None
    assert task.body.ended is result.ended
    assert rig.keys.alive == {}
    return result.ended, result.message


async def test_the_wall_clock_ends_it(rig: Rig) -> None:
    ended, message = await ended_by(rig, until_stopped, step_s=1.0)
    assert (ended, message) == (Ended.TIMED_OUT, "it did not end within its time")


async def test_too_much_memory_is_said_so(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        inside.oom = True
        return 137

    assert (await ended_by(rig, script))[0] is Ended.OUT_OF_MEMORY


async def test_too_much_disk_stops_it(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        inside.written = 9 << 20
        return await until_stopped(inside)

    assert await ended_by(rig, script) == (Ended.LIMIT, "it wrote more than 8 MiB")


async def test_too_much_output_is_cut_and_stops_it(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        while not inside.stopping.is_set():
            inside.say("codex.noise", text="x" * 60_000)
            await asyncio.sleep(0)
        return inside.end("cancelled")

    assert await ended_by(rig, script) == (Ended.LIMIT, "it said more than 1 MiB")
    (task,) = await rig.service.find(ANN, TaskFilter())
    kinds = await rig.kinds(task)
    assert kinds.count("worker.log_cut") == 1
    assert kinds.count("codex.noise") < 25


@pytest.mark.parametrize("word", ["failed", "budget", "input_refused", "timed_out"])
async def test_what_the_runner_says_is_how_it_ended(rig: Rig, word: str) -> None:
    async def script(inside: Inside) -> int:
        return inside.end(word)

    assert await ended_by(rig, script) == (Ended(word), word)


async def test_a_container_without_a_word_is_lost(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        inside.raw(b"\xff\x00 not a line")
        return 3

    assert await ended_by(rig, script) == (Ended.LOST, "its container ended with code 3 and without a result")


async def test_a_container_taken_away_from_outside_is_lost(rig: Rig) -> None:
    rig.engine.script = until_stopped
    rig.begin()
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: rig.agent is not None and bool(rig.agent.lines))
    assert rig.agent is not None
    await rig.engine.remove(rig.agent.id)
    assert (await rig.over(task)).body.ended is Ended.LOST


@pytest.mark.parametrize("method", ["create", "put", "start", "wait", "collect"])
async def test_a_fault_of_the_engine_is_tried_again(rig: Rig, method: str) -> None:
    rig.engine.faults[method] = 1
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    assert task.record.state is TaskState.READY
    assert "worker.engine_fault" in await rig.kinds(task)


async def test_an_engine_that_stays_broken_ends_it_after_two_more_tries(rig: Rig) -> None:
    rig.engine.faults["create"] = 99
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    assert task.body.ended is Ended.ENGINE
    assert rig.engine.faults["create"] == 96
    assert rig.keys.alive == {}


async def test_an_engine_that_was_away_for_a_while_costs_nothing(rig: Rig) -> None:
    go_on = asyncio.Event()

    async def script(inside: Inside) -> int:
        if inside.step != "agent":
            return await good(inside)
        inside.say("codex.first")
        await go_on.wait()
        return await good(inside)

    rig.engine.script = script
    rig.begin()
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: rig.agent is not None and bool(rig.agent.lines))
    await rig.until(lambda: len(rig.tasks._logs[task.record.id]) >= 4)
    rig.engine.go_away()
    for _ in range(200):
        await rig.until(lambda: True)
        rig.clock.advance(0.1)
    go_on.set()
    rig.engine.come_back()
    task = await rig.over(task)
    assert task.record.state is TaskState.READY
    assert (await rig.kinds(task)).count("codex.first") == 1
    assert [one.step for one in rig.engine.made] == ["checkout", "agent"]


async def test_an_upload_is_the_agents_tree(rig: Rig) -> None:
    rig.results.blobs["acme/up/1"] = tar_of({"README": b"hello"})
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, replace(SPEC, source=ArchiveSource("acme/up/1", "a.zip"))))
    assert task.record.state is TaskState.READY
    assert rig.engine.made[0].files["/workspace/README"] == b"hello"


async def test_an_upload_that_has_gone_is_refused_in_words(rig: Rig) -> None:
    rig.results.blobs["acme/up/1"] = b""
    task = await rig.service.create(ANN, replace(SPEC, source=ArchiveSource("acme/up/1", "a.zip")))
    del rig.results.blobs["acme/up/1"]
    rig.begin()
    task = await rig.over(task)
    assert task.body.ended is Ended.INPUT
    result = task.attempts[0].body.result
    assert result is not None
    assert "upload it again" in result.message


async def test_a_repositorys_token_meets_the_checkout_alone_and_is_forgotten(rig: Rig) -> None:
    rig.environments.known["env_1"] = replace(
        ENVIRONMENT, setup_script="make deps", secrets=(("NPM", Secret("s3cret-value")),),
        setup_network=NetworkPolicy(("pypi.org",)),
    )  # fmt: skip
    source = GitSource("https://git.example/a/b.git", "main", Secret("tok-1"))

    async def script(inside: Inside) -> int:
        if inside.step == "checkout":
            inside.files["/workspace/uv.lock"] = b"123"
        return await good(inside)

    rig.engine.script = script
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, replace(SPEC, source=source)))
    assert task.record.state is TaskState.READY
    _, setup, agent = rig.engine.made
    told = [dict(one.told["secrets"]) for one in rig.engine.made]
    tokens = [one.pop("egress_token", None) for one in told]
    assert told == [
        {"git_token": "tok-1", "environment": {}},
        {"environment": {"NPM": "s3cret-value"}},
        {"task_key": "key-1", "environment": {}},
    ]
    assert [token is None for token in tokens] == [False, False, True]
    assert [one.told["git"] is None for one in rig.engine.made] == [False, True, True]
    assert [setup.files["/workspace/uv.lock"], agent.files["/workspace/uv.lock"]] == [b"123", b"123"]
    assert [policy.domains for _, policy in rig.egress.ever] == [("git.example",), ("pypi.org",)]
    assert await rig.file(task, 1, "setup.log") == b"+ checkout+ setup"
    assert isinstance(task.body.spec.source, GitSource)
    assert task.body.spec.source.token is None


async def test_a_follow_up_goes_on_with_the_thread_and_the_tree(rig: Rig) -> None:
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    await rig.service.follow_up(ANN, task.record.id, "now the docs")
    task = await rig.over(task)
    again = rig.engine.made[-1]
    assert (again.told["prompt"], again.told["thread_id"]) == ("now the docs", "thread-0001")
    assert again.told["starting_diff"] == PATCH.decode()
    assert again.files["/home/agent/.codex/sessions/a.jsonl"] == b"{}"
    assert await rig.file(task, 2, "prompt.txt") == b"now the docs"


async def test_a_follow_up_whose_thread_was_not_kept_is_refused(rig: Rig) -> None:
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    await rig.results.remove(f"acme/{task.record.id}/1/session.tar")
    await rig.service.follow_up(ANN, task.record.id, "now the docs")
    task = await rig.over(task)
    result = task.attempts[1].body.result
    assert result is not None
    assert result.ended is Ended.INPUT


async def test_an_environment_that_is_gone_is_said_so(rig: Rig) -> None:
    rig.environments.known.clear()
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    assert task.body.ended is Ended.INPUT


def test_what_the_worker_did_and_the_engine_saw_outrank_what_the_runner_says() -> None:
    done = RunResult(Ended.DONE, "fine")
    for stopped, told, ended in (
        (Stopped(Exit(0, oom=False), None), done, Ended.DONE),
        (Stopped(Exit(0, oom=True), None), done, Ended.DONE),
        (Stopped(Exit(1, oom=True), None), RunResult(Ended.FAILED), Ended.OUT_OF_MEMORY),
        (Stopped(Exit(137, oom=True), None), None, Ended.OUT_OF_MEMORY),
        (Stopped(Exit(0, oom=False), Ended.CANCELLED), done, Ended.CANCELLED),
        (Stopped(Exit(137, oom=True), Ended.TIMED_OUT), None, Ended.TIMED_OUT),
        (Stopped(Exit(0, oom=False), None), None, Ended.LOST),
        (Stopped(Exit(9, oom=False), None), None, Ended.LOST),
    ):
        assert ending_of(stopped, told)[0] is ended
