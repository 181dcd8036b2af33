"""A file is used only when it is ours, whole, known and under our key; refused, it stays as it was."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest

from store.errors import FutureSchema, StoreCorrupt, StoreError, WrongKey
from store.records import Secret
from store.schema import APPLICATION_ID, MIGRATIONS, Migration
from store.sqlite import SqliteStore
from tests.fakes.records import make_account, make_audit, make_credential, make_key, make_tenant
from tests.store.conftest import KEY, Opener, a_vault, contents

pytestmark = pytest.mark.fault("B58")


async def filled(opener: Opener, path: Path, accounts: int = 30) -> None:
    store = await opener()
    for number in range(accounts):
        await store.add_account(make_account(f"acct-{number}"), make_credential(f"acct-{number}"))
    await store.append_audit([make_audit() for _ in range(300)])
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def refused(opener: Opener, path: Path, error: type[StoreError], match: str, **options: object) -> None:
    """Opening fails with one line, and not a byte and not a file is different."""
    before = contents(path.parent)
    with pytest.raises(error, match=match) as caught:
        await opener(**options)
    assert contents(path.parent) == before
    assert "\n" not in str(caught.value)


async def test_a_new_database_is_private_and_there_is_nothing_beside_it(opener: Opener, path: Path) -> None:
    store = await opener()
    await store.append_audit([make_audit()])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"relay.db": 0o600, "relay.db-wal": 0o600, "relay.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == ["relay.db"]


async def test_a_file_copied_in_with_a_wide_mode_is_made_private(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    path.chmod(0o644)
    await opener()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_records_are_there_after_a_restart(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    store = await opener()
    assert len(await store.accounts()) == 30
    assert await store.credential("acct-7") == make_credential("acct-7")
    assert await store.verify_audit() == (300, None)


@pytest.mark.parametrize("junk", [b"", b"x", b"hello world" * 100, b"SQLite format 3\x00", bytes(4096)])
async def test_garbage_is_refused(opener: Opener, path: Path, junk: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(junk)
    await refused(opener, path, StoreCorrupt, str(path))


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_another_programs_database_is_refused_and_gets_no_side_files(
    opener: Opener, path: Path, mode: str
) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE accounts (id TEXT)")
    await refused(opener, path, StoreCorrupt, "another program")


@pytest.mark.parametrize("pages", [1, 2, 5])
async def test_a_truncated_database_is_refused(opener: Opener, path: Path, pages: int) -> None:
    await filled(opener, path)
    path.write_bytes(path.read_bytes()[: pages * 4096 + 100])
    await refused(opener, path, StoreCorrupt, "damaged")


async def test_flipped_bytes_in_its_pages_are_refused(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = b"\xde\xad\xbe\xef\xde\xad\xbe\xef"
    path.write_bytes(data)
    await refused(opener, path, StoreCorrupt, "damaged")


async def test_a_log_without_its_database_is_refused(opener: Opener, path: Path) -> None:
    path.parent.mkdir()
    Path(f"{path}-wal").write_bytes(b"left behind")
    await refused(opener, path, StoreCorrupt, "missing but its write-ahead log")


@pytest.mark.parametrize("verify", [True, False])
async def test_a_wrong_key_is_noticed_before_anything_is_written(opener: Opener, path: Path, verify: bool) -> None:
    await filled(opener, path)
    await refused(opener, path, WrongKey, "restore the right key", key=b"o" * 32, verify=verify)
    store = await opener()
    assert await store.credential("acct-1") == make_credential("acct-1")


async def test_a_wrong_key_is_noticed_while_another_process_has_the_file_open(opener: Opener, path: Path) -> None:
    store = await opener()
    await store.add_account(make_account(), make_credential())
    with pytest.raises(WrongKey):
        await opener(key=b"o" * 32)
    assert await store.credential("acct-1") == make_credential("acct-1")


async def test_a_damaged_key_check_is_not_taken_for_a_wrong_key(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        (sealed,) = db.execute("SELECT sealed FROM sealed_values WHERE name = 'key-check'").fetchone()
        db.execute("UPDATE sealed_values SET sealed = ?", (sealed[:-1] + bytes([sealed[-1] ^ 1]),))
    await refused(opener, path, StoreCorrupt, "damaged key check")
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM sealed_values")
    await refused(opener, path, StoreCorrupt, "lost its key check")


async def test_a_newer_schema_is_refused(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    await refused(opener, path, FutureSchema, f"has schema 99, this release knows {len(MIGRATIONS)}")


async def test_a_newer_schema_in_the_log_is_refused_while_it_is_in_use(opener: Opener, path: Path) -> None:
    await opener()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
        with pytest.raises(FutureSchema):
            await opener()


LAST = len(MIGRATIONS)
LATER = Migration(LAST + 1, ("ALTER TABLE accounts ADD COLUMN nickname TEXT", f"PRAGMA user_version = {LAST + 1}"))


@pytest.mark.fault("B65")
async def test_an_older_database_is_copied_then_migrated(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    store = await opener(migrations=(*MIGRATIONS, LATER))
    assert len(await store.accounts()) == 30
    await store.close()
    copy = path.with_name(f"relay.db.before-v{LAST + 1}")
    assert sorted(contents(path.parent)) == ["relay.db", f"relay.db.before-v{LAST + 1}"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (LAST,)
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("SELECT count(*) FROM accounts").fetchone() == (30,)
    await refused(opener, path, FutureSchema, f"schema {LAST + 1}")
    copy.replace(path)
    restored = await opener()
    assert await restored.credential("acct-3") == make_credential("acct-3")


@pytest.mark.fault("B65")
async def test_a_migration_that_fails_leaves_the_older_schema(opener: Opener, path: Path) -> None:
    await filled(opener, path)
    broken = Migration(LAST + 1, ("ALTER TABLE accounts ADD COLUMN nickname TEXT", "no statement at all"))
    with pytest.raises(StoreError):
        await opener(migrations=(*MIGRATIONS, broken))
    store = await opener()
    assert len(await store.accounts()) == 30
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert "nickname" not in [row[1] for row in db.execute("PRAGMA table_info(accounts)")]


async def test_a_path_with_odd_characters_is_a_path(tmp_path: Path, opener: Opener) -> None:
    odd = tmp_path / "a ?mode=memory&x#%41.db"
    store = await SqliteStore.open(odd, a_vault(), busy_timeout_s=1.0)
    await store.close()
    assert odd.is_file()


SECRETS = (
    "access-token-Zk3vQp81-wholly-secret",
    "refresh-token-Mn92Lx07-wholly-secret",
    "id-token-Ty55Rw-wholly-secret",
)


def forms(secret: str) -> list[bytes]:
    """The secret plain, as hex, and as base64 at each of the three alignments."""
    plain = secret.encode()
    shifted = [base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)]
    return [plain, plain[8:24], plain.hex().encode(), plain.hex().upper().encode(), *shifted]


async def test_no_token_stands_in_any_file_in_any_form(opener: Opener, path: Path) -> None:
    access, refresh, identity = (Secret(text) for text in SECRETS)
    credential = make_credential(access_token=access, refresh_token=refresh, id_token=identity)
    pepper = b"pepper-Qq71-wholly-secret-value"
    store = await opener()
    await store.add_account(make_account(), credential)
    await store.put_credential(credential, 1)
    await store.sealed_value("pepper", pepper)
    await store.add_tenant(make_tenant())
    await store.add_key(make_key())
    written = [file.read_bytes() for file in path.parent.iterdir()]
    await store.remove_account("acct-1")
    await store.close()
    migrated = await opener(migrations=(*MIGRATIONS, LATER))
    await migrated.close()
    written += [file.read_bytes() for file in path.parent.iterdir()]
    assert len(written) == 5  # database, log and its index; database and copy
    for needle in (form for secret in (*SECRETS, pepper.decode(), KEY.decode()) for form in forms(secret)):
        assert all(needle not in data for data in written)
