"""``accounts login``: an account comes in from a browser, begun at a terminal.

By device code the command prints a code and a link, and waits; a gateway that serves meanwhile may be the one that
finishes. By callback it prints a link and reads the address that the browser ended at. ctrl-C cancels the login.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from auth.logins import Login, LoginConflict, LoginInvalid, LoginKind, LoginState
from ops.cli.options import common
from ops.cli.output import data, fail, moment, say
from ops.cli.session import Session, run
from ops.clock import Clock

if TYPE_CHECKING:
    from auth.onboarding import Onboarding

LOOK_S = 0.5
TRIES = 3
T = TypeVar("T")


@click.command("login")
@click.option("--label", help="What people call the account; default: its e-mail address.")
@click.option("--pool", help="The pool that it joins; default: default.")
@click.option("--expect", metavar="EMAIL|ID", help="Take this account only: its e-mail address or ChatGPT account id.")
@click.option("--callback", is_flag=True, help="Sign in by browser and paste the address that it ends at.")
@common
def login(
    config: Path | None, label: str | None, pool: str | None, expect: str | None, *, callback: bool, as_json: bool
) -> None:
    """Sign in to a Codex account and bring it in."""
    wanted = {"pool": pool, "label": label, "expect": expect}
    ended = _by_callback(config, wanted) if callback else _by_device(config, wanted)
    if as_json:
        data({**asdict(ended), "kind": ended.kind.value, "state": ended.state.value})
    elif ended.state is LoginState.DONE:
        say(f"{ended.account_label} ({ended.account_id}) is in pool {ended.pool}")
    if ended.state is not LoginState.DONE:
        fail(ended.failure.message if ended.failure is not None else f"the login is {ended.state.value}")


def _by_device(config: Path | None, wanted: Mapping[str, str | None]) -> Login:
    async def body(session: Session, onboarding: Onboarding) -> Login:
        begun = await _begun(session, onboarding, LoginKind.DEVICE, wanted)
        try:
            say(f"Open {begun.verification_url} and enter the code")
            click.echo(begun.user_code, err=True)
            say(f"It is good until {moment(begun.expires_at_s)}. Approve it only if you began it; ctrl-C cancels it.")
            return await _ended(onboarding, begun, session.clock)
        finally:
            await _cancelled(session, onboarding, begun.id)

    return _run(config, body)


def _by_callback(config: Path | None, wanted: Mapping[str, str | None]) -> Login:
    """The address is read outside of any event loop, where ctrl-C ends the reading."""
    begun = _run(config, lambda session, onboarding: _begun(session, onboarding, LoginKind.CALLBACK, wanted))
    say("Open this address in a browser, sign in and approve:")
    click.echo(begun.authorize_url, err=True)
    say("The browser ends at an address on its own machine that does not load; copy it from the address bar.")

    async def cancel(session: Session, onboarding: Onboarding) -> Login:
        await _cancelled(session, onboarding, begun.id)
        return await onboarding.get(begun.id)

    for _ in range(TRIES):
        try:
            pasted = click.prompt("Address", err=True)
        except click.Abort:
            _run(config, cancel)
            raise
        taken = _run(config, _taking(begun.id, pasted))
        if taken is not None:
            return taken
    return _run(config, cancel)


def _taking(login_id: str, pasted: str) -> Callable[[Session, Onboarding], Awaitable[Login | None]]:
    """Completes the login by the address; None when the address is not its own."""

    async def body(session: Session, onboarding: Onboarding) -> Login | None:
        try:
            taken = await onboarding.take_callback(login_id, pasted, session.actor)
        except LoginInvalid as invalid:
            say(str(invalid))
            return None
        return await _ended(onboarding, taken, session.clock)

    return body


def _run(config: Path | None, body: Callable[[Session, Onboarding], Awaitable[T]]) -> T:
    async def inside(session: Session) -> T:
        from ops.cli.outside import outside

        await session.store.check()
        async with outside(session) as parts:
            return await body(session, parts.entrance.onboarding)

    return run(config, inside)


async def _begun(session: Session, onboarding: Onboarding, kind: LoginKind, wanted: Mapping[str, str | None]) -> Login:
    """Takes the place of a login that the same user left open."""
    return await onboarding.begin(
        kind, requested_by=session.actor, session_id=session.actor, replace_own=True, **wanted
    )


async def _ended(onboarding: Onboarding, begun: Login, clock: Clock) -> Login:
    """Waits for the end of the login, doing what is due for it meanwhile."""
    seen = begun
    while seen.state is LoginState.PENDING:
        await clock.sleep(LOOK_S)
        await onboarding.step()
        seen = await onboarding.get(begun.id)
    return seen


async def _cancelled(session: Session, onboarding: Onboarding, login_id: str) -> None:
    """Cancels what is open still: somebody pressed ctrl-C, or something broke."""
    try:
        await onboarding.cancel(login_id, session.actor)
    except LoginConflict as late:
        say(str(late))
