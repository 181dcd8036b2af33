"""Files of tasks: the same promises of a folder and of a bucket behind a real S3 server."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox.results import (
    LocalResults,
    ResultStore,
    ResultsUnavailable,
    TooLarge,
    checked_key,
    open_s3,
    pieces,
    whole,
)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The endpoint of a server that speaks S3, with one bucket."""
    boto3 = pytest.importorskip("boto3", reason="pip install -r requirements-dev.lock")
    server_module = pytest.importorskip("moto.server", reason="pip install -r requirements-dev.lock")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    client.create_bucket(Bucket="results")
    yield endpoint
    client.close()
    server.stop()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ResultStore:
    if request.param == "local":
        return LocalResults(tmp_path / "results")
    endpoint = request.getfixturevalue("bucket")
    prefix = f"s3://results/{tmp_path.name}"
    return open_s3(prefix, endpoint=endpoint, region="us-east-1", access_key="k", secret_key="s")


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def test_what_was_put_comes_back(store: ResultStore) -> None:
    assert await store.put("acme/t1/1/diff.patch", parts(b"a" * 300_000, b"b"), 1_000_000) == 300_001
    assert await whole(store, "acme/t1/1/diff.patch", 1_000_000) == b"a" * 300_000 + b"b"
    assert await store.size("acme/t1/1/diff.patch") == 300_001
    assert await store.get("acme/t1/1/none") is None
    assert await store.size("acme/none") is None


async def test_the_last_put_counts(store: ResultStore) -> None:
    await store.put("a/b", pieces(b"one"), 10)
    await store.put("a/b", pieces(b"two"), 10)
    assert await whole(store, "a/b", 10) == b"two"


async def test_too_much_is_cut_off_and_nothing_is_kept(store: ResultStore) -> None:
    with pytest.raises(TooLarge):
        await store.put("a/b", parts(*[b"x" * 1000] * 20), 5000)
    assert await store.size("a/b") is None


async def test_a_put_that_breaks_leaves_nothing(store: ResultStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError("gone")

    with pytest.raises(ResultsUnavailable):
        await store.put("a/b", broken(), 100)
    assert await store.size("a/b") is None


async def test_removing_takes_what_is_below_and_nothing_beside(store: ResultStore) -> None:
    for key in ("acme/t1/1/a", "acme/t1/2/b", "acme/t10/1/a"):
        await store.put(key, pieces(b"x"), 10)
    assert await store.remove("acme/t1") == 2
    assert await store.size("acme/t1/1/a") is None
    assert await store.size("acme/t10/1/a") == 1
    assert await store.remove("acme/t1") == 0


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a/.b", "a b", "a\n", "a/" * 13 + "a", "é", "a\0"]
)
async def test_a_key_that_is_not_plain_is_refused(store: ResultStore, key: str) -> None:
    for call in (store.get, store.size, store.remove):
        with pytest.raises(ValueError, match="not a key"):
            await call(key)
    with pytest.raises(ValueError, match="not a key"):
        await store.put(key, pieces(b""), 10)


async def test_local_files_are_ours_alone_and_drafts_do_not_stay(tmp_path: Path) -> None:
    store = LocalResults(tmp_path / "results")
    await store.put("a/b", pieces(b"x"), 10)
    assert stat.S_IMODE((tmp_path / "results" / "a").stat().st_mode) == 0o700
    assert [one.name for one in (tmp_path / "results").rglob("*") if one.is_file()] == ["b"]


async def test_a_bucket_that_is_away_says_so() -> None:
    store = open_s3(
        "s3://results/x", endpoint="http://127.0.0.1:9", region="us-east-1", access_key="k", secret_key="secret-1"
    )
    with pytest.raises(ResultsUnavailable) as caught:
        await whole(store, "a", 10)
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://x", "s3://", "s3://B", "s3://bucket/é", "file:///tmp"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        open_s3(url, endpoint=None, region="us-east-1", access_key=None, secret_key=None)


def test_a_plain_key_is_itself() -> None:
    assert checked_key("acme/task_e_1/1/artifacts/dist/a-b_c.txt")
