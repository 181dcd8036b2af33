"""The model endpoint: who is let in, what is answered, and what a client that leaves looks like from this side."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest
import zstandard

from ops.simulator import Fail, SimulatorConfig, running_simulator
from tests.fakes.clock import FakeClock
from tests.simulator.conftest import Peer, asked, events_of, output_of, text_of, types_of

PATH = "/backend-api/codex/responses"


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
async def test_bodies_are_decoded_by_their_encoding(peer: Peer, encoding: str) -> None:
    plain = json.dumps(asked("sim:text=decoded")).encode()
    packed = {"zstd": zstandard.compress(plain), "gzip": gzip.compress(plain), "identity": plain}[encoding]
    headers = {**peer.headers, "content-encoding": encoding, "content-type": "application/json"}
    answer = await peer.http.post(peer.sim.base_url + "/responses", content=packed, headers=headers)
    assert text_of(answer) == "decoded"
    assert peer.state.requests[-1].body == plain


@pytest.mark.parametrize(("encoding", "content"), [("zstd", b"{}"), ("gzip", b"{}"), ("br", b"{}")])
async def test_a_body_that_does_not_decode_is_a_400(peer: Peer, encoding: str, content: bytes) -> None:
    headers = {**peer.headers, "content-encoding": encoding}
    answer = await peer.http.post(peer.sim.base_url + "/responses", content=content, headers=headers)
    assert answer.status_code == 400


async def test_a_bomb_is_refused_at_the_cap(http: httpx.AsyncClient) -> None:
    async with running_simulator(SimulatorConfig(max_body_bytes=1_000)) as sim:
        peer = Peer(http, sim, sim.state.new_account())
        for content, encoding in ((b"x" * 2_000, "identity"), (zstandard.compress(b"x" * 100_000), "zstd")):
            headers = {**peer.headers, "content-encoding": encoding}
            answer = await http.post(f"{sim.base_url}/responses", content=content, headers=headers)
            assert answer.json() == {"detail": "body too large"}


async def test_unknown_expired_and_missing_tokens_are_401_with_the_recorded_bodies(
    peer: Peer, clock: FakeClock
) -> None:
    nobody = await peer.http.post(peer.sim.base_url + "/responses", json=asked("hi"))
    assert (nobody.status_code, nobody.json()) == (401, {"detail": "Unauthorized"})
    unknown = await peer.post(asked("hi"), authorization="Bearer made-up")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "token_invalidated")
    clock.advance(864_001)
    expired = await peer.ask("hi")
    assert (expired.status_code, expired.json()["error"]["code"], expired.json()["status"]) == (
        401,
        "token_expired",
        401,
    )


async def test_the_account_header_must_name_the_tokens_account(peer: Peer, other: Peer) -> None:
    answer = await peer.post(asked("hi"), **{"chatgpt-account-id": other.account_id})
    assert answer.status_code == 401
    assert peer.state.counts["account_mismatches"] == 1
    assert peer.state.requests[-1].account_id == peer.account_id


async def test_a_websocket_upgrade_is_told_to_use_http(peer: Peer) -> None:
    answer = await peer.get(PATH, upgrade="websocket", connection="Upgrade")
    assert answer.status_code == 426
    assert (await peer.get(PATH)).status_code == 405


async def test_every_answer_carries_limits_model_and_etag(peer: Peer) -> None:
    peer.state.accounts[peer.account_id].primary.used_percent = 42.5
    answer = await peer.ask("hi")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-codex-primary-used-percent"] == "42.5"
    assert answer.headers["x-codex-primary-window-minutes"] == "300"
    assert answer.headers["x-codex-secondary-window-minutes"] == "10080"
    assert answer.headers["openai-model"] == "gpt-5.5"
    assert answer.headers["x-models-etag"] == (await peer.get("/backend-api/codex/models")).headers["etag"]
    limits = next(e for e in events_of(answer) if e["type"] == "codex.rate_limits")
    assert limits["rate_limits"]["primary"]["used_percent"] == 42.5
    bare = await peer.ask("sim:no_limits,no_turn_state")
    assert not [name for name in bare.headers if name.startswith("x-codex")]
    assert "codex.rate_limits" not in types_of(bare)


async def test_turn_state_is_issued_once_and_judged_by_account(peer: Peer, other: Peer) -> None:
    state = (await peer.ask("hi")).headers["x-codex-turn-state"]
    again = await peer.post(asked("hi"), **{"x-codex-turn-state": state})
    assert again.status_code == 200
    assert "x-codex-turn-state" not in again.headers
    assert (await other.post(asked("hi"), **{"x-codex-turn-state": state})).status_code == 400
    assert other.counts()["foreign_turn_state"] == 1


async def test_scripts_come_before_the_mode_and_are_used_up(peer: Peer, other: Peer) -> None:
    peer.state.set_mode(None, "text=everybody")
    peer.state.set_mode(peer.account_id, "text=mode")
    peer.state.script(peer.account_id, [Fail(418, {"a": 1}, {"x-b": "c"}), "http=503", ""])
    first, second, third = [await peer.ask("hi") for _ in range(3)]
    assert (first.status_code, first.json(), first.headers["x-b"]) == (418, {"a": 1}, "c")
    assert second.status_code == 503
    assert text_of(third).startswith("The simulated")
    assert text_of(await peer.ask("hi")) == "mode"
    assert text_of(await other.ask("hi")) == "everybody"


async def test_instructions_and_the_prompt_carry_directives_the_prompt_wins(peer: Peer) -> None:
    answer = await peer.ask("sim:events=3", instructions="sim:events=2,noise")
    assert types_of(answer).count("response.output_text.delta") == 3
    assert "keepalive" in types_of(answer)
    assert (await peer.ask("sim:nonsense")).status_code == 400


async def test_an_exhausted_account_answers_429_until_its_reset(peer: Peer, clock: FakeClock) -> None:
    peer.state.exhaust(peer.account_id, resets_in_s=90)
    answer = await peer.ask("hi")
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["resets_in_seconds"]) == (429, "usage_limit_reached", 90)
    assert error["resets_at"] == int(clock.now_s()) + 90
    assert answer.headers["x-codex-primary-used-percent"] == "100"
    clock.advance(91)
    assert (await peer.ask("hi")).status_code == 200


async def test_use_fills_the_window_when_configured(http: httpx.AsyncClient) -> None:
    async with running_simulator(SimulatorConfig(tokens_per_window=100)) as sim:
        peer = Peer(http, sim, sim.state.new_account())
        statuses = [(await peer.ask("x" * 200)).status_code for _ in range(3)]
    assert statuses[0] == 200
    assert statuses[-1] == 429


async def test_cached_tokens_follow_the_cache_key_of_the_account(peer: Peer, other: Peer) -> None:
    async def cached(who: Peer, key: str) -> int:
        answer = await who.ask("x" * 4_000, prompt_cache_key=key)
        usage = events_of(answer)[-1]["response"]["usage"]
        assert usage["input_tokens"] >= 1_000
        return int(usage["input_tokens_details"]["cached_tokens"])

    assert [await cached(peer, "k"), await cached(peer, "k"), await cached(peer, "l")] == [0, 1024, 0]
    assert await cached(other, "k") == 0


async def test_a_client_that_leaves_a_hanging_stream_is_counted_as_abort(peer: Peer) -> None:
    request = peer.http.build_request(
        "POST", peer.sim.base_url + "/responses", json=asked("sim:hang,at=2"), headers=peer.headers
    )
    answer = await peer.http.send(request, stream=True)
    await peer.state.until(lambda: peer.counts()["hanging"] == 1)
    assert peer.state.accounts[peer.account_id].streams == 1
    await answer.aclose()
    await peer.state.until(lambda: peer.counts()["aborts"] == 1)
    await peer.state.until(lambda: peer.state.streams == 0)


async def test_a_whole_stream_is_no_abort(peer: Peer) -> None:
    for _ in range(5):
        await peer.ask("hi")
    assert peer.counts()["aborts"] == 0
    assert peer.counts()["completed"] == 5


@pytest.mark.parametrize("at", [-1, 0, 3])
async def test_a_gate_holds_the_stream_at_its_place(peer: Peer, at: int) -> None:
    """Before the headers, after ``response.created``, or after three deltas; then it goes on to the end."""
    import asyncio

    asking = asyncio.create_task(peer.ask(f"sim:gate=g,at={at}"))
    await peer.state.until(lambda: peer.counts()["at_gate_g"] == 1)
    assert not asking.done()
    peer.state.open_gate("g")
    assert types_of(await asking)[-1] == "response.completed"


async def test_pauses_go_by_the_clock(peer: Peer, clock: FakeClock) -> None:
    import asyncio

    asking = asyncio.create_task(peer.ask("sim:events=2,ttfb_ms=500,first_ms=500,delay_ms=1000"))
    await peer.state.until(lambda: peer.counts()["requests"] == 1)
    for _ in range(200):
        if asking.done():
            break
        clock.advance(0.5)
        await asyncio.sleep(0.001)
    assert types_of(await asking)[-1] == "response.completed"
    assert clock.monotonic_s() >= 1000 + 3.0


async def test_the_scripted_agent_answers_by_the_tool_outputs(peer: Peer) -> None:
    """Two commands with reasoning, then text; each turn is told by the outputs after the user's message."""
    history: list[dict[str, object]] = []
    names: list[list[str]] = []
    for _ in range(3):
        output = output_of(await peer.ask("sim:edit-file a.txt", *history))
        names.append([item["type"] for item in output])
        history += output
        history += [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
            for item in output
            if item["type"] == "function_call"
        ]
    assert names == [["reasoning", "function_call"], ["reasoning", "function_call"], ["reasoning", "message"]]
    following = {"type": "message", "role": "user", "content": "thanks"}
    assert [item["type"] for item in output_of(await peer.ask("x", *history, following))] == ["message"]
