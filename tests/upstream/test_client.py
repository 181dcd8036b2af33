"""One account's question: the exact head, whole events back, and one classified error for everything else."""

from __future__ import annotations

import pytest

from store.records import Secret
from tests.fakes.records import make_account
from tests.upstream.wire import (
    ACCOUNT,
    CREDENTIAL,
    DONE,
    LAST,
    REQUEST,
    SSE_HEAD,
    Peer,
    chunk,
    client_of,
    read_stream,
    saying,
    serving,
)
from upstream.client import CodexClient
from upstream.errors import FaultKind, UpstreamError
from upstream.types import UpstreamRequest


async def refusal(client: CodexClient) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await client.send(REQUEST, ACCOUNT, CREDENTIAL)
    return caught.value


async def test_the_request_on_the_wire() -> None:
    """Line, host, account, identity, length and body; nothing else."""
    seen: list[tuple[bytes, bytes]] = []

    async def talk(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(SSE_HEAD + chunk(DONE) + LAST)

    async with serving(talk) as server, client_of(server) as (client, _):
        assert await read_stream(client) == DONE
        [(head, body)] = seen
        assert body == b'{"model":"m"}'
        line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert line == b"POST /backend-api/codex/responses HTTP/1.1"
        assert sorted(fields) == sorted(
            [
                b"host: 127.0.0.1:%d" % server.origin.port,
                b"authorization: Bearer the-token",
                b"chatgpt-account-id: acct-9",
                b"accept: text/event-stream",
                b"accept-encoding: identity",
                b"content-type: application/json",
                b"originator: cli",
                b"user-agent: cli/1",
                b"version: 9",
                b"x-client-request-id: req_1",
                b"content-length: 13",
            ]
        )


async def test_the_accounts_workspace_origin_replaces_the_host_only() -> None:
    """Path and everything else stay configured."""
    async with (
        serving(saying(SSE_HEAD + LAST)) as server,
        serving(saying(SSE_HEAD + LAST)) as other,
        client_of(server) as (client, _),
    ):
        account = make_account(workspace_origin=f"http://127.0.0.1:{other.origin.port}")
        response = await client.send(REQUEST, account, CREDENTIAL)
        assert await response.next_block() == b""
        assert (server.accepted, other.accepted) == (0, 1)
        for bad in ("nonsense", "https://h/with/path", "https://u:p@h"):
            with pytest.raises(UpstreamError) as caught:
                await client.send(REQUEST, make_account(workspace_origin=bad), CREDENTIAL)
            assert not caught.value.sent


@pytest.mark.fault("B18b")
async def test_an_encoded_stream_is_refused() -> None:
    """We asked for identity; nothing is decoded, so nothing can explode."""
    head = SSE_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    async with serving(saying(head + chunk(b"\x1f\x8b"))) as server, client_of(server) as (client, _):
        assert (await refusal(client)).kind is FaultKind.PROTOCOL
        await server.until_empty()


def answer(status: str, body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status.encode(), lines, len(body), body)


@pytest.mark.fault("B19")
@pytest.mark.fault("B26")
@pytest.mark.fault("B27")
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer("200 OK", b"<html>", b"content-type: text/html"), FaultKind.PROTOCOL),
        (answer("200 OK", b"{}", b"content-type: application/json"), FaultKind.PROTOCOL),
        (answer("204 No Content", b"").replace(b"content-length: 0\r\n", b""), FaultKind.PROTOCOL),
        (answer("400 Bad", b'{"detail":"Store must be set to false"}'), FaultKind.REQUEST),
        (answer("429 Slow", b'{"error":{"type":"usage_limit_reached","resets_in_seconds":9}}'), FaultKind.RATE_LIMITED),
        (answer("403 No", b"<html>Just a moment", b"cf-mitigated: challenge"), FaultKind.BLOCKED_ROUTE),
        (answer("500 Oops", b""), FaultKind.SERVER),
    ],
)
async def test_every_other_answer_is_read_classified_and_raised(said: bytes, kind: FaultKind) -> None:
    """And its connection is good for the next request."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DONE) + LAST)

    async with serving(talk) as server, client_of(server) as (client, _):
        assert (await refusal(client)).kind is kind
        assert await read_stream(client) == DONE
        assert server.accepted == 1


@pytest.mark.fault("B28")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_never_followed(status: int) -> None:
    """The canary sees nobody, not even a connection."""
    async with serving(saying(b"")) as canary:
        said = answer(f"{status} Go", b"", b"location: http://127.0.0.1:%d/" % canary.origin.port)

        async def talk(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.say(said)

        async with serving(talk) as server, client_of(server) as (client, _):
            assert (await refusal(client)).kind is FaultKind.REDIRECT
            for call in (client.usage(ACCOUNT, CREDENTIAL), client.models(ACCOUNT, CREDENTIAL)):
                with pytest.raises(UpstreamError) as caught:
                    await call
                assert caught.value.kind is FaultKind.REDIRECT
        assert canary.accepted == 0


async def test_an_error_body_without_end_is_read_up_to_a_bound() -> None:
    """64 KiB of it are enough; the connection is closed."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.say(chunk(b"x" * 10_000))

    async with serving(talk) as server, client_of(server) as (client, _):
        error = await refusal(client)
        assert error.kind is FaultKind.SERVER
        assert len(error.excerpt) <= 200
        await server.until_empty()


async def test_an_encoded_error_is_judged_by_its_head() -> None:
    """Its body is not read."""
    said = answer("429 Slow", b"\x1f\x8bxx", b"content-encoding: gzip", b"retry-after: 3")
    async with serving(saying(said)) as server, client_of(server) as (client, _):
        error = await refusal(client)
        assert (error.kind, error.retry_after_s) == (FaultKind.RATE_LIMITED, 3)


async def test_a_token_that_cannot_be_sent_is_not() -> None:
    """No connection is opened for it."""
    async with serving(saying(b"")) as server, client_of(server) as (client, _):
        broken = CREDENTIAL.__class__("a", Secret("x\r\ny: z"), None, None, 0.0, 0.0)
        with pytest.raises(UpstreamError) as caught:
            await client.send(REQUEST, ACCOUNT, broken)
        assert (caught.value.kind, caught.value.sent) == (FaultKind.AUTH, False)
        assert server.accepted == 0


async def test_a_big_body_goes_up_whole() -> None:
    """2 MB in several buffers."""
    parts = [b"[", b"a" * 1_000_000, b"b" * 1_000_000, b"]"]
    seen: list[bytes] = []

    async def talk(peer: Peer) -> None:
        seen.append((await peer.request())[1])
        await peer.say(SSE_HEAD + chunk(DONE) + LAST)

    async with serving(talk) as server, client_of(server) as (client, _):
        response = await client.send(UpstreamRequest(parts), ACCOUNT, CREDENTIAL)
        assert await response.next_block() == DONE
        assert await response.next_block() == b""
        assert seen == [b"".join(parts)]
