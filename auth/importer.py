"""How does a login get into the store, first and again?

    unknown account          account and credential are added together, or neither
    known account            its credential is replaced by compare-and-put, then needs_reauth is cleared
    same tokens              nothing to do (an account whose tokens work again is set active)
    older than the stored    refused: its refresh token was used up when the stored one was made

Rules that hold:

* an account is its ChatGPT account id: the same one twice, in a batch or in the store, is one account;
* serving goes on meanwhile: who loses a compare-and-put reads again; a refresh that is under way loses to an import
  of a newer login (auth.persist), and nothing is half-written if the process dies;
* a dry run does everything but write; without an answer of the backend an import goes on, with a warning;
* one outcome per document, in order; none stops the others.

What an auth.json may hold is auth.authfile's matter; where an account's traffic may go, auth.check's.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from auth.authfile import Login, Source, parse_login
from auth.check import AccountCheck, accepted_origin, accepted_override
from auth.errors import ImportRefused
from auth.jwt import claims_or_none
from auth.refresh import RefreshStore
from ops.clock import Clock
from store.errors import Conflict, NotFound, StoreError
from store.records import Account, AccountStatus, Credential, RefreshState, Secret

CheckCall = Callable[[Secret, str], Awaitable[AccountCheck | None]]
"""(access token, ChatGPT account id) -> what the backend says; None: no answer. May raise ImportRefused."""

OTHER_HOLDER: Final = (
    "a refresh token works once: whatever else holds this login (a Codex CLI, a copy of the file) will end it here, "
    "or be ended; delete the other copies and let the gateway be the only holder"
)
TRIES: Final = 4
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_LABEL: Final = 64


class ImportOutcome(StrEnum):
    IMPORTED = "imported"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``label`` and ``pool`` None: the e-mail address and ``default``, or what the account has. ``dry_run`` writes
    nothing. ``force`` takes a login that looks older than the stored one."""

    label: str | None = None
    pool: str | None = None
    dry_run: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of one document. ``code`` is stable; ``message`` and ``warnings`` are fit to print."""

    source: str
    outcome: ImportOutcome
    code: str
    message: str
    account_id: str | None = None
    label: str | None = None
    warnings: tuple[str, ...] = ()


class Importer:
    """Takes logins into the store. ``home_origin`` is the configured upstream's origin."""

    def __init__(
        self,
        store: RefreshStore,
        check: CheckCall | None,
        clock: Clock,
        *,
        home_origin: str,
        allowed_origins: Collection[str] = (),
    ) -> None:
        self._store = store
        self._check = check
        self._clock = clock
        self._home_origin = home_origin
        self._allowed_origins = allowed_origins

    async def take(self, sources: Sequence[Source], options: ImportOptions) -> list[ImportResult]:
        """Imports each document; one result each, in order. Raises nothing for what a document or the store does."""
        now_s = self._clock.now_s()
        logins = [_parsed(source, now_s) for source in sources]
        newest: dict[str, Login] = {}
        for login in logins:
            if isinstance(login, Login):
                rival = newest.setdefault(login.chatgpt_account_id, login)
                newest[login.chatgpt_account_id] = max(rival, login, key=_issued_s)
        results: list[ImportResult] = []
        for number, (source, found) in enumerate(zip(sources, logins, strict=True), 1):
            warnings = list(source.warnings)
            if isinstance(found, ImportRefused):
                results.append(_refused(source.name, found.code, str(found), warnings))
            elif newest[found.chatgpt_account_id] is not found:
                why = "another document of this batch holds the same account with tokens as new or newer"
                results.append(_refused(source.name, "duplicate", why, warnings))
            else:
                mine = _numbered(options, number, len(sources))
                results.append(await self._guarded(source.name, found, mine, warnings))
        return results

    async def _guarded(self, name: str, login: Login, options: ImportOptions, warnings: list[str]) -> ImportResult:
        try:
            return await self._one(name, login, options, warnings)
        except ImportRefused as refused:
            return _refused(name, refused.code, str(refused), warnings)
        except StoreError as error:
            return _refused(name, "store", str(error), warnings)

    async def _one(self, name: str, login: Login, options: ImportOptions, warnings: list[str]) -> ImportResult:
        check_options(options)
        now_s = self._clock.now_s()
        checked = None
        if login.expires_at_s <= now_s:
            warnings.append("its access token has expired; it is refreshed at the first use")
        else:
            checked = await self._ask(login, warnings)
        if login.refresh_token is None:
            warnings.append("it has no refresh token: the account serves until its access token ends")
        else:
            warnings.append(OTHER_HOLDER)
        for _ in range(TRIES):
            try:
                return await self._settle(name, login, checked, options, tuple(warnings))
            except (Conflict, NotFound):
                continue
        raise ImportRefused("busy", "the account changed again and again while it was imported; try again")

    async def _ask(self, login: Login, warnings: list[str]) -> AccountCheck | None:
        answer = await self._check(login.access_token, login.chatgpt_account_id) if self._check else None
        if answer is None:
            warnings.append("the backend was not asked about the account; its routing is taken to be unconstrained")
            return None
        return AccountCheck(
            plan=answer.plan,
            workspace_origin=accepted_origin(answer.workspace_origin, self._home_origin, self._allowed_origins),
            routing_override=accepted_override(answer.routing_override),
        )

    async def _settle(
        self,
        name: str,
        login: Login,
        checked: AccountCheck | None,
        options: ImportOptions,
        warnings: tuple[str, ...],
    ) -> ImportResult:
        accounts = await self._store.accounts()
        known = next((a for a in accounts if a.chatgpt_account_id == login.chatgpt_account_id), None)
        if known is None:
            account = self._new(login, checked, options)
            if not options.dry_run:
                await self._store.add_account(account, _credential(account.id, login))
            shown = None if options.dry_run else account.id
            return ImportResult(
                name, ImportOutcome.IMPORTED, "ok", _did("imported", options), shown, account.label, warnings
            )
        changed = await self._renewed(known, login, options)
        wanted = _wanted(known, login, checked, options)
        if wanted != known:
            changed = True
            if not options.dry_run:
                await self._store.put_account(wanted, known.version)
        outcome = ImportOutcome.UPDATED if changed else ImportOutcome.UNCHANGED
        message = _did("updated", options) if changed else "the account has these tokens already"
        return ImportResult(name, outcome, "ok", message, known.id, wanted.label, warnings)

    async def _renewed(self, known: Account, login: Login, options: ImportOptions) -> bool:
        """Replaces the stored credential by the login; False when it is the stored one. Raises ImportRefused."""
        stored = await self._store.credential(known.id)
        if stored is None:
            raise ImportRefused("store", "the account has no credential in the store; remove it and import again")
        same = stored.refresh_token == login.refresh_token and stored.access_token == login.access_token
        if same and stored.refresh_state is RefreshState.SPENT:
            raise ImportRefused("spent", "the issuer refused this very login; run: codex login, then import again")
        if same:
            return False
        serving = known.status is AccountStatus.ACTIVE and stored.refresh_state is not RefreshState.SPENT
        if serving and not options.force and _issued_s(login) < _stored_issued_s(stored):
            raise ImportRefused(
                "older",
                "the store has newer tokens of this account, so the refresh token in the file was used up; "
                "log in again, or use --force if you know better",
            )
        if not options.dry_run:
            await self._store.put_credential(_credential(known.id, login), stored.version)
        return True

    def _new(self, login: Login, checked: AccountCheck | None, options: ImportOptions) -> Account:
        return Account(
            id="acc_" + os.urandom(6).hex(),
            chatgpt_account_id=login.chatgpt_account_id,
            label=options.label or _label(login),
            email=login.email,
            plan=(checked.plan if checked else None) or login.plan,
            pool=options.pool or "default",
            workspace_origin=checked.workspace_origin if checked else None,
            routing_override=checked.routing_override if checked else None,
            fedramp=login.fedramp,
            installation_id=str(uuid.uuid4()),
            created_at_s=self._clock.now_s(),
        )


def _parsed(source: Source, now_s: float) -> Login | ImportRefused:
    if source.refused is not None:
        return source.refused
    try:
        return parse_login(source.data, now_s)
    except ImportRefused as refused:
        return refused


def _wanted(known: Account, login: Login, checked: AccountCheck | None, options: ImportOptions) -> Account:
    """The account as it should be after the login was taken. Routing stays when the backend was not asked."""
    wanted = replace(
        known,
        label=options.label or known.label,
        pool=options.pool or known.pool,
        email=login.email or known.email,
        plan=(checked.plan if checked else None) or login.plan or known.plan,
        fedramp=login.fedramp,
        status=AccountStatus.ACTIVE,
        status_reason=None,
    )
    if checked is None:
        return wanted
    return replace(wanted, workspace_origin=checked.workspace_origin, routing_override=checked.routing_override)


def _credential(account_id: str, login: Login) -> Credential:
    return Credential(
        account_id=account_id,
        access_token=login.access_token,
        refresh_token=login.refresh_token,
        id_token=login.id_token,
        expires_at_s=login.expires_at_s,
        refreshed_at_s=login.refreshed_at_s,
    )


def _issued_s(login: Login) -> float:
    claims = claims_or_none(login.access_token.reveal())
    return (claims.issued_at_s if claims else None) or login.refreshed_at_s


def _stored_issued_s(stored: Credential) -> float:
    claims = claims_or_none(stored.access_token.reveal())
    return (claims.issued_at_s if claims else None) or stored.refreshed_at_s


def _label(login: Login) -> str:
    return (login.email or login.chatgpt_account_id)[:MAX_LABEL]


def _numbered(options: ImportOptions, number: int, count: int) -> ImportOptions:
    return replace(options, label=f"{options.label}-{number}") if options.label and count > 1 else options


def check_options(options: ImportOptions) -> None:
    """Raises ImportRefused for a label or a pool that no account may have."""
    if options.label is not None and not (options.label.isprintable() and 0 < len(options.label.strip()) <= MAX_LABEL):
        raise ImportRefused("bad_label", f"a label is printable text of at most {MAX_LABEL} characters")
    if options.pool is not None and not _NAME.fullmatch(options.pool):
        raise ImportRefused("bad_pool", "a pool is named by letters, digits, dot, dash and underscore, at most 64")


def _did(done: str, options: ImportOptions) -> str:
    return f"would be {done}" if options.dry_run else done


def _refused(name: str, code: str, message: str, warnings: Sequence[str]) -> ImportResult:
    return ImportResult(name, ImportOutcome.REFUSED, code, message, warnings=tuple(warnings))
