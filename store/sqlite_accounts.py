"""Accounts and their credentials in SQLite: plain jobs on a connection, one transaction each (store.sqlite_threads).

The tokens of an account are one sealed value, placed by account id and credential version: an older ciphertext put
back in the row does not open. Everything else of an account is plain.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any, Final

import msgspec

from store.errors import Conflict, NotFound, SealBroken
from store.records import Account, AccountStatus, Credential, RefreshState, Secret
from store.vault import Place, Vault

_SELECT: Final = """SELECT id, chatgpt_account_id, label, email, plan, pool, weight, enabled, status, status_reason,
    workspace_origin, routing_override, fedramp, installation_id, created_at_s, version FROM accounts"""
_tokens_encode: Final = msgspec.json.Encoder().encode
_tokens_decode: Final = msgspec.json.Decoder(tuple[str, str | None, str | None]).decode


def touch_directory(db: sqlite3.Connection) -> None:
    """Tells every process that accounts, credentials, tenants or keys have changed."""
    db.execute("UPDATE counters SET value = value + 1 WHERE name = 'directory'")


def accounts(db: sqlite3.Connection) -> tuple[Account, ...]:
    return tuple(_account(row) for row in db.execute(_SELECT + " ORDER BY created_at_s, id"))


def account(db: sqlite3.Connection, account_id: str) -> Account | None:
    row = db.execute(_SELECT + " WHERE id = ?", (account_id,)).fetchone()
    return None if row is None else _account(row)


def add_account(db: sqlite3.Connection, vault: Vault, new: Account, credential: Credential) -> None:
    if credential.account_id != new.id:
        raise Conflict("the credential belongs to another account")
    try:
        db.execute(
            """INSERT INTO accounts (id, chatgpt_account_id, label, email, plan, pool, weight, enabled, status,
                status_reason, workspace_origin, routing_override, fedramp, installation_id, created_at_s, version)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            _values(new, new.version),
        )
    except sqlite3.IntegrityError:
        raise Conflict("an account with this id or this ChatGPT account id exists already") from None
    db.execute(
        """INSERT INTO credentials (account_id, tokens, expires_at_s, refreshed_at_s, refresh_state, version)
        VALUES (?, ?, ?, ?, ?, ?)""",
        (
            new.id,
            _seal(vault, credential, credential.version),
            credential.expires_at_s,
            credential.refreshed_at_s,
            credential.refresh_state.value,
            credential.version,
        ),
    )
    touch_directory(db)


def put_account(db: sqlite3.Connection, changed: Account, expected_version: int) -> Account:
    values = _values(changed, expected_version + 1)
    try:
        done = db.execute(
            """UPDATE accounts SET chatgpt_account_id = ?, label = ?, email = ?, plan = ?, pool = ?, weight = ?,
                enabled = ?, status = ?, status_reason = ?, workspace_origin = ?, routing_override = ?, fedramp = ?,
                installation_id = ?, created_at_s = ?, version = ? WHERE id = ? AND version = ?""",
            (*values[1:], changed.id, expected_version),
        )
    except sqlite3.IntegrityError:
        raise Conflict("another account has this ChatGPT account id") from None
    stored = account(db, changed.id)
    if stored is None:
        raise NotFound(f"there is no account {changed.id!r}")
    if done.rowcount == 0:
        raise Conflict(f"account {changed.id!r} has changed since it was read")
    touch_directory(db)
    return stored


def remove_account(db: sqlite3.Connection, account_id: str) -> bool:
    if db.execute("DELETE FROM accounts WHERE id = ?", (account_id,)).rowcount == 0:
        return False
    db.execute("DELETE FROM health WHERE account_id = ?", (account_id,))
    db.execute("DELETE FROM windows WHERE account_id = ?", (account_id,))
    touch_directory(db)
    return True


def credential(db: sqlite3.Connection, vault: Vault, account_id: str) -> Credential | None:
    row = db.execute(
        """SELECT tokens, expires_at_s, refreshed_at_s, refresh_state, version FROM credentials
        WHERE account_id = ?""",
        (account_id,),
    ).fetchone()
    if row is None:
        return None
    plain = vault.open(row[0], _place(account_id, row[4]))
    try:
        access, refresh, identity = _tokens_decode(plain)
    except msgspec.MsgspecError:
        raise SealBroken(f"the credential of account {account_id!r} was sealed by an unknown release") from None
    return Credential(
        account_id=account_id,
        access_token=Secret(access),
        refresh_token=None if refresh is None else Secret(refresh),
        id_token=None if identity is None else Secret(identity),
        expires_at_s=row[1],
        refreshed_at_s=row[2],
        refresh_state=RefreshState(row[3]),
        version=row[4],
    )


def put_credential(db: sqlite3.Connection, vault: Vault, changed: Credential, expected_version: int) -> Credential:
    """Compare-and-put that clears the intent; the new version is ``expected_version`` + 1."""
    new_version = expected_version + 1
    done = db.execute(
        """UPDATE credentials SET tokens = ?, expires_at_s = ?, refreshed_at_s = ?, refresh_state = ?, version = ?
        WHERE account_id = ? AND version = ?""",
        (
            _seal(vault, changed, new_version),
            changed.expires_at_s,
            changed.refreshed_at_s,
            changed.refresh_state.value,
            new_version,
            changed.account_id,
            expected_version,
        ),
    )
    if done.rowcount == 0:
        found = db.execute("SELECT 1 FROM credentials WHERE account_id = ?", (changed.account_id,)).fetchone()
        if found is None:
            raise NotFound(f"account {changed.account_id!r} has no credential")
        raise Conflict(f"the credential of account {changed.account_id!r} has changed since it was read")
    db.execute("DELETE FROM intents WHERE account_id = ?", (changed.account_id,))
    touch_directory(db)
    return replace(changed, version=new_version)


def set_refresh_state(db: sqlite3.Connection, account_id: str, state: RefreshState) -> None:
    """Marks the stored credential; its tokens and version stay."""
    db.execute("UPDATE credentials SET refresh_state = ? WHERE account_id = ?", (state.value, account_id))
    touch_directory(db)


def _place(account_id: str, version: int) -> Place:
    return Place("credentials", account_id, "tokens", version)


def _seal(vault: Vault, source: Credential, version: int) -> bytes:
    tokens = (source.access_token, source.refresh_token, source.id_token)
    plain = _tokens_encode([None if token is None else token.reveal() for token in tokens])
    return vault.seal(plain, _place(source.account_id, version))


def _values(source: Account, version: int) -> tuple[Any, ...]:
    return (
        source.id,
        source.chatgpt_account_id,
        source.label,
        source.email,
        source.plan,
        source.pool,
        source.weight,
        int(source.enabled),
        source.status.value,
        source.status_reason,
        source.workspace_origin,
        source.routing_override,
        int(source.fedramp),
        source.installation_id,
        source.created_at_s,
        version,
    )


def _account(row: tuple[Any, ...]) -> Account:
    enabled, status, fedramp = bool(row[7]), AccountStatus(row[8]), bool(row[12])
    return Account(*(*row[:7], enabled, status, *row[9:12], fedramp, *row[13:]))
