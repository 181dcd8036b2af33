"""A process whose files may not grow beyond a limit, as on a full disk; prints OK when the store behaved."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Awaitable
from pathlib import Path

from store.errors import StoreUnavailable
from store.sqlite import SqliteStore
from tests.fakes.records import make_account, make_audit, make_credential
from tests.store.conftest import a_vault


def limit_files(size_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))


async def accepted(write: Awaitable[object]) -> bool:
    try:
        await write
    except StoreUnavailable:
        return False
    return True


async def main(path: Path) -> None:
    store = await SqliteStore.open(path, a_vault(), busy_timeout_s=1.0)
    await store.add_account(make_account("kept"), make_credential("kept"))
    limit_files(max(file.stat().st_size for file in path.parent.iterdir()))
    stored: list[str] = []
    for number in range(50):
        name = f"acct-{number}"
        if await accepted(store.add_account(make_account(name), make_credential(name))):
            stored.append(name)
    assert len(stored) < 50, "nothing was refused"
    for _ in range(50):
        if not await accepted(store.check()):
            break
    else:
        raise AssertionError("the store passes for writable on a full disk")
    assert not await accepted(store.append_audit([make_audit()]))
    assert {account.id for account in await store.accounts()} == {"kept", *stored}
    assert await store.credential("kept") == make_credential("kept")
    limit_files(resource.RLIM_INFINITY)
    await store.check()
    await store.add_account(make_account("after"), make_credential("after"))
    assert {account.id for account in await store.accounts()} == {"kept", "after", *stored}
    await store.close()
    print("OK")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
