"""Request heads and bodies that two parsers could read in two ways, and a few that are merely broken.

Each hides a second request for ``/smuggled``, or shows a head that must not reach the application at all.
"""

from __future__ import annotations

HOST = b"Host: gateway.test\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1", host: bytes = HOST) -> bytes:
    return b"POST /v1/responses HTTP/" + version + b"\r\n" + host + fields + b"\r\n" + body


CHUNKED_END = b"0\r\n\r\n"

REFUSED: dict[str, bytes] = {
    "cl_te": post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", CHUNKED_END + b"X" + SMUGGLED),
    "te_cl": post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", CHUNKED_END + SMUGGLED),
    "cl_twice_same": post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}" + SMUGGLED),
    "cl_twice_other": post(b"Content-Length: 2\r\nContent-Length: 40\r\n", b"{}" + SMUGGLED),
    "cl_list": post(b"Content-Length: 2, 2\r\n", b"{}" + SMUGGLED),
    "cl_negative": post(b"Content-Length: -2\r\n", b"{}" + SMUGGLED),
    "cl_plus": post(b"Content-Length: +2\r\n", b"{}" + SMUGGLED),
    "cl_hex": post(b"Content-Length: 0x2\r\n", b"{}" + SMUGGLED),
    "cl_space": post(b"Content-Length: 2 0\r\n", b"{}" + SMUGGLED),
    "cl_empty": post(b"Content-Length: \r\n", b"{}" + SMUGGLED),
    "cl_huge": post(b"Content-Length: " + b"9" * 40 + b"\r\n", b"{}" + SMUGGLED),
    "te_twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKED_END + SMUGGLED),
    "te_twice_other": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKED_END + SMUGGLED),
    "te_gzip_chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKED_END + SMUGGLED),
    "te_chunked_gzip": post(b"Transfer-Encoding: chunked, gzip\r\n", CHUNKED_END + SMUGGLED),
    "te_identity": post(b"Transfer-Encoding: identity\r\n", CHUNKED_END + SMUGGLED),
    "te_quoted": post(b'Transfer-Encoding: "chunked"\r\n', CHUNKED_END + SMUGGLED),
    "te_xchunked": post(b"Transfer-Encoding: xchunked\r\n", CHUNKED_END + SMUGGLED),
    "te_vertical_tab": post(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKED_END + SMUGGLED),
    "te_folded": post(b"Transfer-Encoding:\r\n chunked\r\n", CHUNKED_END + SMUGGLED),
    "te_space_before_colon": post(b"Transfer-Encoding : chunked\r\n", CHUNKED_END + SMUGGLED),
    "te_http10": post(b"Transfer-Encoding: chunked\r\n", CHUNKED_END + SMUGGLED, version=b"1.0"),
    "folded_any": post(b"X-A: one\r\n two\r\nContent-Length: 0\r\n", SMUGGLED),
    "host_none": post(b"Content-Length: 0\r\n", SMUGGLED, host=b""),
    "host_twice": post(b"Host: other.test\r\nContent-Length: 0\r\n", SMUGGLED),
    "host_path": post(b"Content-Length: 0\r\n", SMUGGLED, host=b"Host: gateway.test/admin\r\n"),
    "host_at": post(b"Content-Length: 0\r\n", SMUGGLED, host=b"Host: user@gateway.test\r\n"),
    "name_with_space": post(b"X A: 1\r\nContent-Length: 0\r\n", SMUGGLED),
    "name_empty": post(b": 1\r\nContent-Length: 0\r\n", SMUGGLED),
    "name_nul": post(b"X\x00A: 1\r\nContent-Length: 0\r\n", SMUGGLED),
    "value_nul": post(b"X-A: 1\x002\r\nContent-Length: 0\r\n", SMUGGLED),
    "value_bare_cr": post(b"X-A: 1\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", SMUGGLED),
    "line_bare_lf": post(b"X-A: 1\nX-B: 2\r\nContent-Length: 0\r\n", SMUGGLED),
    "leading_space": post(b" Content-Length: 0\r\n", SMUGGLED),
    "version_odd": post(b"Content-Length: 0\r\n", SMUGGLED, version=b"1.9"),
    "version_09": b"GET /v1/responses\r\n" + SMUGGLED,
    "not_http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
    "connect": b"CONNECT gateway.test:443 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
    "expect_te": post(b"Expect: 100-continue\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n", SMUGGLED),
    "upgrade_on_post": post(b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", b"{}" + SMUGGLED),
}
"""Must be answered with a 4xx and the end, or with the end alone."""

BROKEN_BODIES: dict[str, bytes] = {
    "chunk_size_text": post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n" + CHUNKED_END + SMUGGLED),
    "chunk_size_0x": post(b"Transfer-Encoding: chunked\r\n", b"0x2\r\n{}\r\n" + CHUNKED_END + SMUGGLED),
    "chunk_size_negative": post(b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n" + CHUNKED_END + SMUGGLED),
    "chunk_size_overflow": post(
        b"Transfer-Encoding: chunked\r\n", b"FFFFFFFFFFFFFFFFF2\r\n{}\r\n" + CHUNKED_END + SMUGGLED
    ),
    "chunk_terminator": post(b"Transfer-Encoding: chunked\r\n", b"2\r\n{}XX" + CHUNKED_END + SMUGGLED),
    "chunk_bare_lf": post(b"Transfer-Encoding: chunked\r\n", b"2\n{}\n0\n\n" + SMUGGLED),
    "chunk_extension_lf": post(b"Transfer-Encoding: chunked\r\n", b"2;\nxx\r\n{}\r\n" + CHUNKED_END + SMUGGLED),
}
"""Heads that are fine with bodies that are not."""
