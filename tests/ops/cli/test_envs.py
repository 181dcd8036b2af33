"""``envs`` against a stand-in of the REST API: what is sent is what was named, and what was there stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.cli.root import root
from tests.ops.cli.tasks_api import EVIL, KEY, TasksApi, environment, tasks_api

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[TasksApi]:
    with tasks_api() as running:
        yield running


def run(api: TasksApi, *arguments: str, code: int = 0, stdin: str = "") -> Result:
    clean = {name: None for name in os.environ if name.startswith("CODEX_")}
    address = {**clean, "CODEX_RELAY_URL": api.url, "CODEX_RELAY_KEY": KEY}
    result = CliRunner().invoke(root, ["envs", *arguments], env=address, input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_an_environment_is_made_of_what_was_named(api: TasksApi, tmp_path: Path) -> None:
    (tmp_path / "setup.sh").write_text("make deps\n")
    (tmp_path / "token").write_text("s3cret\n")
    result = run(
        api, "create", "widgets", "--repository", "https://git.example/a.git", "--setup-script",
        str(tmp_path / "setup.sh"), "--test-command", "make test", "--var", "A=1=2", "--secret-file",
        f"TOKEN={tmp_path / 'token'}", "--setup-domain", "pypi.org", "--memory-mib", "2048",
    )  # fmt: skip
    assert result.stdout == "env_1\n"
    assert "s3cret" not in result.output
    (asked,) = api.of("POST", "/v1/environments")
    assert asked.json == {
        "label": "widgets",
        "repository": "https://git.example/a.git",
        "setup_script": "make deps\n",
        "test_command": "make test",
        "variables": {"A": "1=2"},
        "secrets": {"TOKEN": "s3cret"},
        "network": {"setup": {"domains": ["pypi.org"]}},
        "limits": {"memory_mib": 2048},
    }


def test_a_change_keeps_what_is_not_named_and_the_version_that_was_seen(api: TasksApi) -> None:
    run(api, "set", "widgets", "--var", "B=2", "--agent-domain", "example.com", "--pids", "64", "--label", "new")
    (asked,) = api.of("PATCH", "/v1/environments/env_1")
    old = environment()
    assert asked.json == {
        "label": "new",
        "variables": {"A": "1", "B": "2"},
        "network": {"setup": old["network"]["setup"], "agent": {"domains": ["example.com"]}},
        "limits": {**old["limits"], "pids": 64},
        "version": 7,
    }


def test_variables_secrets_and_network_can_be_taken_away(api: TasksApi) -> None:
    run(api, "set", "env_1", "--unset", "A", "--unset", "TOKEN", "--no-network", "setup")
    (asked,) = api.of("PATCH", "/v1/environments/env_1")
    assert asked.json["variables"] == {}
    assert asked.json["secrets"] == {"TOKEN": None}
    assert asked.json["network"]["setup"] == {"domains": []}


def test_it_is_removed_after_a_question(api: TasksApi) -> None:
    run(api, "remove", "widgets", stdin="n\n", code=1)
    assert api.of("DELETE", "/v1/environments/env_1") == []
    run(api, "remove", "widgets", "--yes")
    assert len(api.of("DELETE", "/v1/environments/env_1")) == 1


def test_what_is_shown_is_inert(api: TasksApi) -> None:
    api.environments = [environment(label=EVIL, variables={"A": EVIL})]
    for arguments in (("list",), ("show", "env_1"), ("list", "--json")):
        output = run(api, *arguments).output
        assert [one for one in output if not one.isprintable() and one != "\n"] == []


def test_a_name_must_lead_to_one(api: TasksApi, tmp_path: Path) -> None:
    assert "no environment" in run(api, "show", "nope", code=1).stderr
    api.environments = [environment(), environment(id="env_2")]
    assert "2 environments" in run(api, "show", "widgets", code=1).stderr
    for wrong in (("--var", "A"), ("--secret-file", "=x"), ("--unset", "NOPE"), ()):
        run(api, "set", "env_1", *wrong, code=2)
    run(api, "set", "env_1", "--secret-file", f"A={tmp_path / 'none'}", code=1)
    assert api.of("PATCH", "/v1/environments/env_1") == []
