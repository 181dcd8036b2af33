"""Is this file a database of ours that we may use, and how does it come to be?

Rules that hold:

* nothing is written, not even a side file, before the file has proved to be ours: its first bytes are read as bytes,
  then its records over a read-only connection (``immutable`` when no write-ahead log lies beside it, so that SQLite
  makes no ``-wal`` and ``-shm`` either);
* a new database is built under another name, complete with schema and key check, and gets its own name last: a crash
  leaves a whole database or none, and an empty file is therefore a broken one, never a new one;
* before an existing file is migrated, a copy is made (``PATH.before-vN``);
* files have mode 0600, folders that are made 0700.

All of it is blocking; store.sqlite_threads calls it on threads of its own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from store.errors import FutureSchema, SealBroken, StoreCorrupt, StoreError, StoreUnavailable, WrongKey
from store.private_file import make_private_folders, sync_folder
from store.schema import APPLICATION_ID, MIGRATIONS, SET_APPLICATION_ID, Migration, migrate, version_of
from store.vault import Place, Vault, sealing_key_id

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
_APPLICATION_ID_AT: Final = slice(68, 72)
_CHECK_TEXT: Final = b"codex-relay key check"
_CHECK_PLACE: Final = Place("sealed_values", "key-check", "sealed", 1)
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REASONS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk does not read or write",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "permission is denied",
}


def translated(error: sqlite3.Error, path: Path, busy_timeout_s: float) -> StoreError:
    """The error of this package for SQLite's; names the file and the cause."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(f"database {path} is locked by another process for more than {busy_timeout_s:g} s")
    if code in _BROKEN:
        return StoreCorrupt(f"database {path} is damaged ({error}); restore it from a backup")
    reason = _REASONS.get(code, str(error))
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreUnavailable(f"database {path} is not usable now: {reason} ({name})")


def connect(path: Path, busy_timeout_s: float, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection with our settings, in autocommit: transactions are begun by name. Raises sqlite3.Error.

    ``readonly`` refuses statements that write; the file is opened for writing all the same, as a reader of a
    write-ahead log must be able to recover it.
    """
    db = sqlite3.connect(_uri(path, "mode=rw"), uri=True, isolation_level=None, timeout=busy_timeout_s)
    try:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA journal_size_limit = 67108864")
        if readonly:
            db.execute("PRAGMA query_only = ON")
        db.execute("SELECT value FROM counters WHERE name = 'directory'").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def prepare(
    path: Path,
    vault: Vault,
    busy_timeout_s: float,
    *,
    verify: bool = True,
    migrations: Sequence[Migration] = MIGRATIONS,
) -> None:
    """Leaves ``path`` a database of today's schema that opens under the vault's key.

    ``verify`` reads the whole file once (quick_check); a worker whose supervisor has done so may leave it out.
    Raises StoreCorrupt, FutureSchema or WrongKey with the file as it was, StoreUnavailable when it is locked.
    """
    with _translating(path, busy_timeout_s):
        if not os.path.lexists(path):
            _create(path, vault, migrations)
        version = _inspect(path, vault, busy_timeout_s, verify, migrations[-1].version)
        _tighten(path)
        if version < migrations[-1].version:
            _upgrade(path, busy_timeout_s, migrations)


def _uri(path: Path, query: str) -> str:
    return f"file:{urllib.parse.quote(str(path.absolute()))}?{query}"


@contextlib.contextmanager
def _translating(path: Path, busy_timeout_s: float) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path, busy_timeout_s) from error
    except OSError as error:
        raise StoreUnavailable(f"database {path} is not usable now: {error.strerror}") from error


def _create(path: Path, vault: Vault, migrations: Sequence[Migration]) -> None:
    if os.path.lexists(f"{path}-wal"):
        raise StoreCorrupt(f"database {path} is missing but its write-ahead log is there; restore both from a backup")
    make_private_folders(path.parent)
    draft = path.with_name(f"{path.name}.new-{os.getpid()}-{os.urandom(4).hex()}")
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(_uri(draft, "mode=rw"), uri=True, isolation_level=None)) as db:
            db.execute(SET_APPLICATION_ID)
            db.execute("PRAGMA journal_mode = WAL")
            migrate(db, migrations)
            sealed = vault.seal(_CHECK_TEXT, _CHECK_PLACE)
            db.execute("INSERT INTO sealed_values (name, sealed) VALUES (?, ?)", (_CHECK_PLACE.row_id, sealed))
        _sync_file(draft)
        with contextlib.suppress(FileExistsError):  # another process was first: its database is as good
            _name(draft, path)
        sync_folder(path.parent)
    finally:
        for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm"), Path(f"{draft}-journal")):
            leftover.unlink(missing_ok=True)


def _name(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError from None
        draft.rename(path)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _inspect(path: Path, vault: Vault, busy_timeout_s: float, verify: bool, newest: int) -> int:
    """The schema version of a database that is ours, whole and under our key. Writes nothing."""
    _check_header(path)
    beside = _has_log(path)
    try:
        return _inspect_records(path, vault, busy_timeout_s, verify, newest)
    except (sqlite3.DatabaseError, StoreCorrupt):
        if beside or not _has_log(path):
            raise
        # another process began to write after we looked: look again, with its log
        return _inspect_records(path, vault, busy_timeout_s, verify, newest)


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if not head:
        raise StoreCorrupt(f"database {path} is empty; restore it from a backup, or remove it to start afresh")
    if len(head) < _HEADER_BYTES or not head.startswith(_MAGIC):
        raise StoreCorrupt(f"{path} is not a database; name another file in store.url or restore a backup")
    if int.from_bytes(head[_APPLICATION_ID_AT], "big") != APPLICATION_ID:
        raise StoreCorrupt(f"{path} is a database of another program; name another file in store.url")


def _has_log(path: Path) -> bool:
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False


def _inspect_records(path: Path, vault: Vault, busy_timeout_s: float, verify: bool, newest: int) -> int:
    query = "mode=ro" if _has_log(path) else "mode=ro&immutable=1"
    with contextlib.closing(
        sqlite3.connect(_uri(path, query), uri=True, isolation_level=None, timeout=busy_timeout_s)
    ) as db:
        version = version_of(db)
        if version > newest:
            raise FutureSchema(
                f"database {path} has schema {version}, this release knows {newest}; run the newer release"
            )
        if version < 1:
            raise StoreCorrupt(f"database {path} has no schema; restore it from a backup")
        if verify:
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
            if found != "ok":
                raise StoreCorrupt(f"database {path} is damaged ({_one_line(found)}); restore it from a backup")
        row = db.execute("SELECT sealed FROM sealed_values WHERE name = ?", (_CHECK_PLACE.row_id,)).fetchone()
    if row is None:
        raise StoreCorrupt(f"database {path} has lost its key check; restore it from a backup")
    _check_key(path, vault, row[0])
    return version


def _check_key(path: Path, vault: Vault, sealed: bytes) -> None:
    named = sealing_key_id(sealed)
    if named not in vault.ring:
        raise WrongKey(
            f"database {path} is sealed under key id {named.hex()}, the configured key has id "
            f"{vault.ring.current_id.hex()}; restore the right key"
        )
    try:
        vault.open(sealed, _CHECK_PLACE)
    except SealBroken:
        raise StoreCorrupt(f"database {path} has a damaged key check; restore it from a backup") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


def _tighten(path: Path) -> None:
    """Others lose access to a file that was copied in with a wide mode."""
    for name in (str(path), f"{path}-wal", f"{path}-shm"):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_IMODE(os.stat(name).st_mode) & 0o077:
                os.chmod(name, 0o600)


def _upgrade(path: Path, busy_timeout_s: float, migrations: Sequence[Migration]) -> None:
    copy = path.with_name(f"{path.name}.before-v{migrations[-1].version}")
    with contextlib.closing(
        sqlite3.connect(_uri(path, "mode=rw"), uri=True, isolation_level=None, timeout=busy_timeout_s)
    ) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        _copy(db, copy)
        migrate(db, migrations)


def _copy(db: sqlite3.Connection, copy: Path) -> None:
    draft = copy.with_name(f"{copy.name}.new-{os.getpid()}-{os.urandom(4).hex()}")
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(_uri(draft, "mode=rw"), uri=True, isolation_level=None)) as target:
            db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        _sync_file(draft)
        draft.rename(copy)
        sync_folder(copy.parent)
    finally:
        for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm"), Path(f"{draft}-journal")):
            leftover.unlink(missing_ok=True)
