"""The misbehaving upstream's script, counters, listener and TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.parse
from collections.abc import AsyncIterator

import pytest
import zstandard

from tests.fakes.faulty import Certificate, FaultyUpstream, Mode, events, modes, statuses, streams
from tests.fakes_test.raw_client import EOF_END, OPEN_END, RawClient, exchange, payload

LAST = b"0\r\n\r\n"


@pytest.fixture
async def up() -> AsyncIterator[FaultyUpstream]:
    async with FaultyUpstream() as upstream:
        yield upstream


async def test_queue_of_the_account_then_queue_then_token_then_account_then_default(up: FaultyUpstream) -> None:
    up.default = statuses.status(200)
    up.per_account["a"] = statuses.status(201)
    up.per_token["t"] = statuses.status(202)
    up.next(statuses.status(203))
    up.next(statuses.status(206), account="a")
    codes = [(await exchange(up, b"\r\n\r\n"))[0][9:12] for _ in range(3)]
    codes.append((await exchange(up, b"\r\n\r\n", token="other"))[0][9:12])
    codes.append((await exchange(up, b"\r\n\r\n", token="other", account="b"))[0][9:12])
    assert codes == [b"206", b"203", b"202", b"201", b"200"]
    assert up.queued == 0
    assert up.requests == 5
    assert up.requests_by_account == {"a": 4, "b": 1}
    assert up.requests_by_token == {"t": 3, "other": 2}


async def test_one_connection_carries_request_after_request(up: FaultyUpstream) -> None:
    up.next(modes.good(["one"]), statuses.bare_429(), modes.good(["two"]), modes.rst_pre())
    client = await RawClient.connect(up)
    await client.ask()
    assert b'"one"' in (await client.read_all(LAST))[0]
    await client.ask()
    assert (await client.read_all(b"\r\n\r\n"))[0].startswith(b"HTTP/1.1 429")
    await client.ask()
    assert b'"two"' in (await client.read_all(LAST))[0]
    assert up.connections == 1
    await client.ask()
    assert await client.read_all() == (b"", "rst")


async def test_pipelined_requests_are_answered_in_order(up: FaultyUpstream) -> None:
    up.next(modes.good(["one"]), modes.good(["two"]))
    client = await RawClient.connect(up)
    await client.ask()
    await client.ask()
    wire, _ = await client.read_all(LAST)
    if wire.count(LAST) == 1:
        wire += (await client.read_all(LAST))[0]
    assert wire.index(b'"one"') < wire.index(b'"two"')
    await client.close()


async def test_requests_are_recorded_with_head_and_bounded_body() -> None:
    async with FaultyUpstream(keep=2, keep_body_bytes=10) as up:
        for size in (1, 5, 100):
            client = await RawClient.connect(up)
            await client.ask(body=b"x" * size, account="acct-9", token="tok")
            await client.read_all(LAST)
            await client.close()
        assert [(seen.number, seen.body, seen.body_bytes) for seen in up.seen] == [
            (2, b"xxxxx", 5),
            (3, b"x" * 10, 100),
        ]
        last = up.seen[-1]
        assert (last.account, last.token, last.header("Host"), last.method) == ("acct-9", "tok", "up", "POST")
        assert last.head.endswith(b"\r\n\r\n")


async def test_a_chunked_request_body_is_read_whole(up: FaultyUpstream) -> None:
    client = await RawClient.connect(up)
    client.writer.write(
        b"POST /backend-api/codex/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    await client.read_all(LAST)
    assert up.seen[-1].body == b"abcde"
    await client.close()


async def test_a_request_that_stops_half_way_is_counted_and_not_answered(up: FaultyUpstream) -> None:
    client = await RawClient.connect(up)
    client.writer.write(b"POST /backend-api/codex/responses HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc")
    await up.until(lambda: up.requests == 1)
    await client.close()
    await up.until(lambda: up.half_requests == 1)
    assert up.bytes_written == 0


async def test_an_early_answer_comes_before_the_body_was_sent(up: FaultyUpstream) -> None:
    up.default = statuses.early(413)
    client = await RawClient.connect(up)
    client.writer.write(b"POST /backend-api/codex/responses HTTP/1.1\r\ncontent-length: 1000000\r\n\r\nabc")
    wire, end = await client.read_all()
    assert wire.startswith(b"HTTP/1.1 413")
    assert end == EOF_END


async def test_good_is_a_stream_that_ends_whole_and_is_not_counted_as_aborted(up: FaultyUpstream) -> None:
    wire, end = await exchange(up, LAST)
    blocks = payload(wire).split(b"\n\n")[:-1]
    kinds = [json.loads(block.partition(b"data: ")[2])["type"] for block in blocks]
    assert end == OPEN_END
    assert (len(kinds), kinds[0], kinds[-1]) == (10, "response.created", "response.completed")
    await up.until(lambda: up.open_connections == 0)
    assert (up.finished, up.aborted, up.bytes_written) == (1, 0, len(wire))


async def test_a_gate_holds_a_stream_until_it_is_opened(up: FaultyUpstream) -> None:
    up.default = modes.good(gate_after=5)
    client = await RawClient.connect(up)
    await client.ask()
    held = modes.head() + b"".join(modes.chunk(b) for b in events.text_stream(response_id="resp_1")[:5])
    assert await client.reader.readexactly(len(held)) == held
    assert up.bytes_written == len(held)
    up.open_gate()
    assert b"response.completed" in (await client.read_all(LAST))[0]
    await client.close()


@pytest.mark.parametrize("packed", [False, True])
async def test_echo_answers_with_the_requests_own_cache_key(up: FaultyUpstream, packed: bool) -> None:
    up.default = modes.echo()
    body = b'{"prompt_cache_key":"nonce-7"}'
    client = await RawClient.connect(up)
    extra = b""
    if packed:
        body, extra = zstandard.compress(body), b"content-encoding: zstd\r\n"
    head = b"POST /backend-api/codex/responses HTTP/1.1\r\n" + extra + b"content-length: %d\r\n\r\n" % len(body)
    client.writer.write(head + body)
    assert b'"delta":"nonce-7"' in (await client.read_all(LAST))[0]
    await client.close()


async def test_a_redirect_points_to_the_canary_which_counts_who_follows(up: FaultyUpstream) -> None:
    up.default = statuses.redirect(302)
    wire, _ = await exchange(up, b"\r\n\r\n")
    target = urllib.parse.urlsplit(wire.decode().partition("location: ")[2].partition("\r\n")[0])
    assert up.canary_hits == 0
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    await reader.read()
    writer.close()
    assert up.canary_hits == 1
    assert up.requests == 1


@pytest.mark.fault("B1")
async def test_refuse_and_listen_keep_the_port_and_open_connections(up: FaultyUpstream) -> None:
    client = await RawClient.connect(up)
    await client.ask()
    await client.read_all(LAST)
    port = up.port
    up.refuse()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(up)
    await client.ask()
    assert (await client.read_all(LAST))[1] == OPEN_END
    await up.listen()
    assert up.port == port
    assert (await exchange(up, LAST))[1] == OPEN_END
    await client.close()


@pytest.mark.fault("B2")
async def test_swallow_lets_a_connect_hang_and_listen_ends_it(up: FaultyUpstream) -> None:
    await up.swallow()
    connecting = asyncio.create_task(RawClient.connect(up))
    done, _ = await asyncio.wait({connecting}, timeout=0.15)
    assert not done
    connecting.cancel()
    await asyncio.wait({connecting})
    await up.listen()
    assert (await exchange(up, LAST))[1] == OPEN_END


async def test_the_small_endpoints_answer_and_can_be_scripted(up: FaultyUpstream) -> None:
    up.models_by_account["b"] = ["only-b"]

    async def get(path: str, account: str = "a") -> tuple[int, object]:
        client = await RawClient.connect(up)
        await client.ask(method="GET", path=path, account=account, body=b"")
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await client.reader.readexactly(length) or b"null")
        await client.close()
        return int(head[9:12]), body

    models = "/backend-api/codex/models?client_version=1"
    _, listed = await get(models)
    assert [one["slug"] for one in listed["models"]] == up.models  # type: ignore[index]
    _, listed = await get(models, "b")
    assert [one["slug"] for one in listed["models"]] == ["only-b"]  # type: ignore[index]
    _, check = await get("/backend-api/wham/accounts/check", "acct-7")
    assert check["accounts"][0]["id"] == "acct-7"  # type: ignore[index]
    assert (await get("/backend-api/wham/usage"))[0] == 200
    assert (await get("/elsewhere"))[0] == 404
    up.routes["/backend-api/codex/models"] = statuses.server_error(500)
    assert (await get(models))[0] == 500
    assert up.requests == 0
    assert up.other_requests["/backend-api/codex/models"] == 3


async def test_leaving_closes_what_is_open_and_the_listener() -> None:
    async with FaultyUpstream() as up:
        up.default = streams.idle(after=1)
        client = await RawClient.connect(up)
        await client.ask()
        await up.until(lambda: up.open_streams == 1)
    assert up.open_connections == 0
    assert (await client.read_all())[1] in {EOF_END, "rst"}
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(up)


async def test_until_gives_up_with_the_counters_in_the_message(up: FaultyUpstream) -> None:
    with pytest.raises(TimeoutError, match="requests=0"):
        await up.until(lambda: False, timeout_s=0.01)


@pytest.mark.fault("B4")
async def test_tls_with_the_right_certificate_works(up: FaultyUpstream) -> None:
    async with FaultyUpstream(certificate=Certificate.RIGHT) as secure:
        trust = ssl.create_default_context(cadata=secure.ca_pem.decode())
        client = await RawClient.connect(secure, trust)
        await client.ask()
        assert secure.base_url.startswith("https://")
        assert (await client.read_all(LAST))[1] == OPEN_END
        secure.default = streams.rst(after=2)
        await client.ask()
        assert (await client.read_all())[1] == "rst"


@pytest.mark.fault("B4")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Certificate.SELF_SIGNED, "CERTIFICATE_VERIFY_FAILED"),
        (Certificate.WRONG_HOST, "CERTIFICATE_VERIFY_FAILED"),
        (Certificate.EXPIRED, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
async def test_wrong_certificates_fail_a_client_that_verifies(kind: Certificate, reason: str) -> None:
    async with FaultyUpstream(certificate=kind) as secure:
        trust = ssl.create_default_context(cadata=secure.ca_pem.decode())
        with pytest.raises(ssl.SSLError, match=reason):
            await RawClient.connect(secure, trust)


@pytest.mark.fault("B4")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (modes.tls_bytes(), "HANDSHAKE_FAILURE"),
        (modes.tls_bytes(modes.PROTOCOL_VERSION), "PROTOCOL_VERSION"),
        (modes.garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "WRONG_VERSION"),
    ],
    ids=str,
)
async def test_a_plain_listener_answers_a_tls_hello_as_scripted(up: FaultyUpstream, answer: Mode, reason: str) -> None:
    up.on_client_hello = answer
    with pytest.raises(ssl.SSLError, match=reason):
        await RawClient.connect(up, ssl.create_default_context())
