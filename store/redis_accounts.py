"""Accounts and their credentials in Redis: one look and one commit each (store.redis_records).

The tokens of an account are one sealed value, placed by account id and credential version: an older ciphertext put
back in the row does not open. Everything else of an account is plain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from store.errors import Conflict, NotFound, SealBroken
from store.records import Account, Credential, RefreshState, Secret
from store.redis_records import Decision, Op, RedisRecords, Seen, Table, get, touch, whole
from store.vault import Place, Vault

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_account: Final = msgspec.msgpack.Decoder(Account).decode
_decode_row: Final = msgspec.msgpack.Decoder(tuple[int, float, float, RefreshState, bytes]).decode
_tokens_encode: Final = msgspec.json.Encoder().encode
_tokens_decode: Final = msgspec.json.Decoder(tuple[str, str | None, str | None]).decode


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as it rests: the tokens are sealed."""

    version: int
    expires_at_s: float
    refreshed_at_s: float
    refresh_state: RefreshState
    sealed: bytes

    def packed(self) -> bytes:
        return _encode((self.version, self.expires_at_s, self.refreshed_at_s, self.refresh_state.value, self.sealed))


def account_prefix(parts: int, account_id: str) -> bytes:
    """How the field of a hot row of this account begins, which has ``parts`` parts."""
    return bytes([0x90 + parts]) + _encode(account_id)


async def accounts(records: RedisRecords) -> tuple[Account, ...]:
    (rows,) = (await records.look(whole(Table.ACCOUNTS))).found
    found = [_decode_account(row) for row in rows[1::2]]
    return tuple(sorted(found, key=lambda one: (one.created_at_s, one.id)))


async def account(records: RedisRecords, account_id: str) -> Account | None:
    (row,) = (await records.look(get(Table.ACCOUNTS, account_id))).found
    return None if row is None else _decode_account(row)


async def add_account(records: RedisRecords, vault: Vault, new: Account, credential: Credential) -> None:
    if credential.account_id != new.id:
        raise Conflict("the credential belongs to another account")
    row = row_of(vault, credential, credential.version)

    def decide(seen: Seen) -> Decision[None]:
        if any(found is not None for found in seen.found):
            raise Conflict("an account with this id or this ChatGPT account id exists already")
        return Decision(
            None,
            [
                ("HSET", Table.ACCOUNTS, new.id, _encode(new)),
                ("HSET", Table.CHATGPT, new.chatgpt_account_id, new.id),
                ("HSET", Table.CREDENTIALS, new.id, row.packed()),
                touch(),
            ],
        )

    await records.transact([get(Table.ACCOUNTS, new.id), get(Table.CHATGPT, new.chatgpt_account_id)], decide)


async def put_account(records: RedisRecords, changed: Account, expected_version: int) -> Account:
    stored = replace(changed, version=expected_version + 1)

    def decide(seen: Seen) -> Decision[Account]:
        row, twin = seen.found
        if row is None:
            raise NotFound(f"there is no account {changed.id!r}")
        if twin is not None and twin != changed.id.encode():
            raise Conflict("another account has this ChatGPT account id")
        old = _decode_account(row)
        if old.version != expected_version:
            raise Conflict(f"account {changed.id!r} has changed since it was read")
        ops: list[Op] = [("HSET", Table.ACCOUNTS, changed.id, _encode(stored)), touch()]
        if twin is None:
            ops += [
                ("HDEL", Table.CHATGPT, old.chatgpt_account_id),
                ("HSET", Table.CHATGPT, changed.chatgpt_account_id, changed.id),
            ]
        return Decision(stored, ops)

    return await records.transact(
        [get(Table.ACCOUNTS, changed.id), get(Table.CHATGPT, changed.chatgpt_account_id)], decide
    )


async def remove_account(records: RedisRecords, account_id: str) -> bool:
    def decide(seen: Seen) -> Decision[bool]:
        (row,) = seen.found
        if row is None:
            return Decision(False)
        old = _decode_account(row)
        return Decision(
            True,
            [
                ("HDEL", Table.CHATGPT, old.chatgpt_account_id),
                *(("HDEL", table, account_id) for table in (Table.ACCOUNTS, Table.CREDENTIALS, Table.INTENTS)),
                ("FORGET", Table.HEALTH, Table.CHANGES, account_prefix(3, account_id)),
                ("FORGET", Table.WINDOWS, Table.CHANGES, account_prefix(2, account_id)),
                touch(),
            ],
        )

    return await records.transact([get(Table.ACCOUNTS, account_id)], decide)


async def credential(records: RedisRecords, vault: Vault, account_id: str) -> Credential | None:
    (row,) = (await records.look(get(Table.CREDENTIALS, account_id))).found
    return None if row is None else opened(vault, account_id, row)


async def put_credential(records: RedisRecords, vault: Vault, changed: Credential, expected_version: int) -> Credential:
    row = row_of(vault, changed, expected_version + 1)

    def decide(seen: Seen) -> Decision[Credential]:
        return put(seen.found[0], changed, row, expected_version)

    return await records.transact([get(Table.CREDENTIALS, changed.account_id)], decide)


def put(stored: bytes | None, changed: Credential, row: CredentialRow, expected_version: int) -> Decision[Credential]:
    """A compare-and-put that clears the intent. Raises NotFound, Conflict."""
    if stored is None:
        raise NotFound(f"account {changed.account_id!r} has no credential")
    if unpacked(stored).version != expected_version:
        raise Conflict(f"the credential of account {changed.account_id!r} has changed since it was read")
    return Decision(
        replace(changed, version=row.version),
        [
            ("HSET", Table.CREDENTIALS, changed.account_id, row.packed()),
            ("HDEL", Table.INTENTS, changed.account_id),
            touch(),
        ],
    )


def unpacked(row: bytes) -> CredentialRow:
    return CredentialRow(*_decode_row(row))


def row_of(vault: Vault, source: Credential, version: int) -> CredentialRow:
    """The row of a credential under a version."""
    tokens = (source.access_token, source.refresh_token, source.id_token)
    plain = _tokens_encode([None if token is None else token.reveal() for token in tokens])
    sealed = vault.seal(plain, place(source.account_id, version))
    return CredentialRow(version, source.expires_at_s, source.refreshed_at_s, source.refresh_state, sealed)


def opened(vault: Vault, account_id: str, row: bytes) -> Credential:
    """Raises SealBroken when the ciphertext does not open in its place."""
    found = unpacked(row)
    plain = vault.open(found.sealed, place(account_id, found.version))
    try:
        access, refresh, identity = _tokens_decode(plain)
    except msgspec.MsgspecError:
        raise SealBroken(f"the credential of account {account_id!r} was sealed by an unknown release") from None
    return Credential(
        account_id=account_id,
        access_token=Secret(access),
        refresh_token=None if refresh is None else Secret(refresh),
        id_token=None if identity is None else Secret(identity),
        expires_at_s=found.expires_at_s,
        refreshed_at_s=found.refreshed_at_s,
        refresh_state=found.refresh_state,
        version=found.version,
    )


def place(account_id: str, version: int) -> Place:
    """Where the tokens are sealed."""
    return Place("credentials", account_id, "tokens", version)
