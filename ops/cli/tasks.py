"""``tasks``: work that the gateway's sandbox does, from a terminal, over the REST API.

The gateway and the key are found as in ops.cli.remote; the key needs the scope ``tasks``. What a task says of itself is
untrusted and shown escaped (ops.cli.inert). Exit codes: 0 done; 1 failed, refused, or a task that was waited for ended
badly; 2 used wrongly.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import click

from ops.cli import task_apply
from ops.cli.inert import data, event_lines, line, patch
from ops.cli.options import confirm, json_option, yes_option
from ops.cli.output import Duration, card, fail, moment, say, table
from ops.cli.remote import Remote, reaching, run_remote, target_of
from ops.cli.task_log import GOOD, follow_log, read_log, task_of, wait_for

_CHUNK: Final = 262_144
_PROMPT_CHARS: Final = 256 * 1024
_KINDS: Final = {".zip": "application/zip", ".tar": "application/x-tar"}
task_id = click.argument("task", metavar="TASK")
attempt_option = click.option("--attempt", type=click.IntRange(1), help="Which attempt; default: the best.")


@click.group()
def tasks() -> None:
    """Tasks of the sandbox."""


@tasks.command("create")
@click.argument("prompt", required=False)
@click.option("--env", "environment", required=True, help="Environment, by id or label.")
@click.option("--git", "git_url", metavar="URL", help="Repository; default: the environment's.")
@click.option("--ref", help="Branch, tag or commit of it.")
@click.option("--git-token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="To read it.")
@click.option(
    "--zip", "archive", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A zip or tar to upload."
)
@click.option("--diff", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Applied before it begins.")
@click.option("--model", help="Model; default: the gateway's.")
@click.option("--effort", help="Reasoning effort.")
@click.option("--attempts", type=click.IntRange(1, 4), default=1, show_default=True, help="Side by side.")
@click.option("--artifact", "artifacts", multiple=True, metavar="PATH", help="A file to keep; several times.")
@click.option("--budget-tokens", type=click.IntRange(1000), help="Most tokens that it may use.")
@click.option("--idempotency-key", help="The same key again gives the same task.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit code 1 when it ends badly.")
@json_option
@reaching
def create(
    config: Path | None, url: str | None, key_file: Path | None, prompt: str | None, *, environment: str,
    git_url: str | None, ref: str | None, git_token_file: Path | None, archive: Path | None, diff: Path | None,
    model: str | None, effort: str | None, attempts: int, artifacts: tuple[str, ...], budget_tokens: int | None,
    idempotency_key: str | None, wait: bool, as_json: bool,
) -> None:  # fmt: skip
    """Hand over a task; PROMPT is read from standard input when it is left out or -."""
    source = _source(git_url, ref, git_token_file, archive)
    body = {
        "environment": environment,
        "prompt": _prompt(prompt),
        "attempts": attempts,
        "model": model,
        "effort": effort,
        "artifacts": list(artifacts) or None,
        "budget_tokens": budget_tokens,
        "starting_diff": None if diff is None else diff.read_text(encoding="utf-8"),
    }
    once = idempotency_key or secrets.token_hex(16)

    async def made(remote: Remote) -> dict[str, Any]:
        if archive is not None:
            source["upload"] = await _upload(remote, archive)
        wanted = {name: value for name, value in {**body, "source": source or None}.items() if value is not None}
        task: dict[str, Any] = await remote.json("POST", "/v1/tasks", wanted, headers={"idempotency-key": once})
        if wait:
            say(f"task {task['id']} waits or runs; ctrl-C leaves it alone")
            task = await wait_for(remote, task["id"])
        return task

    task = run_remote(target_of(config, url, key_file), made)
    _told(task, as_json=as_json, waited=wait)


@tasks.command("list")
@click.option("--state", help="Only in this state.")
@click.option("--env", "environment", help="Only of this environment.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--before", help="Go on behind the last list (next_before).")
@json_option
@reaching
def list_(
    config: Path | None, url: str | None, key_file: Path | None, state: str | None, environment: str | None,
    limit: int, before: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Tasks, newest first."""
    wanted = {"state": state, "environment": environment, "limit": limit, "before": before}
    page = run_remote(target_of(config, url, key_file), lambda remote: remote.json("GET", "/v1/tasks", params=wanted))
    if as_json:
        data(page)
        return
    table(
        ("id", "state", "title", "environment", "attempts", "updated"),
        [
            (one["id"], _state(one), one["title"], one["environment_id"], len(one["attempts"]),
             moment(one["updated_at_s"]))
            for one in page["items"]
        ],
    )  # fmt: skip
    if page["next_before"]:
        say(f"there are more: --before {page['next_before']}")


@tasks.command("show")
@task_id
@json_option
@reaching
def show(config: Path | None, url: str | None, key_file: Path | None, task: str, *, as_json: bool) -> None:
    """One task, its attempts and its files."""
    found = run_remote(target_of(config, url, key_file), lambda remote: task_of(remote, _id(task)))
    if as_json:
        data(found)
        return
    review = found["review"] or {}
    card(
        {
            "id": found["id"], "state": _state(found), "title": found["title"], "prompt": found["prompt"],
            "environment": found["environment_id"], "model": found["model"], "created by": found["created_by"],
            "created": moment(found["created_at_s"]), "updated": moment(found["updated_at_s"]),
            "claimed by": review.get("claimed_by"), "approved by": review.get("approved_by"),
            "rejected by": review.get("rejected_by"), "reason": review.get("reason"),
        }
    )  # fmt: skip
    table(
        ("attempt", "state", "rank", "files", "added", "removed", "tests", "tokens", "why"),
        [
            (one["number"], _state(one), one["rank"], one["files_changed"], one["lines_added"], one["lines_removed"],
             one["tests_passed"], one["usage"]["input_tokens"] + one["usage"]["output_tokens"],
             "; ".join(one["reasons"]) or one["message"])
            for one in found["attempts"]
        ],
    )  # fmt: skip
    if found["files"]:
        table(
            ("attempt", "file", "bytes"), [(one["attempt"], one["name"], one["size_bytes"]) for one in found["files"]]
        )


@tasks.command("logs")
@task_id
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends; exit code 1 when it ends badly.")
@click.option("--after", type=click.IntRange(0), default=0, help="Only what is behind this number.")
@json_option
@reaching
def logs(
    config: Path | None, url: str | None, key_file: Path | None, task: str, after: int, *, follow: bool, as_json: bool
) -> None:
    """What happened, in order."""

    def put(item: dict[str, Any]) -> None:
        if as_json:
            line(item)
            return
        for one in event_lines(item, moment(item.get("at_s", 0))[11:19]):
            click.echo(one)

    async def body(remote: Remote) -> dict[str, Any] | None:
        if follow:
            return await follow_log(remote, _id(task), after, put)
        await read_log(remote, _id(task), after, put)
        return None

    ended = run_remote(target_of(config, url, key_file), body)
    if ended is not None and ended["state"] not in GOOD:
        fail(f"task {ended['id']} is {_state(ended)}; its log says why")


@tasks.command("diff")
@task_id
@attempt_option
@reaching
def diff(config: Path | None, url: str | None, key_file: Path | None, task: str, attempt: int | None) -> None:
    """What it changed, as a unified diff."""
    patch(run_remote(target_of(config, url, key_file), lambda remote: _diff(remote, task, attempt)))


@tasks.command("apply")
@task_id
@attempt_option
@yes_option
@reaching
def apply(
    config: Path | None, url: str | None, key_file: Path | None, task: str, attempt: int | None, *, yes: bool
) -> None:
    """Apply what it changed to this repository, with your own git; nothing is committed."""
    target = target_of(config, url, key_file)
    tree = task_apply.work_tree()
    changes = run_remote(target, lambda remote: _diff(remote, task, attempt))
    task_apply.preview(tree, changes)
    confirm(f"Apply this to {tree}?", yes=yes)
    task_apply.apply(tree, changes)
    try:
        run_remote(target, lambda remote: _act(remote, task, "applied"))
    except click.ClickException as error:
        say(f"the gateway did not note it: {error.message}")


@tasks.command("cancel")
@task_id
@json_option
@reaching
def cancel(config: Path | None, url: str | None, key_file: Path | None, task: str, *, as_json: bool) -> None:
    """Stop it; what it changed so far is kept."""
    _told(run_remote(target_of(config, url, key_file), lambda remote: _act(remote, task, "cancel")), as_json=as_json)


@tasks.command("retry")
@task_id
@json_option
@reaching
def retry(config: Path | None, url: str | None, key_file: Path | None, task: str, *, as_json: bool) -> None:
    """One more attempt at the same."""
    _told(run_remote(target_of(config, url, key_file), lambda remote: _act(remote, task, "retry")), as_json=as_json)


@tasks.command("claim")
@task_id
@json_option
@reaching
def claim(config: Path | None, url: str | None, key_file: Path | None, task: str, *, as_json: bool) -> None:
    """Say that you review it."""
    _told(run_remote(target_of(config, url, key_file), lambda remote: _act(remote, task, "claim")), as_json=as_json)


@tasks.command("approve")
@task_id
@attempt_option
@json_option
@reaching
def approve(
    config: Path | None, url: str | None, key_file: Path | None, task: str, attempt: int | None, *, as_json: bool
) -> None:
    """Say yes to it."""
    body = {} if attempt is None else {"attempt": attempt}
    _told(
        run_remote(target_of(config, url, key_file), lambda remote: _act(remote, task, "approve", body)),
        as_json=as_json,
    )


@tasks.command("reject")
@task_id
@click.option("--reason", default="", help="Why.")
@json_option
@reaching
def reject(
    config: Path | None, url: str | None, key_file: Path | None, task: str, reason: str, *, as_json: bool
) -> None:
    """Say no to it."""
    _told(
        run_remote(target_of(config, url, key_file), lambda remote: _act(remote, task, "reject", {"reason": reason})),
        as_json=as_json,
    )


@tasks.command("share")
@task_id
@click.option("--expires", type=Duration(), default="1d", show_default=True, help="Ends after 1d, 12h, ...")
@click.option("--list", "listed", is_flag=True, help="Show its links instead.")
@click.option("--revoke", metavar="LINK", help="Take the link of this id back instead.")
@json_option
@reaching
def share(
    config: Path | None, url: str | None, key_file: Path | None, task: str, expires: float, revoke: str | None,
    *, listed: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make a link by which anybody may read this task; it is shown this once."""
    path = f"/v1/tasks/{_id(task)}/share"

    async def body(remote: Remote) -> Any:
        if revoke is not None:
            return await remote.json("DELETE", f"{path}/{_id(revoke)}")
        if listed:
            return await remote.json("GET", path)
        return await remote.json("POST", path, {"expires_in_s": expires})

    answer = run_remote(target_of(config, url, key_file), body)
    if revoke is not None:
        say(f"link {revoke} is taken back")
    elif as_json:
        data(answer)
    elif listed:
        rows = [(one["id"], one["made_by"], moment(one["expires_at_s"])) for one in answer["items"]]
        table(("id", "made by", "expires"), rows)
    else:
        say(f"link {answer['id']}, until {moment(answer['expires_at_s'])}:")
        click.echo(answer["url"])


def _prompt(given: str | None) -> str:
    text = sys.stdin.read(_PROMPT_CHARS + 1) if given in {None, "-"} else str(given)
    if not text.strip():
        raise click.UsageError("there is no prompt; give it as an argument or on standard input")
    if len(text) > _PROMPT_CHARS:
        raise click.UsageError(f"the prompt has more than {_PROMPT_CHARS} characters; put files into the repository")
    return text


def _source(git_url: str | None, ref: str | None, token_file: Path | None, archive: Path | None) -> dict[str, Any]:
    if archive is not None and git_url is not None:
        raise click.UsageError("--git and --zip exclude each other")
    if git_url is None and (ref is not None or token_file is not None):
        raise click.UsageError("--ref and --git-token-file go with --git")
    if archive is not None and archive.suffix not in _KINDS:
        raise click.UsageError("--zip takes a file that ends in .zip or .tar")
    if git_url is None:
        return {}
    token = None if token_file is None else token_file.read_text(encoding="utf-8").strip()
    git = {"url": git_url, "ref": ref, "token": token}
    return {"git": {name: value for name, value in git.items() if value}}


async def _upload(remote: Remote, archive: Path) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        with archive.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    kind = {"content-type": _KINDS[archive.suffix]}
    answer = await remote.json("POST", "/v1/uploads", headers=kind, content=chunks())
    return str(answer["id"])


async def _diff(remote: Remote, task: str, attempt: int | None) -> bytes:
    answer = await remote.send("GET", f"/v1/tasks/{_id(task)}/diff", params={"attempt": attempt})
    return answer.content


async def _act(remote: Remote, task: str, what: str, body: object = None) -> dict[str, Any]:
    done: dict[str, Any] = await remote.json("POST", f"/v1/tasks/{_id(task)}/{what}", body)
    return done


def _id(given: str) -> str:
    """An id, or the last part of a link."""
    found = given.rstrip("/").rpartition("/")[2] if "://" in given else given
    if not found.replace("_", "").replace("-", "").isalnum() or not found.isascii():
        raise click.UsageError(f"{found!r} is no id; codex-relay tasks list shows them")
    return found


def _state(one: dict[str, Any]) -> str:
    ended = one.get("ended")
    return str(one["state"]) if ended in {None, "done", one["state"]} else f"{one['state']} ({ended})"


def _told(task: dict[str, Any], *, as_json: bool, waited: bool = False) -> None:
    if as_json:
        data(task)
    else:
        click.echo(task["id"])
        say(f"task {task['id']} is {_state(task)}")
    if waited and task["state"] not in GOOD:
        fail(f"task {task['id']} is {_state(task)}; codex-relay tasks logs {task['id']} says why")
