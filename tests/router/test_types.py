"""The words of routing agree with the settings and with each other."""

from __future__ import annotations

from dataclasses import fields

from ops.sections.relay import RouterSettings
from router.types import Moment, PoolRules


def test_the_pools_rules_have_the_names_and_defaults_of_the_settings() -> None:
    """What an operator reads in the settings is what routing does."""
    settings = RouterSettings()
    shared = [field.name for field in fields(PoolRules) if field.name not in ("takeover_s", "placements_max")]
    assert {name: getattr(settings, name) for name in shared} == {name: getattr(PoolRules(), name) for name in shared}


def test_a_moment_converts_between_its_clocks() -> None:
    """There and back is the same instant."""
    moment = Moment(50.0, 1_000.0)
    assert moment.to_wall(60.0) == 1_010.0
    assert moment.to_mono(990.0) == 40.0
