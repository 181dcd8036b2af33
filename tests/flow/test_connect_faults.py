"""What breaks on the way to the upstream and in the head of its answer, seen from client, accounts and metrics."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import Certificate, FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import Stage, ended, stage, tried

SHORT = {"first_event_timeout_s": 0.3, "connect_timeout_s": 0.3}
HEALTHY = ["ok", "ok"]
THREE = ["ok", "ok", "ok"]


async def gives_up_on_the_route(scene: Stage, outcome: str, *, code: str = "upstream_error") -> None:
    """Two attempts though a third account is there, 502, and no account is blamed."""
    answer = await scene.relay()
    await scene.prove(
        answer,
        status=502,
        code=code,
        states=THREE,
        strikes=[0, 0, 0],
        attempts=2,
        metric=tried(outcome, 2),
        within_s=3,
    )


@pytest.mark.fault("B1")
async def test_a_refused_connection_is_tried_twice_and_blames_no_account(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=3) as scene:
        upstream.refuse()
        await gives_up_on_the_route(scene, "connect_refused")


@pytest.mark.fault("B1")
async def test_refusals_in_a_row_open_the_route_and_one_good_answer_closes_it(tmp_path: Path) -> None:
    clock = FakeClock()
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=clock) as scene:
        upstream.refuse()
        attempts = [(await scene.relay()).attempts for _ in range(3)]
        assert attempts == [2, 2, 1]
        assert scene.route == "open"
        refused = await scene.relay()
        await scene.prove(
            refused,
            status=502,
            code="upstream_error",
            states=HEALTHY,
            attempts=0,
            metric=tried("connect_refused", 5),
        )
        assert int(refused.headers["retry-after"]) <= 4
        await upstream.listen()
        clock.advance(4.3)
        answer = await scene.relay()
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))
        assert scene.route == "closed"


@pytest.mark.fault("B2")
async def test_a_black_hole_is_left_after_the_connect_timeout(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, upstream=SHORT, accounts=3) as scene:
        await upstream.swallow()
        await gives_up_on_the_route(scene, "connect_timeout")


async def lost(*_: object, **__: object) -> list[Any]:
    """What a resolver says that knows no such name."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.fault("B3")
async def test_a_name_that_does_not_resolve_is_a_502(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is made to answer at once, because the real one may take its time for a name that is not there."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lost)
    async with stage(tmp_path, "http://no-such-host.invalid/backend-api/codex", accounts=3) as scene:
        await gives_up_on_the_route(scene, "dns_error")


@pytest.mark.fault("B3")
async def test_pooled_connections_go_on_when_the_name_stops_to_resolve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultyUpstream() as upstream:
        base_url = upstream.base_url.replace("127.0.0.1", "localhost")
        async with stage(tmp_path, base_url, accounts=3) as scene:
            assert (await scene.relay()).status == 200
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lost)
            answer = await scene.relay()
            await scene.prove(answer, status=200, code=None, states=THREE, attempts=1, metric=ended("completed", 2))
            await upstream.drop_connections()
            await gives_up_on_the_route(scene, "dns_error")


@pytest.mark.fault("B4")
@pytest.mark.parametrize("shown", [Certificate.SELF_SIGNED, Certificate.WRONG_HOST, Certificate.EXPIRED])
async def test_a_certificate_that_is_not_right_ends_the_attempt_before_a_byte_is_sent(
    tmp_path: Path, shown: Certificate
) -> None:
    async with FaultyUpstream(certificate=shown) as upstream:
        (tmp_path / "ca.pem").write_bytes(upstream.ca_pem)
        async with stage(tmp_path, upstream.base_url, upstream={"ca_file": tmp_path / "ca.pem"}, accounts=3) as scene:
            await gives_up_on_the_route(scene, "tls_error")
        assert upstream.requests == 0


@pytest.mark.fault("B4")
async def test_the_right_certificate_of_the_same_authority_is_trusted(tmp_path: Path) -> None:
    async with FaultyUpstream(certificate=Certificate.RIGHT) as upstream:
        (tmp_path / "ca.pem").write_bytes(upstream.ca_pem)
        async with stage(tmp_path, upstream.base_url, upstream={"ca_file": tmp_path / "ca.pem"}) as scene:
            answer = await scene.relay()
            await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))


@pytest.mark.fault("B4")
@pytest.mark.parametrize(
    "hello", [modes.garbage(b"HTTP/1.1 400 Bad\r\n\r\n"), modes.tls_bytes(), modes.tls_bytes(modes.PROTOCOL_VERSION)]
)
async def test_a_listener_that_does_not_speak_our_tls_gets_no_request(tmp_path: Path, hello: Mode) -> None:
    async with FaultyUpstream() as upstream:
        upstream.on_client_hello = hello
        async with stage(tmp_path, upstream.base_url.replace("http:", "https:"), accounts=3) as scene:
            await gives_up_on_the_route(scene, "tls_error")
        assert upstream.requests == 0


@pytest.mark.fault("B5")
@pytest.mark.parametrize("mode", [modes.close_pre(), modes.rst_pre()], ids=str)
async def test_a_connection_lost_before_headers_is_another_accounts_stream(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 1],
            attempts=2,
            metric=tried("conn_lost_pre", 1),
        )
        assert scene.strikes(scene.number_of(answer)) == 0
        assert len(upstream.requests_by_account) == 2


@pytest.mark.fault("B5")
@pytest.mark.parametrize("mode", [modes.close_pre(), modes.rst_pre()], ids=str)
async def test_a_dead_pooled_connection_is_replaced_once_for_the_same_account(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.good(gate_after=3)
        first = [asyncio.create_task(scene.relay()) for _ in range(3)]
        await upstream.until(lambda: upstream.open_streams == 3)
        upstream.open_gate()
        assert {(await one).status for one in first} == {200}
        before = upstream.requests_by_account.copy()
        upstream.next(mode)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 0],
            attempts=2,
            metric=("relay_retries_total", {"verb": "same"}, 1),
        )
        assert upstream.requests_by_account[scene.accounts[scene.number_of(answer)].chatgpt_account_id] >= 3
        assert (upstream.requests_by_account - before).total() == 2
        assert len(upstream.requests_by_account - before) == 1
        assert upstream.connections == 4, "the second try met a pooled connection again"


@pytest.mark.fault("B5")
async def test_a_new_connection_that_dies_as_well_is_the_accounts_strike(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        assert (await scene.relay()).status == 200
        upstream.next(modes.close_pre(), modes.close_pre())
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 1],
            attempts=3,
            metric=tried("conn_lost_pre", 2),
        )


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        pytest.param(modes.hang_pre(), "ttfb_timeout", marks=pytest.mark.fault("B6")),
        pytest.param(modes.head_then_hang(), "header_timeout", marks=pytest.mark.fault("B7")),
        pytest.param(modes.slowhead(every_s=0.01), "header_timeout", marks=pytest.mark.fault("B7")),
    ],
    ids=str,
)
async def test_an_answer_that_does_not_come_is_another_accounts_stream_or_a_504(
    tmp_path: Path, mode: Mode, outcome: str
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, upstream=SHORT) as scene:
        upstream.next(mode)
        answer = await scene.relay()
        await scene.prove(
            answer, status=200, code=None, states=HEALTHY, strikes=[0, 1], attempts=2, metric=tried(outcome, 1)
        )
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer, status=504, code="upstream_timeout", states=HEALTHY, attempts=2, metric=tried(outcome, 3)
        )


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        pytest.param(modes.bighdr(), "protocol_error", marks=pytest.mark.fault("B8")),
        pytest.param(modes.bighdr(size=20_000, fields=10_000), "protocol_error", marks=pytest.mark.fault("B8")),
        pytest.param(modes.garbage(), "protocol_error", marks=pytest.mark.fault("B9")),
        pytest.param(modes.tls_bytes(), "protocol_error", marks=pytest.mark.fault("B9")),
        pytest.param(modes.http09(), "protocol_error", marks=pytest.mark.fault("B9")),
        pytest.param(modes.both_lengths(), "protocol_error", marks=pytest.mark.fault("B9")),
        pytest.param(modes.bad_chunk(after=0), "protocol_error", marks=pytest.mark.fault("B9")),
        pytest.param(modes.bad_chunk(after=2), "protocol_error", marks=pytest.mark.fault("B9")),
        pytest.param(modes.bodyless(204), "protocol_error", marks=pytest.mark.fault("B10")),
        pytest.param(modes.bodyless(304), "redirect", marks=pytest.mark.fault("B10")),
    ],
    ids=str,
)
async def test_an_answer_that_is_no_answer_is_another_accounts_stream_or_a_502(
    tmp_path: Path, mode: Mode, outcome: str
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode)
        answer = await scene.relay()
        await scene.prove(
            answer, status=200, code=None, states=HEALTHY, strikes=[0, 0], attempts=2, metric=tried(outcome, 1)
        )
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=502,
            code="upstream_error",
            states=HEALTHY,
            strikes=[0, 0],
            attempts=2,
            metric=tried(outcome, 3),
        )
        if not str(mode).startswith("bodyless"):
            await upstream.until(lambda: upstream.open_connections == 0)


@pytest.mark.fault("B9")
async def test_a_bad_chunk_after_the_commit_ends_the_stream_with_one_response_failed(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.bad_chunk(after=5)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code="upstream_protocol_error",
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            metric=ended("protocol_error"),
        )
        await upstream.until(lambda: upstream.open_connections == 0)


@pytest.mark.fault("B10")
@pytest.mark.parametrize("mode", [modes.informational(), modes.informational(103, 103), modes.trailers()], ids=str)
async def test_interim_answers_and_trailers_do_not_disturb_a_stream(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))
        assert answer.text == "Hello"
        assert not {"link", "trailer", "x-sum", "authorization"} & set(answer.headers)
        assert (await scene.relay()).text == "Hello"


@pytest.mark.fault("B11")
async def test_a_field_smuggled_into_a_header_value_is_not_relayed(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.split_header()
        answer = await scene.relay()
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))
        assert answer.headers["x-codex-turn-state"] == "a"
        assert "set-cookie" not in answer.headers


@pytest.mark.fault("B11")
@pytest.mark.parametrize("inject", [b"\rset-cookie: e=1", b"\nset-cookie: e=1", b"\x00", b"\x01", b"\x7f"], ids=repr)
async def test_control_characters_in_a_header_value_never_reach_the_client(tmp_path: Path, inject: bytes) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.split_header(inject)
        answer = await scene.relay()
        refused = answer.status == 502
        await scene.prove(
            answer,
            status=502 if refused else 200,
            code="upstream_error" if refused else None,
            states=HEALTHY,
            strikes=[0, 0],
            metric=tried("protocol_error", 2) if refused else ended("completed"),
        )
        assert "set-cookie" not in answer.headers
        assert answer.headers.get("x-codex-turn-state", "a") == "a"


@pytest.mark.fault("B1")
async def test_an_account_that_is_alone_is_asked_twice_when_the_route_fails(tmp_path: Path) -> None:
    """A refused connection says nothing about the account, so there is no reason to give up after one attempt."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=1) as scene:
        upstream.refuse()
        answer = await scene.relay()
        assert answer.status == 502
        assert answer.attempts == 2
        assert scene.state(0) == "ok"
