"""Bodies that are not what they should be: refused in our shape, quickly, before any account is asked."""

from __future__ import annotations

import gzip
import json
import resource
import time
import zlib
from pathlib import Path

import pytest
import zstandard

from tests.fakes.faulty import FaultyUpstream
from tests.flow.stage import TEXT, stage

GOOD = json.dumps(TEXT).encode()


def named(value: bytes) -> bytes:
    """A request whose ``input`` is ``value``, written as it stands."""
    return b'{"model": "gpt-5.5", "stream": true, "input": ' + value + b"}"


BAD_JSON: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \r\n ",
    "array": b"[1]",
    "string": b'"hello"',
    "number": b"1",
    "null": b"null",
    "truncated": GOOD[:-1],
    "trailing": GOOD + b"x",
    "two objects": GOOD + GOOD,
    "deep arrays": named(b"[" * 100_000 + b"]" * 100_000),
    "deep objects": named(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "never closed": named(b"[" * 100_000),
    "NaN": named(b"NaN"),
    "Infinity": named(b"[-Infinity]"),
    "lone surrogate": named(b'"\\ud800"'),
    "bad UTF-8": named(b'"\xff\xfe"'),
    "bad UTF-8 nested": named(b'[{"role": "user", "content": "\xc3("}]'),
    "overlong UTF-8": named(b'"\xc0\x80"'),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "BOM": b"\xef\xbb\xbf" + GOOD,
    "comment": b"{/* */" + GOOD[1:],
    "single quotes": GOOD.replace(b'"', b"'"),
    "raw control character": named(b'"\x00"'),
}


@pytest.mark.fault("B49")
async def test_what_is_no_json_object_is_refused_quickly(tmp_path: Path) -> None:
    """Every kind: 400 ``invalid_json`` in our shape within bounds, and no upstream call."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        await scene.post(b"{}")
        for name, body in BAD_JSON.items():
            answer = await scene.post(body)
            found = (answer.status, answer.code)
            assert found == (400, "invalid_json"), (name, answer.body[:200])
            assert answer.took_s < 0.5, name
            assert len(answer.body) < 1000, name
        assert upstream.requests == 0
        assert [scene.strikes(n) for n in range(2)] == [0, 0]


@pytest.mark.fault("B49")
async def test_duplicates_and_giant_integers_smuggle_nothing_upstream(tmp_path: Path) -> None:
    """What goes up is encoded anew: one member of each name, ours for the ones that matter."""
    twice = b'{"store": true, "model": "nope", "stream": false, ' + GOOD[1:-1] + b', "store": true, "store": false}'
    giant = GOOD[:-1] + b', "max_output_tokens": ' + b"9" * 6000 + b"}"
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        assert (await scene.post(twice)).status == 200
        pairs = json.loads(upstream.seen[-1].body, object_pairs_hook=list)
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names))
        sent = dict(pairs)
        assert (sent["model"], sent["store"], sent["stream"]) == ("gpt-5.5", False, True)
        await scene.post(giant)
        assert all(b"9" * 100 not in one.body for one in upstream.seen)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)


@pytest.mark.fault("B50")
async def test_gzip_and_zstd_bodies_are_understood(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for encoding, body in {"gzip": gzip.compress(GOOD), "zstd": zstd(GOOD), "identity": GOOD}.items():
            answer = await scene.post(body, content_encoding=encoding)
            assert (answer.status, answer.code) == (200, None), encoding
        assert {one.header("content-encoding") for one in upstream.seen} == {None}


@pytest.mark.fault("B50")
async def test_encodings_that_are_unknown_nested_or_wrong_are_refused(tmp_path: Path) -> None:
    cases = {
        ("br", GOOD): 415,
        ("deflate", raw_deflate(GOOD)): 415,
        ("gzip, zstd", zstd(gzip.compress(GOOD))): 415,
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD))): 415,
        ("chunked", GOOD): 415,
        ("gzip", GOOD): 400,
        ("zstd", GOOD): 400,
        ("gzip", gzip.compress(GOOD)[:-6]): 400,
        ("gzip", gzip.compress(GOOD) * 2): 400,
        ("zstd", zstd(GOOD)[:-4]): 400,
        ("gzip", b""): 400,
    }
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for (encoding, body), status in cases.items():
            answer = await scene.post(body, content_encoding=encoding)
            assert answer.status == status, (encoding, answer.body[:200])
            assert set(answer.error) >= {"message", "type", "code", "param"}
        assert upstream.requests == 0


@pytest.mark.fault("B50")
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_bomb_costs_no_more_than_the_limit(tmp_path: Path, encoding: str) -> None:
    """A few kilobytes that unfold to a gigabyte are refused by what comes out, in little time and memory."""
    packer = zlib.compressobj(9, wbits=31) if encoding == "gzip" else zstandard.ZstdCompressor(level=3).compressobj()
    piece = bytes(1 << 20)
    bomb = b"".join([packer.compress(piece) for _ in range(256)]) + packer.flush()
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, server={"max_body_mib": 16}) as scene,
    ):
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started_s = time.monotonic()
        answer = await scene.post(bomb, content_encoding=encoding)
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert time.monotonic() - started_s < 1.0
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024
        assert upstream.requests == 0
