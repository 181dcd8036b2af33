"""Encoded bodies come out whole, and bombs do not come out at all."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard

from gateway.decode import MAX_RATIO, RATIO_FLOOR_BYTES, decode_body
from gateway.errors import GatewayError

LIMIT = 8 * 1024 * 1024
TEXT = b'{"model":"m","input":"' + bytes(range(0x30, 0x7A)) * 5000 + b'"}'


def stream_zstd(data: bytes) -> bytes:
    """A frame without its content size, as the Codex CLI writes it."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return compressor.compress(data) + compressor.flush()


@pytest.mark.fault("B50")
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ([], TEXT),
        ([b"identity"], TEXT),
        ([b"gzip"], gzip.compress(TEXT)),
        ([b"X-GZIP"], gzip.compress(TEXT)),
        ([b"identity, gzip"], gzip.compress(TEXT)),
        ([b"zstd"], zstandard.compress(TEXT)),
        ([b" ZSTD "], stream_zstd(TEXT)),
        ([b"zstd"], zstandard.ZstdCompressor(level=19, write_checksum=True).compress(TEXT)),
    ],
)
def test_supported_encodings_give_the_text(encoding: list[bytes], data: bytes) -> None:
    assert decode_body(data, encoding, LIMIT) == TEXT


@pytest.mark.fault("B50")
@pytest.mark.parametrize(
    "encoding", [[b"br"], [b"deflate"], [b"compress"], [b"gzip, gzip"], [b"gzip", b"zstd"], [b"gzip,br"], [b"x"]]
)
def test_unknown_and_nested_encodings_are_415(encoding: list[bytes]) -> None:
    with pytest.raises(GatewayError) as caught:
        decode_body(gzip.compress(TEXT), encoding, LIMIT)
    assert caught.value.status == 415


@pytest.mark.fault("B50")
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        (b"gzip", TEXT),
        (b"gzip", gzip.compress(TEXT)[:-9]),
        (b"gzip", gzip.compress(TEXT)[:-4] + b"\0\0\0\0"),
        (b"gzip", gzip.compress(TEXT) + b"x"),
        (b"gzip", gzip.compress(b"") * 1000),
        (b"gzip", b""),
        (b"zstd", TEXT),
        (b"zstd", gzip.compress(TEXT)),
        (b"zstd", zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)[:-1] + b"\0"),
        (b"zstd", bytes.fromhex("28b52ffd00f8") + b"\0" * 20),  # a window of two terabytes
    ],
)
def test_broken_data_is_a_400(encoding: bytes, data: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        decode_body(data, [encoding], LIMIT)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


@pytest.mark.fault("B50")
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, stream_zstd])
@pytest.mark.parametrize("size", [LIMIT + 1, 100 * 1024 * 1024])
def test_a_bomb_is_refused_and_costs_no_more_memory_than_the_limit(pack: object, size: int) -> None:
    assert callable(pack)
    encoding = b"gzip" if pack is gzip.compress else b"zstd"
    bomb = pack(b"\0" * size)
    tracemalloc.start()
    with pytest.raises(GatewayError) as caught:
        decode_body(bomb, [encoding], LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.status == 413
    assert caught.value.close
    assert peak < 2 * LIMIT


@pytest.mark.fault("B50")
def test_a_small_repetitive_body_is_nobodys_bomb() -> None:
    text = b"a" * (RATIO_FLOOR_BYTES - 10)
    assert decode_body(gzip.compress(text), [b"gzip"], LIMIT) == text
    assert decode_body(zstandard.compress(text), [b"zstd"], LIMIT) == text


@pytest.mark.fault("B50")
def test_the_ratio_counts_above_the_floor() -> None:
    text = b"a" * (RATIO_FLOOR_BYTES + 1)
    assert len(text) > MAX_RATIO * len(zstandard.compress(text))
    with pytest.raises(GatewayError, match="expands"):
        decode_body(zstandard.compress(text), [b"zstd"], LIMIT)


def test_a_raw_deflate_stream_is_not_gzip() -> None:
    with pytest.raises(GatewayError):
        decode_body(zlib.compress(TEXT), [b"gzip"], LIMIT)
