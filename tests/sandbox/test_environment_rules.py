"""What an environment may ask for, and which field is named when it may not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sandbox.environment_rules import BadEnvironment, EnvironmentDraft, EnvironmentRules, check_draft
from sandbox.types import Limits, NetworkPolicy
from store.records import Secret

RULES = EnvironmentRules(Limits(2.0, 4096, 512, 8192, 3600.0, 40), frozenset({"team/image:1"}))
GOOD = EnvironmentDraft(
    label="Backend",
    repository="https://git.test/a/b.git",
    image="team/image:1",
    setup_script="apt-get install -y make\n",
    variables={"CI": "1", "_x9": ""},
    secrets={"TOKEN": Secret("s3cret-value"), "OLD": None},
    setup_network=NetworkPolicy(("example.com", "*.example.com"), frozenset({"GET", "POST"}), 100),
    limits=Limits(1.0, 512, 64, 64, 60.0, 1),
)

BAD: list[tuple[str, dict[str, Any]]] = [
    ("label", {"label": ""}), ("label", {"label": "x" * 101}), ("label", {"label": "a\nb"}), ("label", {"label": " a"}),
    ("repository", {"repository": "ext::sh -c x"}), ("repository", {"repository": "https://u:p@git.test/a"}),
    ("image", {"image": "other/image"}), ("image", {"image": "--privileged"}),
    ("setup_script", {"setup_script": "x" * 300_000}), ("maintenance_script", {"maintenance_script": "a\0b"}),
    ("test_command", {"test_command": "\ud800"}), ("variables", {"variables": {"1A": "x"}}),
    ("variables", {"variables": {"A B": "x"}}), ("variables", {"variables": {"A=B": "x"}}),
    ("variables", {"variables": {"GW_KEY": "x"}}), ("variables", {"variables": {"https_proxy": "x"}}),
    ("variables", {"variables": {"LD_PRELOAD": "x"}}), ("variables", {"variables": {"CODEX_HOME": "x"}}),
    ("variables", {"variables": {"": "x"}}), ("variables", {"variables": {f"A{n}": "" for n in range(101)}}),
    ("variables.A", {"variables": {"A": "x" * 40_000}}), ("variables.A", {"variables": {"A": "\0"}}),
    ("secrets", {"secrets": {"PATH": Secret("long enough")}}), ("secrets.A", {"secrets": {"A": Secret("short")}}),
    ("secrets.A", {"secrets": {"A": Secret("long\0enough")}}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("*",))}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("*.com",))}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("Example.com",))}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("127.0.0.1",))}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("a.com:443",))}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("localhost",))}),
    ("setup_network.domains", {"setup_network": NetworkPolicy(("a.com\n",))}),
    ("agent_network.domains", {"agent_network": NetworkPolicy(("a.com",) * 201)}),
    ("agent_network.methods", {"agent_network": NetworkPolicy((), frozenset({"TRACE"}))}),
    ("agent_network.max_mib", {"agent_network": NetworkPolicy((), max_mib=0)}),
    ("limits.cpus", {"limits": Limits(3.0, 512, 64, 64, 60.0, 1)}),
    ("limits.pids", {"limits": Limits(1.0, 512, 0, 64, 60.0, 1)}),
    ("limits.wall_s", {"limits": Limits(1.0, 512, 64, 64, float("nan"), 1)}),
    ("limits.memory_mib", {"limits": Limits(1.0, 5000, 64, 64, 60.0, 1)}),
]  # fmt: skip


def test_a_good_one_is_taken() -> None:
    check_draft(GOOD, RULES)
    check_draft(EnvironmentDraft("x"), EnvironmentRules())


@pytest.mark.parametrize(("field", "change"), BAD)
def test_a_bad_field_is_named(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(BadEnvironment) as caught:
        check_draft(replace(GOOD, **change), RULES)
    assert caught.value.field == field
    assert "long" not in str(caught.value)


def test_no_secret_shows_in_a_draft() -> None:
    assert "s3cret" not in repr(GOOD)
