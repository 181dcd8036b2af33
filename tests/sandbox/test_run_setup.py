"""What an agent starts from: kept environments, missed ones, and what must never be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sandbox.run_plan import LABEL_ENVIRONMENT
from sandbox.types import ArchiveSource, Ended
from store.records import Secret
from store.task_records import TaskState
from tests.fakes.engine import Inside, tar_of
from tests.sandbox.worker_rig import ANN, ENVIRONMENT, SPEC, Rig, good

SCRIPTED = replace(
    ENVIRONMENT, setup_script="make deps", maintenance_script="make fresh", secrets=(("NPM", Secret("s3cret-value")),)
)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig(good, SCRIPTED)
    yield rig
    await rig.close()


def steps(rig: Rig) -> list[tuple[str, str]]:
    return [(one.step, one.spec.image.partition(":")[0]) for one in rig.engine.made]


async def test_the_first_sets_up_and_the_next_finds_it(rig: Rig) -> None:
    rig.begin()
    for _ in range(2):
        task = await rig.over(await rig.service.create(ANN, SPEC))
        assert task.record.state is TaskState.READY
    kept, plain = "codex-relay/env", "codex-relay/agent"
    assert steps(rig) == [("setup", plain), ("agent", kept), ("maintain", kept), ("agent", kept)]
    assert rig.engine.made[0].spec.as_root
    assert list(await rig.engine.images(LABEL_ENVIRONMENT)) == ["codex-relay/env:env_1.1."]


async def test_an_old_one_and_other_lock_files_are_another_set_up(rig: Rig) -> None:
    rig.results.blobs["acme/up/1"] = tar_of({"uv.lock": b"12345", "deep/uv.lock": b"1"}, "./")
    rig.begin()
    await rig.over(await rig.service.create(ANN, SPEC))
    await rig.over(await rig.service.create(ANN, replace(SPEC, source=ArchiveSource("acme/up/1", "a.zip"))))
    assert sorted(rig.engine.tags) == ["codex-relay/env:env_1.1.", "codex-relay/env:env_1.1.uv.lock.5"]
    rig.clock.advance(43_201)
    await rig.over(await rig.service.create(ANN, SPEC))
    assert [step for step, _ in steps(rig)].count("setup") == 3


async def test_attempts_side_by_side_set_up_once(rig: Rig) -> None:
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, replace(SPEC, attempts=3)))
    assert task.record.state is TaskState.READY
    assert [step for step, _ in steps(rig)].count("setup") == 1
    assert [step for step, _ in steps(rig)].count("maintain") == 2


@pytest.mark.parametrize("path", ["/etc/npmrc", "/usr/lib/x.json"])
async def test_a_layer_with_a_secret_is_thrown_away_and_said_so(rig: Rig, path: str) -> None:
    async def script(inside: Inside) -> int:
        if inside.step == "setup":
            inside.files[path] = b"token=s3cret-value"
        return await good(inside)

    rig.engine.script = script
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    assert task.record.state is TaskState.READY
    assert rig.engine.tags == {}
    assert steps(rig)[-1] == ("agent", "codex-relay/agent")
    (said,) = [one for one in await rig.events(task) if one.kind == "worker.environment_not_kept"]
    assert said.data["secret"] == "NPM"
    assert "s3cret-value" not in repr(await rig.events(task))


async def test_a_set_up_that_fails_ends_the_attempt_with_its_log(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        inside.files["/out/setup.log"] = b"no such package"
        return inside.end("failed")

    rig.engine.script = script
    rig.begin()
    task = await rig.over(await rig.service.create(ANN, SPEC))
    assert task.body.ended is Ended.FAILED
    result = task.attempts[0].body.result
    assert result is not None
    assert result.message == "set-up: failed"
    assert await rig.file(task, 1, "setup.log") == b"no such package"
    assert [step for step, _ in steps(rig)] == ["setup"]
    assert rig.engine.tags == {}


async def test_a_cancel_during_the_set_up_begins_no_agent(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        await inside.stopping.wait()
        return inside.end("cancelled")

    rig.engine.script = script
    rig.begin()
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: bool(rig.engine.made) and rig.engine.made[0].task is not None)
    await asyncio.sleep(0)
    await rig.service.cancel(ANN, task.record.id)
    task = await rig.over(task)
    assert task.record.state is TaskState.CANCELLED
    assert [step for step, _ in steps(rig)] == ["setup"]
