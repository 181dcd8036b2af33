"""A process that writes accounts and credentials until it is killed, and says what is durable.

Prints ``+ID`` after an account was added and ``ID VERSION`` after its credential was replaced: what was printed must
be there after the kill.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from store.records import Secret
from store.sqlite import SqliteStore
from tests.fakes.records import make_account, make_audit, make_credential
from tests.store.conftest import a_vault


async def write_for_ever(path: Path, run: str) -> None:
    store = await SqliteStore.open(path, a_vault(), busy_timeout_s=5.0)
    for number in range(1_000_000):
        name = f"{run}-{number}"
        await store.add_account(make_account(name), make_credential(name))
        print(f"+{name}", flush=True)
        for version in (1, 2):
            token = Secret(f"token {version + 1} of {name}")
            await store.put_credential(make_credential(name, access_token=token), version)
            print(f"{name} {version + 1}", flush=True)
        await store.append_audit([make_audit(f"account.{name}")])


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), sys.argv[2]))
