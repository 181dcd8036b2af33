"""``envs``: in what tasks run, over the REST API. An environment is named by its id or its label.

Secrets come from files, never from arguments; they are written only, and their names alone are shown. ``set`` changes
what is named and leaves the rest; what somebody else changed meanwhile is a conflict, and nothing is changed then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ops.cli.inert import data
from ops.cli.options import confirm, json_option, yes_option
from ops.cli.output import card, fail, say, table
from ops.cli.remote import Remote, reaching, run_remote, target_of

F = TypeVar("F", bound=Callable[..., Any])
_PATH: Final = "/v1/environments"
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_LIMITS: Final = ("cpus", "memory_mib", "pids", "disk_mib", "wall_s")
_TEXTS: Final = ("repository", "image", "test_command")
_SCRIPTS: Final = ("setup_script", "maintenance_script")
_PHASES: Final = ("setup", "agent")
environment = click.argument("given", metavar="ENVIRONMENT")

_OPTIONS: Final = (
    click.option("--repository", metavar="URL", help="What tasks work on that bring no source of their own."),
    click.option("--image", help="Container image; default: the agent image."),
    click.option("--setup-script", type=_FILE, help="Runs once before the first task, then it is cached."),
    click.option("--maintenance-script", type=_FILE, help="Runs on a cached environment before each task."),
    click.option("--test-command", help="What the judge runs on each attempt."),
    click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable; several times."),
    click.option("--secret-file", "secrets", multiple=True, metavar="NAME=FILE", help="A secret; several times."),
    click.option("--setup-domain", multiple=True, metavar="HOST", help="Reached in set-up; several times."),
    click.option("--agent-domain", multiple=True, metavar="HOST", help="Reached by the agent; several times."),
    click.option("--cpus", type=click.FloatRange(0, min_open=True), help="Processors."),
    click.option("--memory-mib", type=click.IntRange(64), help="Memory."),
    click.option("--pids", type=click.IntRange(16), help="Processes."),
    click.option("--disk-mib", type=click.IntRange(16), help="What it may write."),
    click.option("--wall-s", type=click.FloatRange(0, min_open=True), help="Longest life of one phase."),
)


def described(function: F) -> F:
    """Every option that says what an environment is."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group()
def envs() -> None:
    """Environments of tasks."""


@envs.command("create")
@click.argument("label")
@described
@json_option
@reaching
def create(
    config: Path | None, url: str | None, key_file: Path | None, label: str, *, as_json: bool, **options: Any
) -> None:
    """Make an environment."""
    wanted = {"label": label, **_wanted(options, {})}
    made = run_remote(target_of(config, url, key_file), lambda remote: remote.json("POST", _PATH, wanted))
    _told(made, "made", as_json=as_json)


@envs.command("list")
@json_option
@reaching
def list_(config: Path | None, url: str | None, key_file: Path | None, *, as_json: bool) -> None:
    """All environments."""
    found = run_remote(target_of(config, url, key_file), lambda remote: remote.json("GET", _PATH))
    if as_json:
        data(found)
        return
    table(
        ("id", "label", "repository", "secrets", "set-up reaches", "agent reaches", "version"),
        [
            (one["id"], one["label"], one["repository"], one["secrets"], one["network"]["setup"]["domains"],
             one["network"]["agent"]["domains"], one["version"])
            for one in found["items"]
        ],
    )  # fmt: skip


@envs.command("show")
@environment
@json_option
@reaching
def show(config: Path | None, url: str | None, key_file: Path | None, given: str, *, as_json: bool) -> None:
    """One environment."""
    one = run_remote(target_of(config, url, key_file), lambda remote: _found(remote, given))
    if as_json:
        data(one)
        return
    reach = {f"{phase} reaches": one["network"][phase]["domains"] for phase in _PHASES}
    names = ("id", "label", "repository", "image", "test_command", "setup_script", "maintenance_script", "secrets")
    pairs = [f"{name}={value}" for name, value in one["variables"].items()]
    card({**{name: one[name] for name in names}, "variables": pairs, **reach, **one["limits"]})


@envs.command("set")
@environment
@click.option("--label", help="A new label.")
@click.option("--unset", multiple=True, metavar="NAME", help="Take a variable or a secret away; several times.")
@click.option("--no-network", type=click.Choice(_PHASES), multiple=True, help="Let this phase reach nothing.")
@described
@json_option
@reaching
def set_(
    config: Path | None, url: str | None, key_file: Path | None, given: str, label: str | None,
    unset: tuple[str, ...], no_network: tuple[str, ...], *, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Change an environment; what is not named stays."""

    async def body(remote: Remote) -> Any:
        old = await _found(remote, given)
        change = _wanted(options, old)
        if label is not None:
            change["label"] = label
        _take_away(change, old, unset)
        for phase in no_network:
            change.setdefault("network", _network_of(old))[phase] = {"domains": []}
        if not change:
            raise click.UsageError("nothing to change; name at least one option")
        return await remote.json("PATCH", f"{_PATH}/{old['id']}", {**change, "version": old["version"]})

    _told(run_remote(target_of(config, url, key_file), body), "changed", as_json=as_json)


@envs.command("remove")
@environment
@yes_option
@json_option
@reaching
def remove(
    config: Path | None, url: str | None, key_file: Path | None, given: str, *, yes: bool, as_json: bool
) -> None:
    """Remove an environment; its tasks stay."""
    target = target_of(config, url, key_file)
    old = run_remote(target, lambda remote: _found(remote, given))
    confirm(f"Remove environment {old['id']} ({old['label']!r})?", yes=yes)
    run_remote(target, lambda remote: remote.json("DELETE", f"{_PATH}/{old['id']}"))
    if as_json:
        data({"id": old["id"], "removed": True})
    else:
        say(f"removed {old['id']}")


async def _found(remote: Remote, given: str) -> dict[str, Any]:
    """The environment whose id, else whose only label, is ``given``."""
    every: list[dict[str, Any]] = (await remote.json("GET", _PATH))["items"]
    found = [one for one in every if one["id"] == given] or [one for one in every if one["label"] == given]
    if len(found) != 1:
        what = "no environment" if not found else f"{len(found)} environments"
        fail(f"{given!r} names {what}; codex-relay envs list shows the ids")
    return found[0]


def _wanted(options: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """What the options say, as the API takes it. Variables, network and limits are sent whole, so ``old`` is kept."""
    wanted: dict[str, Any] = {name: options[name] for name in _TEXTS if options[name] is not None}
    for name in _SCRIPTS:
        if options[name] is not None:
            wanted[name] = _text(options[name])
    if options["variables"]:
        wanted["variables"] = {**old.get("variables", {}), **dict(_pair(one) for one in options["variables"])}
    if options["secrets"]:
        pairs = [_pair(one) for one in options["secrets"]]
        wanted["secrets"] = {name: _text(Path(file)).removesuffix("\n") for name, file in pairs}
    if any(options[f"{phase}_domain"] for phase in _PHASES):
        wanted["network"] = _network_of(old)
        for phase in _PHASES:
            if options[f"{phase}_domain"]:
                kept = wanted["network"].get(phase, {})
                wanted["network"][phase] = {**kept, "domains": list(options[f"{phase}_domain"])}
    limits = {name: options[name] for name in _LIMITS if options[name] is not None}
    if limits:
        wanted["limits"] = {**old.get("limits", {}), **limits}
    return wanted


def _network_of(old: dict[str, Any]) -> dict[str, Any]:
    return {phase: dict(policy) for phase, policy in old.get("network", {}).items()}


def _take_away(change: dict[str, Any], old: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in old["variables"]:
            change.setdefault("variables", dict(old["variables"])).pop(name, None)
        elif name in old["secrets"]:
            change.setdefault("secrets", {})[name] = None
        else:
            raise click.UsageError(f"--unset {name}: there is no such variable and no such secret")


def _pair(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not name or not equals:
        raise click.UsageError("--var takes NAME=VALUE, --secret-file takes NAME=FILE")
    return name, value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})")


def _told(one: dict[str, Any], what: str, *, as_json: bool) -> None:
    if as_json:
        data(one)
    else:
        click.echo(one["id"])
        say(f"{what} environment {one['label']!r}, version {one['version']}")
