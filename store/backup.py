"""How is a copy of the SQLite store taken while it serves, and how does one come back safely?

A backup is one consistent state: SQLite's own copy inside one read transaction, which holds up no writer. It holds
every record, sealed values as they are, and is encrypted as a whole on top (store.backup_file).

A restore makes a draft beside the database and changes nothing else until the draft is right: decrypted to its last
byte, checked, brought to today's schema, every value under today's key. Then it takes the place of the database in one
step. Rules that hold:

* nothing is replaced while any process has the database open: the lock that each holds is asked for, and held;
* a database that was there is kept as ``PATH.before-restore-TIME-...``;
* refresh tokens in a backup may have been used since. Their outcome is unknown here, so each is marked ``uncertain``:
  its access token serves on, and the token itself is sent once at most (RefreshState);
* claims of processes that were alive then are void; the audit log says that it was restored, from when.

What it does not do: the spool. What waited there is not in a backup; what waits there now stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.clock import Clock
from store import sqlite_audit
from store.backup_file import Header, Made, read_backup, read_header, write_backup
from store.errors import FutureSchema, SealBroken, StoreCorrupt, StoreUnavailable, StoreUnusable
from store.private_file import make_private_folders, sync_folder
from store.records import AuditRecord
from store.schema import MIGRATIONS, migrate, version_of
from store.sealed import AUDIT_HEAD, Swap
from store.sqlite_sealed import page, swap
from store.vault import Vault, sealing_key_id

KIND: Final = "sqlite"
_SHARED_LOCK_AT: Final = 0x40000002  # where SQLite's connections hold their shared lock, in every journal mode
_SHARED_LOCK_BYTES: Final = 510


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to. ``uncertain``: accounts whose refresh token must not be used blindly."""

    header: Header
    accounts: int
    uncertain: int
    rewrapped: int
    kept: Path | None


def make_backup(database: Path, target: Path, vault: Vault, clock: Clock) -> Made:
    """Blocking. Raises StoreError; then there is no file ``target``."""
    copy = database.with_name(f"{database.name}.backup-{os.urandom(4).hex()}")
    try:
        schema = _snapshot(database, copy)
        with copy.open("rb") as content:
            return write_backup(target, content, vault, created_at_s=clock.now_s(), schema=schema, kind=KIND)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"database {database} cannot be copied now ({error}); try again") from None
    finally:
        _remove(copy)


def restore_backup(source: Path, database: Path, vault: Vault, clock: Clock, actor: str, *, force: bool) -> Restored:
    """Puts the content of ``source`` in the place of ``database``. Blocking.

    ``vault`` opens the backup and what is in it, and seals under the key that the gateway uses. Raises StoreError with
    the database as it was.
    """
    header = read_header(source)
    if header.kind != KIND:
        raise StoreUnusable(f"backup {source} is of a store of kind {header.kind!r}; set store.url to one of that kind")
    if header.schema > MIGRATIONS[-1].version:
        raise FutureSchema(
            f"backup {source} has schema {header.schema}, this release knows {MIGRATIONS[-1].version}; "
            "run the newer release"
        )
    if os.path.lexists(database) and not force:
        raise StoreUnusable(f"database {database} exists; add --force to replace it, a copy of it is kept")
    make_private_folders(database.parent)
    draft = database.with_name(f"{database.name}.restore-{os.urandom(4).hex()}")
    try:
        _unpack(source, draft, vault)
        accounts, uncertain, rewrapped = _make_ready(draft, vault, header, clock, actor)
        kept = _take_place(draft, database, clock)
    except sqlite3.Error as error:
        raise StoreCorrupt(f"backup {source} holds a damaged database ({error}); use another one") from None
    except SealBroken as error:
        raise StoreCorrupt(f"backup {source}: {error}") from None
    except OSError as error:
        raise StoreUnavailable(f"database {database} cannot be written ({error.strerror or error})") from None
    finally:
        _remove(draft)
    return Restored(header, accounts, uncertain, rewrapped, kept)


def _snapshot(database: Path, copy: Path) -> int:
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(_connect(database)) as source,
        contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as target,
    ):
        source.backup(target)  # all pages in one step: one state, whatever is written meanwhile
        target.execute("PRAGMA journal_mode = DELETE")
        _must_be_whole(target, database)
        return version_of(target)


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)


def _unpack(source: Path, draft: Path, vault: Vault) -> None:
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        read_backup(source, vault, file.write)
        file.flush()
        os.fsync(file.fileno())


def _make_ready(draft: Path, vault: Vault, header: Header, clock: Clock, actor: str) -> tuple[int, int, int]:
    """Accounts, tokens marked, values under another key."""
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
        _must_be_whole(db, draft)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA synchronous = FULL")
        migrate(db)
        db.execute("BEGIN IMMEDIATE")
        accounts = int(db.execute("SELECT count(*) FROM accounts").fetchone()[0])
        marked = db.execute("UPDATE credentials SET refresh_state = 'uncertain' WHERE refresh_state = 'ready'").rowcount
        db.execute("DELETE FROM claims")
        rewrapped = _rewrap(db, vault)
        detail = (("accounts", accounts), ("backup", header.id), ("of", header.created_at_s), ("uncertain", marked))
        record = AuditRecord(clock.now_s(), actor, "store.restore", "ok", detail=detail)
        sqlite_audit.append(db, vault, [record])
        db.execute("COMMIT")
    with contextlib.closing(_connect(draft)) as db:
        db.execute("PRAGMA journal_mode = WAL")  # folded in when it closes
    return accounts, marked, rewrapped


def _rewrap(db: sqlite3.Connection, vault: Vault) -> int:
    """Everything but the head of the audit log, which the next append seals. Raises SealBroken."""
    done, cursor = 0, ""
    while True:
        found = page(db, cursor, 200)
        others = [row for row in found.rows if sealing_key_id(row.sealed) != vault.ring.current_id]
        swaps = [Swap(row, vault.rewrap(row.sealed, row.place)) for row in others if row.place.table != AUDIT_HEAD]
        done += swap(db, swaps)
        if found.cursor is None:
            return done
        cursor = found.cursor


def _take_place(draft: Path, database: Path, clock: Clock) -> Path | None:
    if not os.path.lexists(database):
        if os.path.lexists(f"{database}-wal"):
            raise StoreUnusable(f"{database}-wal lies there without its database; move it away first")
        os.link(draft, database)  # fails when somebody was first
        sync_folder(database.parent)
        return None
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a healthy one takes in its log: one file holds it all
    kept = database.with_name(f"{database.name}.before-restore-{int(clock.now_s())}-{os.urandom(2).hex()}")
    with _nobody_else(database):
        os.link(database, kept)
        for side in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{database}{side}", f"{kept}{side}")
        draft.replace(database)
        sync_folder(database.parent)
    return kept


@contextlib.contextmanager
def _nobody_else(database: Path) -> Iterator[None]:
    """Holds the lock that every open connection shares: nobody has it open, or opens it now. Raises StoreUnusable."""
    handle = os.open(database, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_LOCK_BYTES, _SHARED_LOCK_AT)
        except OSError:
            raise StoreUnusable(f"database {database} is in use; stop the gateway first") from None
        yield
    finally:
        os.close(handle)


def _must_be_whole(db: sqlite3.Connection, path: Path) -> None:
    found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise StoreCorrupt(f"database {path} is damaged; a backup of it would be of no use")


def _remove(path: Path) -> None:
    for name in (str(path), f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        with contextlib.suppress(OSError):
            os.unlink(name)
