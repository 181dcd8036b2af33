"""Content-Encoding of request bodies: identity, gzip and zstd, never more than allowed.

The Codex CLI sends zstd. Output is produced in small steps and stops at the limit, so that a bomb costs no more than
the limit; the ratio of output to input is bounded too, with a floor below which nobody is refused for being small
and repetitive. A truncated zstd frame gives the text that it holds: the JSON gate behind sees that it has no end.
One encoding, one frame or member: nested and unknown encodings are 415, a chain of members would let a small body
make much work.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import zstandard

from gateway.errors import GatewayError

MAX_RATIO: Final = 100
RATIO_FLOOR_BYTES: Final = 1024 * 1024
_STEP_BYTES: Final = 128 * 1024
_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024  # what RFC 8878 asks decoders to support; caps a frame's memory
_GZIP_WBITS: Final = 31


def decode_body(body: bytes, content_encoding: Sequence[bytes], max_bytes: int) -> bytes:
    """``body`` without its Content-Encoding; ``content_encoding`` are the values of all such fields.

    Raises GatewayError: 415 for an encoding that is unknown or nested, 413 when the output would pass ``max_bytes``
    or the ratio, 400 when the data is broken.
    """
    if not content_encoding:
        return body
    tokens = [token.strip().lower() for value in content_encoding for token in value.split(b",")]
    codings = [token for token in tokens if token not in (b"", b"identity")]
    if not codings:
        return body
    if len(codings) > 1 or codings[0] not in (b"gzip", b"x-gzip", b"zstd"):
        raise GatewayError(
            "unsupported_media_type",
            "This Content-Encoding is not taken: send the body as it is, or with gzip or zstd alone.",
        )
    allowed = min(max_bytes, max(RATIO_FLOOR_BYTES, len(body) * MAX_RATIO))
    pieces = _zstd(body, allowed) if codings[0] == b"zstd" else _gzip(body, allowed)
    return _collect(pieces, allowed, max_bytes)


def _collect(pieces: Iterable[bytes], allowed: int, max_bytes: int) -> bytes:
    held: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size > allowed:
                if allowed == max_bytes:
                    raise GatewayError.body_too_large(max_bytes)
                raise GatewayError("body_too_large", f"The body expands more than {MAX_RATIO} times.", close=True)
            held.append(piece)
    except (zstandard.ZstdError, zlib.error):
        raise GatewayError.invalid("The body is not what its Content-Encoding says.") from None
    return held[0] if len(held) == 1 else b"".join(held)


def _zstd(body: bytes, allowed: int) -> Iterable[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    with decompressor.stream_reader(body) as reader:
        while piece := reader.read(min(_STEP_BYTES, allowed + 1)):
            yield piece


def _gzip(body: bytes, allowed: int) -> Iterable[bytes]:
    decompressor = zlib.decompressobj(_GZIP_WBITS)
    piece = decompressor.decompress(body, min(_STEP_BYTES, allowed + 1))
    while piece:
        yield piece
        piece = decompressor.decompress(decompressor.unconsumed_tail, _STEP_BYTES)
    if not decompressor.eof or decompressor.unused_data:
        raise zlib.error("not exactly one whole member")
