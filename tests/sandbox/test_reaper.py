"""What is left over goes, what somebody may still go on with stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sandbox import run_plan
from sandbox.engine import Found
from sandbox.reaper import LATE_S, YOUNG_S, Reaper, leftovers
from sandbox.run_plan import container_spec
from store.task_records import AttemptRecord, AttemptState
from tests.sandbox.worker_rig import ANN, ENVIRONMENT, SPEC, Rig, good

NOW_S = 1_000_000.0
RECORD = AttemptRecord("t1", 1, "acme", AttemptState.LEASED, b"", worker="w1", lease_until_s=NOW_S + 9)


def found(**labels: str) -> Found:
    all_labels = {"task": "t1", "attempt": "1", "owner": "w1", "deadline": f"{NOW_S + 60}"} | labels
    return Found(
        "c", "n", running=True, labels={f"codex-relay.{k}": v for k, v in all_labels.items()}, created_at_s=NOW_S - 600
    )


def goes(one: Found, *records: AttemptRecord) -> bool:
    return bool(leftovers([one], {"t1": records}, "w1", NOW_S))


def test_ours_goes_when_nobody_can_go_on_with_it() -> None:
    assert not goes(found(), RECORD)
    assert goes(found())
    assert goes(found(attempt="2"), RECORD)
    assert goes(found(), replace(RECORD, state=AttemptState.ENDED))
    assert goes(found(), replace(RECORD, worker="w2"))
    assert not goes(found(), replace(RECORD, worker="w2", lease_until_s=NOW_S - 1))
    assert not goes(found(), replace(RECORD, lease_until_s=NOW_S - 1))
    assert not goes(replace(found(), created_at_s=NOW_S - YOUNG_S + 1))


def test_anothers_goes_long_after_its_deadline_alone() -> None:
    assert not goes(found(owner="w2"))
    assert not goes(found(owner="w2", deadline=f"{NOW_S - LATE_S + 1}"))
    assert goes(found(owner="w2", deadline=f"{NOW_S - LATE_S - 1}"))
    assert goes(found(deadline=f"{NOW_S - LATE_S - 1}"), RECORD)
    assert not goes(found(owner="w2", deadline="soon"))


async def test_a_look_removes_orphans_and_old_environments() -> None:
    rig = Rig(good)
    reaper = Reaper(rig.engine, rig.tasks, rig.clock, "w1", 100.0)
    step = run_plan.agent(ENVIRONMENT, "codex-relay/agent:1")
    for name in ("t1", "t2"):
        record = replace(RECORD, task_id=name)
        await rig.engine.create(
            container_spec(
                step, record, ENVIRONMENT, owner="w1", turn=1, deadline_at_s=rig.clock.now_s() + 600,
                socket_folder=Path("/srv/gw"), runtime=None,
            )
        )  # fmt: skip
    task = await rig.service.create(ANN, SPEC)
    mine = replace(RECORD, task_id=task.record.id)
    await rig.engine.create(
        container_spec(
            step, mine, ENVIRONMENT, owner="w1", turn=1, deadline_at_s=rig.clock.now_s() + 600,
            socket_folder=Path("/srv/gw"), runtime=None,
        )
    )  # fmt: skip
    await rig.engine.commit("c0", "codex-relay/env:a", ((run_plan.LABEL_ENVIRONMENT, "env_1"),))
    rig.clock.advance(99)
    await rig.engine.commit("c0", "codex-relay/env:b", ((run_plan.LABEL_ENVIRONMENT, "env_1"),))
    rig.clock.advance(1)
    assert await reaper.step() == 3
    assert [one.labels["codex-relay.task"] for one in rig.engine.there.values()] == [task.record.id]
    assert list(rig.engine.tags) == ["codex-relay/env:b"]
    rig.engine.go_away()
    assert await reaper.step() == 0
