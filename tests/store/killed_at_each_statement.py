"""Runs each write once per statement that it makes, killed (SIGKILL) before that statement; prints the kills survived.

After each kill the file must be whole, and hold the state before the write or the state after it, nothing between.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from store import sqlite_accounts, sqlite_audit, sqlite_refresh
from store.records import Claim, Credential, Secret
from store.refresh_rules import token_digest
from store.sqlite_file import connect, prepare
from tests.fakes.records import NOW_S, make_account, make_audit, make_credential
from tests.store.conftest import a_vault

VAULT = a_vault()
Write = Callable[[sqlite3.Connection], object]


def rotated() -> Credential:
    return make_credential("base", refresh_token=Secret("rotated"))


def begin(db: sqlite3.Connection) -> None:
    digest = token_digest(make_credential("base").refresh_token or Secret(""))
    sqlite_refresh.begin_refresh(db, VAULT, "base", Claim("scope", "one", 1, NOW_S + 60), digest, NOW_S)


WRITES: dict[str, Write] = {
    "import": lambda db: sqlite_accounts.add_account(db, VAULT, make_account("new"), make_credential("new")),
    "claim": lambda db: sqlite_refresh.claim(db, "another scope", "one", 60.0, NOW_S),
    "begin": begin,
    "finish": lambda db: sqlite_refresh.finish_refresh(db, VAULT, rotated(), Claim("scope", "one", 1, NOW_S), 1),
    "mark": lambda db: sqlite_refresh.abandon_refresh(db, "base", Claim("scope", "one", 1, NOW_S), "spent"),
    "audit": lambda db: sqlite_audit.append(db, VAULT, [make_audit("a"), make_audit("b")]),
    "remove": lambda db: sqlite_accounts.remove_account(db, "base"),
}
NEEDS_INTENT = ("finish", "mark")


def state(path: Path) -> tuple[object, ...]:
    """All that is stored, as it opens; raises when something does not."""
    with contextlib.closing(connect(path, 2.0)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        accounts = sqlite_accounts.accounts(db)
        return (
            accounts,
            tuple(sqlite_accounts.credential(db, VAULT, account.id) for account in accounts),
            db.execute("SELECT * FROM intents").fetchall(),
            db.execute("SELECT * FROM claims").fetchall(),
            db.execute("SELECT * FROM counters").fetchall(),
            [row[:13] for row in db.execute("SELECT * FROM audit")],
            sqlite_audit.head(db, VAULT),
        )


def base(path: Path, name: str) -> None:
    prepare(path, VAULT, 2.0)
    with contextlib.closing(connect(path, 2.0)) as db:
        db.execute("BEGIN IMMEDIATE")
        sqlite_accounts.add_account(db, VAULT, make_account("base"), make_credential("base"))
        sqlite_refresh.claim(db, "scope", "one", 60.0, NOW_S)
        if name in NEEDS_INTENT:
            begin(db)
        db.execute("COMMIT")


def run(path: Path, write: Write, kill_at: int | None) -> None:
    with contextlib.closing(connect(path, 2.0)) as db:
        left = [kill_at or 0]

        def count(_: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        if kill_at is not None:
            db.set_trace_callback(count)
        db.execute("BEGIN IMMEDIATE")
        write(db)
        db.execute("COMMIT")
        db.set_trace_callback(None)


def killed(path: Path, write: Write, kill_at: int) -> bool:
    child = os.fork()
    if child == 0:
        run(path, write, kill_at)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main(folder: Path) -> None:
    for name, write in WRITES.items():
        reference = folder / f"{name}.db"
        base(reference, name)
        before = state(reference)
        run(reference, write, None)
        after = state(reference)
        assert before != after, name
        kill_at = 1
        while True:
            path = folder / f"{name}-{kill_at}.db"
            base(path, name)
            died = killed(path, write, kill_at)
            assert state(path) == (before if died else after), (name, kill_at)
            if not died:
                break
            kill_at += 1
        print(name, kill_at - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
