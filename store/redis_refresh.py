"""Claims and refresh intents in Redis; who may do what is decided in store.refresh_rules.

A fence is at least the server's time in milliseconds: a server that lost its last claims in a crash gives out higher
fences all the same, so that no holder of a lost claim is mistaken for a later one. What is decided holds for the very
rows that were read; a claim must live, by the server's clock, at the moment when its intent is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from store import redis_accounts, refresh_rules
from store.records import Claim, Credential, RefreshIntent, RefreshState
from store.redis_records import Decision, Op, RedisRecords, Seen, Table, get, touch
from store.vault import Vault

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_claim: Final = msgspec.msgpack.Decoder(tuple[str, int, float]).decode
_decode_intent: Final = msgspec.msgpack.Decoder(tuple[str, int, float, int]).decode


async def claim(records: RedisRecords, scope: str, holder: str, ttl_s: float) -> Claim | None:
    def decide(seen: Seen) -> Decision[Claim | None]:
        row, last = seen.found
        held = _claim(scope, row)
        if held is not None and held.expires_at_s > seen.now_s:
            return Decision(None)
        fence = max(int(last or 0) + 1, int(seen.now_s * 1000))
        taken = Claim(scope, holder, fence, seen.now_s + ttl_s)
        return Decision(
            taken,
            [
                ("HSET", Table.COUNTERS, "fence", fence),
                ("HSET", Table.CLAIMS, scope, _encode((holder, fence, taken.expires_at_s))),
            ],
        )

    return await records.transact([get(Table.CLAIMS, scope), get(Table.COUNTERS, "fence")], decide)


async def release(records: RedisRecords, given: Claim) -> None:
    def decide(seen: Seen) -> Decision[None]:
        held = _claim(given.scope, seen.found[0])
        ours = held is not None and held.fence == given.fence
        return Decision(None, [("HDEL", Table.CLAIMS, given.scope)] if ours else [])

    await records.transact([get(Table.CLAIMS, given.scope)], decide)


async def intent(records: RedisRecords, account_id: str) -> RefreshIntent | None:
    (row,) = (await records.look(get(Table.INTENTS, account_id))).found
    return _intent(account_id, row)


async def begin_refresh(
    records: RedisRecords, vault: Vault, account_id: str, given: Claim, digest: str
) -> RefreshIntent:
    def decide(seen: Seen) -> Decision[RefreshIntent]:
        claimed, tokens, open_row = seen.found
        held = _claim(given.scope, claimed)
        stored = None if tokens is None else redis_accounts.opened(vault, account_id, tokens)
        new = refresh_rules.begun(held, given, stored, _intent(account_id, open_row), digest, seen.now_s)
        row = _encode((new.token_digest, new.fence, new.started_at_s, new.replays))
        return Decision(
            new, [("HSET", Table.INTENTS, account_id, row)], before_s=None if held is None else held.expires_at_s
        )

    queries = [get(Table.CLAIMS, given.scope), get(Table.CREDENTIALS, account_id), get(Table.INTENTS, account_id)]
    return await records.transact(queries, decide)


async def finish_refresh(
    records: RedisRecords, vault: Vault, fresh: Credential, given: Claim, expected_version: int
) -> Credential:
    row = redis_accounts.row_of(vault, fresh, expected_version + 1)

    def decide(seen: Seen) -> Decision[Credential]:
        stored, open_row = seen.found
        refresh_rules.check_finish(_intent(fresh.account_id, open_row), given)
        return redis_accounts.put(stored, fresh, row, expected_version)

    queries = [get(Table.CREDENTIALS, fresh.account_id), get(Table.INTENTS, fresh.account_id)]
    return await records.transact(queries, decide)


async def abandon_refresh(records: RedisRecords, account_id: str, given: Claim, state: str | None) -> None:
    mark = None if state is None else RefreshState(state)

    def decide(seen: Seen) -> Decision[None]:
        stored, open_row = seen.found
        if not refresh_rules.check_abandon(_intent(account_id, open_row), given, state):
            return Decision(None)
        ops: list[Op] = []
        if not refresh_rules.keeps_intent(mark):
            ops.append(("HDEL", Table.INTENTS, account_id))
        if mark is not None and stored is not None:
            marked = replace(redis_accounts.unpacked(stored), refresh_state=mark)
            ops += [("HSET", Table.CREDENTIALS, account_id, marked.packed()), touch()]
        return Decision(None, ops)

    await records.transact([get(Table.CREDENTIALS, account_id), get(Table.INTENTS, account_id)], decide)


def _claim(scope: str, row: bytes | None) -> Claim | None:
    return None if row is None else Claim(scope, *_decode_claim(row))


def _intent(account_id: str, row: bytes | None) -> RefreshIntent | None:
    return None if row is None else RefreshIntent(account_id, *_decode_intent(row))
