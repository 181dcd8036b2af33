"""Heads from a hostile container: what two readers could read differently is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.egress_head import BadHead, check_for_gateway, origin_form, parse_head, proxy_target


def head(line: str, *fields: str, host: bool = True) -> bytes:
    return "\r\n".join([line, *(["Host: h"] if host else []), *fields, "", ""]).encode("latin-1")


CALL = "POST /v1/responses HTTP/1.1"
MISREAD = {
    "two lengths": head(CALL, "Content-Length: 3", "Content-Length: 3"),
    "length and chunked": head(CALL, "Content-Length: 3", "Transfer-Encoding: chunked"),
    "chunked twice": head(CALL, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "another coding": head(CALL, "Transfer-Encoding: gzip, chunked"),
    "xchunked": head(CALL, "Transfer-Encoding: xchunked"),
    "Chunked": head(CALL, "Transfer-Encoding: Chunked"),
    "chunked in 1.0": head("POST /v1/responses HTTP/1.0", "Transfer-Encoding: chunked"),
    "signed length": head(CALL, "Content-Length: +3"),
    "hex length": head(CALL, "Content-Length: 0x3"),
    "listed length": head(CALL, "Content-Length: 3, 3"),
    "negative length": head(CALL, "Content-Length: -1"),
    "blank before the colon": head(CALL, "Content-Length : 3"),
    "folded": head(CALL, "X: a", " Content-Length: 3"),
    "bare LF": b"POST /v1/responses HTTP/1.1\nHost: h\r\n\r\n",
    "LF in a value": head(CALL, "X: a\nProxy-Authorization: Basic x"),
    "CR in a value": head(CALL, "X: a\rContent-Length: 3"),
    "NUL in a value": head(CALL, "X: a\0b"),
    "no name": head(CALL, ": a"),
    "no colon": head(CALL, "nothing"),
    "two hosts": head(CALL, "Host: other"),
    "no host": head(CALL, host=False),
    "HTTP/2": head("POST /v1/responses HTTP/2.0"),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "two blanks": head("POST  /v1/responses HTTP/1.1"),
    "tab": head("POST\t/v1/responses HTTP/1.1"),
    "small method": head("post /v1/responses HTTP/1.1"),
    "line before": b"\r\n" + head(CALL),
    "too many": head(CALL, *(f"X{n}: a" for n in range(101))),
    "not ASCII in the target": head("GET /v1/models\xe9 HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\r\n\r\n",
}


@pytest.mark.parametrize("raw", MISREAD.values(), ids=MISREAD)
def test_what_can_be_misread_is_refused(raw: bytes) -> None:
    with pytest.raises(BadHead):
        parse_head(raw)


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/responses HTTP/1.1", "POST /v1/responses?x=1 HTTP/1.1", "POST /v1/responses/ HTTP/1.1",
        "POST /v1//responses HTTP/1.1", "POST /v1/%72esponses HTTP/1.1", "POST /V1/responses HTTP/1.1",
        "POST http://h/v1/responses HTTP/1.1", "POST //h/v1/responses HTTP/1.1", "GET /admin/api/keys HTTP/1.1",
        "GET /metrics HTTP/1.1", "GET /console HTTP/1.1", "GET /readyz HTTP/1.1", "DELETE /v1/models HTTP/1.1",
        "GET /v1/models/../../admin/api/keys HTTP/1.1", "GET /v1/models/.. HTTP/1.1", "GET /v1/models/a/b HTTP/1.1",
        "GET /v1/models/%2e%2e HTTP/1.1", "GET /v1/models/a..b HTTP/1.1", "GET /v1/models/a\\b HTTP/1.1",
        "GET /v1/models?a=/admin HTTP/1.1", "GET /v1/tasks HTTP/1.1", "POST /v1/tasks HTTP/1.1",
        "GET /v1/models;/admin HTTP/1.1", "GET /healthz?x HTTP/1.1", "CONNECT h:443 HTTP/1.1", "OPTIONS * HTTP/1.1",
        "GET /v1/models/# HTTP/1.1", "PRI * HTTP/1.1", "POST /backend-api/codex/responses HTTP/1.1",
    ],
)  # fmt: skip
def test_a_container_may_not_ask_this_of_the_gateway(line: str) -> None:
    with pytest.raises(BadHead) as caught:
        check_for_gateway(parse_head(head(line)))
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: for=x",
        "X-Real-IP: 1.2.3.4",
        "Upgrade: h2c",
        "Proxy-Authorization: Basic",
    ],
)
def test_nor_with_a_header_that_is_not_a_containers(field: str) -> None:
    with pytest.raises(BadHead):
        check_for_gateway(parse_head(head(CALL, field)))


@pytest.mark.parametrize(
    "line",
    [CALL, "GET /healthz HTTP/1.1", "GET /v1/models HTTP/1.1", "GET /v1/models?client_version=0.1.0 HTTP/1.1",
     "GET /v1/models/gpt-5.5 HTTP/1.1"],
)  # fmt: skip
def test_this_it_may(line: str) -> None:
    check_for_gateway(parse_head(head(line, "Authorization: Bearer x", "X-Codex-Turn-Metadata: {}")))


@pytest.mark.parametrize(
    ("line", "host", "port", "path"),
    [
        ("CONNECT Example.com:443 HTTP/1.1", "example.com", 443, ""),
        ("CONNECT example.com.:443 HTTP/1.1", "example.com", 443, ""),
        ("CONNECT [2606:4700::1]:443 HTTP/1.1", "2606:4700::1", 443, ""),
        ("GET http://example.com HTTP/1.1", "example.com", 80, "/"),
        ("GET HTTP://EXAMPLE.com/a/b?c=d HTTP/1.1", "example.com", 80, "/a/b?c=d"),
        ("GET http://example.com:8080?x HTTP/1.1", "example.com", 8080, "/?x"),
    ],
)
def test_where_a_proxy_request_leads(line: str, host: str, port: int, path: str) -> None:
    target = proxy_target(parse_head(head(line)))
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize(
    "line",
    [
        "CONNECT example.com HTTP/1.1", "CONNECT example.com:0 HTTP/1.1", "CONNECT example.com:65536 HTTP/1.1",
        "CONNECT example.com:443:80 HTTP/1.1", "CONNECT user@example.com:443 HTTP/1.1", "CONNECT :443 HTTP/1.1",
        "CONNECT http://example.com:443 HTTP/1.1", "CONNECT example.com:443/ HTTP/1.1",
        "CONNECT ex%61mple:443 HTTP/1.1",
        "CONNECT [::1%25lo]:443 HTTP/1.1", "GET / HTTP/1.1", "GET https://example.com/ HTTP/1.1",
        "GET ftp://example.com/ HTTP/1.1", "GET http:///path HTTP/1.1", "GET http://u:p@example.com/ HTTP/1.1",
        "GET http://good.com#@evil.com/ HTTP/1.1", "GET http://evil.com\\@good.com/ HTTP/1.1",
        "GET http://example.com/a#b HTTP/1.1", "GET http://example.com:x/ HTTP/1.1",
        'GET http://example.com/" HTTP/1.1',
        "GET file:///etc/passwd HTTP/1.1", "GET http://exa_mple.com/ HTTP/1.1", "GET http://*.example.com/ HTTP/1.1",
    ],
)  # fmt: skip
def test_an_address_that_can_be_misread_leads_nowhere(line: str) -> None:
    with pytest.raises(BadHead):
        proxy_target(parse_head(head(line)))


def test_the_origin_gets_nothing_that_was_meant_for_the_proxy() -> None:
    raw = head(
        "GET http://example.com:8080/a HTTP/1.1", "Proxy-Authorization: Basic c2VjcmV0", "Accept: */*",
        "Connection: keep-alive, X-Hop, Content-Length", "X-Hop: 1", "Proxy-Connection: keep-alive",
        "Content-Length: 0",
    )  # fmt: skip
    parsed = parse_head(raw)
    assert origin_form(parsed, proxy_target(parsed)) == (
        b"GET /a HTTP/1.1\r\nHost: example.com:8080\r\naccept: */*\r\ncontent-length: 0\r\nConnection: close\r\n\r\n"
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    try:
        parsed = parse_head(data + b"\r\n\r\n")
    except BadHead:
        return
    assert parsed.raw == data + b"\r\n\r\n"
