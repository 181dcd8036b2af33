"""Environments: a tenant's own, with secrets that go in and are never shown."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sandbox.environments import (
    KIND,
    BadEnvironment,
    EnvironmentDraft,
    Environments,
    NoSuchEnvironment,
    cache_key,
)
from sandbox.types import EnvironmentSpec, Limits, NetworkPolicy
from store.errors import Conflict
from store.records import Secret
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock

VALUE = "a-very-secret-value"
DRAFT = EnvironmentDraft(
    label="Backend",
    repository="https://Git.test/a",
    setup_script="make",
    variables={"B": "2", "A": "1"},
    secrets={"TOKEN": Secret(VALUE)},
    setup_network=NetworkPolicy(("example.com",)),
)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_environment_is_made_read_changed_and_removed(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as (store, other):
        mine, same = Environments(store, clock), Environments(other, clock)
        made = await mine.create("t1", DRAFT)
        spec = made.spec
        assert (spec.version, spec.label, spec.repository) == (1, "Backend", "https://git.test/a")
        assert spec.variables == (("A", "1"), ("B", "2"))
        assert (spec.secrets, made.secret_versions) == ((), (("TOKEN", 1),))
        assert await same.get("t1", spec.id) == made
        full = await same.full("t1", spec.id)
        assert full == replace(spec, secrets=(("TOKEN", Secret(VALUE)),))
        assert isinstance(full.limits, Limits)
        clock.advance(5.0)
        changed = await same.update("t1", spec.id, replace(DRAFT, label="New", secrets={}), 1)
        assert (changed.spec.version, changed.spec.label, changed.secret_versions) == (2, "New", (("TOKEN", 1),))
        assert (changed.created_at_s, changed.updated_at_s) == (made.created_at_s, made.created_at_s + 5.0)
        assert (await mine.full("t1", spec.id)).secrets == (("TOKEN", Secret(VALUE)),)
        with pytest.raises(Conflict):
            await mine.update("t1", spec.id, DRAFT, 1)
        assert await mine.remove("t1", spec.id)
        assert not await mine.remove("t1", spec.id)
        with pytest.raises(NoSuchEnvironment):
            await same.get("t1", spec.id)
        with pytest.raises(NoSuchEnvironment):
            await same.update("t1", spec.id, DRAFT)


async def test_a_secret_has_a_version_for_each_value_also_after_it_was_away(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        environments = Environments(store, clock)
        one = (await environments.create("t1", DRAFT)).spec.id
        seen = []
        values: tuple[Secret | None, ...] = (Secret(VALUE), Secret("another value"), None, Secret(VALUE))
        for value in values:
            entry = await environments.update("t1", one, replace(DRAFT, secrets={"TOKEN": value}))
            seen.append(entry.secret_versions)
        assert seen == [(("TOKEN", 1),), (("TOKEN", 2),), (), (("TOKEN", 3),)]
        with pytest.raises(BadEnvironment, match="secret's name already"):
            await environments.update("t1", one, replace(DRAFT, variables={"TOKEN": "x"}, secrets={}))


async def test_a_tenant_meets_its_own_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("sqlite", clock, tmp_path) as (store, _):
        environments = Environments(store, clock)
        tenants = ("t", "t1", "t/1", "1:t")
        made = {tenant: (await environments.create(tenant, DRAFT)).spec.id for tenant in tenants}
        for tenant, other in itertools.permutations(tenants, 2):
            with pytest.raises(NoSuchEnvironment):
                await environments.full(tenant, made[other])
            assert not await environments.remove(tenant, made[other])
        for tenant in tenants:
            assert [entry.spec.id for entry in await environments.list(tenant)] == [made[tenant]]


async def test_the_list_is_whole_by_label_and_without_secrets(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        environments = Environments(store, clock)
        for n in range(205):
            await environments.create("t1", replace(DRAFT, label=f"{(n * 7) % 205:03d}"))
        listed = await environments.list("t1")
        assert [entry.spec.label for entry in listed] == [f"{n:03d}" for n in range(205)]
        assert all(entry.spec.secrets == () for entry in listed)
        assert VALUE not in repr(listed)
        with pytest.raises(BadEnvironment) as caught:
            await environments.create("t1", replace(DRAFT, label="007"))
        assert caught.value.field == "label"


async def test_a_secret_rests_in_the_sealed_body_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("sqlite", clock, tmp_path) as (store, _):
        made = await Environments(store, clock).create("t1", DRAFT)
        (document,) = await store.documents(KIND)
        assert VALUE.encode() in document.body
        assert VALUE not in repr(document) + document.id + repr(made)
        with pytest.raises(TypeError):
            msgspec.json.encode(DRAFT)
    for path in tmp_path.iterdir():
        assert VALUE.encode() not in path.read_bytes(), path.name


SPEC = EnvironmentSpec(
    "env_1", "t1", "x", setup_script="make", variables=(("A", "1"),), secrets=(("S", Secret("value one")),)
)  # fmt: skip


def test_the_cache_key_changes_with_everything_that_set_up_could_see() -> None:
    base = cache_key(SPEC, "sha256:1", {"lock": b"1"}, (("S", 1),))
    assert base == cache_key(SPEC, "sha256:1", {"lock": b"1"}, (("S", 1),))
    changes = [
        cache_key(replace(SPEC, **change), "sha256:1", {"lock": b"1"}, (("S", 1),))
        for change in (
            {"tenant_id": "t2"}, {"id": "env_2"}, {"version": 2}, {"image": "i"}, {"repository": "r"},
            {"setup_script": "make all"}, {"variables": (("A", "2"),)}, {"variables": ()}, {"secrets": ()},
        )
    ]  # fmt: skip
    changes.append(cache_key(SPEC, "sha256:2", {"lock": b"1"}, (("S", 1),)))
    changes.append(cache_key(SPEC, "sha256:1", {"lock": b"2"}, (("S", 1),)))
    changes.append(cache_key(SPEC, "sha256:1", {"lock2": b"1"}, (("S", 1),)))
    changes.append(cache_key(SPEC, "sha256:1", {}, (("S", 1),)))
    changes.append(cache_key(SPEC, "sha256:1", {"lock": b"1"}, (("S", 2),)))
    assert len({base, *changes}) == len(changes) + 1
    assert all(len(key) == 64 and int(key, 16) for key in changes)


def test_the_cache_key_holds_nothing_of_a_secrets_value_and_parts_do_not_run_together() -> None:
    other = replace(SPEC, secrets=(("S", Secret("value two")),))
    assert cache_key(SPEC, "i", {}) == cache_key(other, "i", {}), "its version tells of the change"
    one = replace(SPEC, variables=(("A", "1B"),))
    assert cache_key(one, "i", {}) != cache_key(replace(SPEC, variables=(("A1", "B"),)), "i", {})
    assert cache_key(SPEC, "i", {"a": b"b", "c": b"d"}) == cache_key(SPEC, "i", {"c": b"d", "a": b"b"})
    assert "secrets" in {one.name for one in dataclasses.fields(EnvironmentSpec) if not one.repr}
