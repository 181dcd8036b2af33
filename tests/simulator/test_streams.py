"""The shape of the streams, and each way in which one goes wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.simulator.conftest import Peer, asked, events_of, output_of, text_of, types_of


async def read_until_broken(peer: Peer, prompt: str) -> tuple[str, type[Exception] | None]:
    """What arrived, and how it ended."""
    text = ""
    request = ("POST", peer.sim.base_url + "/responses")
    try:
        async with peer.http.stream(*request, json=asked(prompt), headers=peer.headers) as answer:
            async for chunk in answer.aiter_text():
                text += chunk
    except httpx.HTTPError as error:
        return text, type(error)
    return text, None


async def test_a_text_stream_has_every_event_in_order_and_numbered(peer: Peer) -> None:
    events = events_of(await peer.ask("sim:events=2"))
    public = [event for event in events if event["type"] != "codex.rate_limits"]
    assert [event["type"].removeprefix("response.") for event in public] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in public] == list(range(len(public)))
    done = public[-1]["response"]
    assert done["output"] == [public[-2]["item"]]
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


async def test_the_response_echoes_what_was_asked_for(peer: Peer) -> None:
    tools = [{"type": "function", "name": "t", "parameters": {}, "strict": False}]
    members: dict[str, Any] = {"tools": tools, "tool_choice": "required", "parallel_tool_calls": False}
    answer = await peer.ask("hi", instructions="Be brief.", reasoning={"effort": "high"}, **members)
    response = events_of(answer)[-1]["response"]
    assert {name: response[name] for name in members} == members
    assert response["instructions"] == "Be brief."
    assert response["reasoning"]["effort"] == "high"
    assert response["store"] is False


async def test_text_and_echo_and_padding(peer: Peer) -> None:
    assert text_of(await peer.ask('sim:text="Grüße, 你好",events=3')) == "Grüße, 你好"
    assert "repeat me" in text_of(await peer.ask("repeat me sim:echo"))
    assert len(text_of(await peer.ask("sim:events=1,pad=100000"))) == 100_000 + len("The ")


async def test_a_function_call_is_streamed_in_pieces(peer: Peer) -> None:
    answer = await peer.ask('sim:tool=exec_command cmd="echo hi"')
    (call,) = output_of(answer)
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "exec_command", '{"cmd": "echo hi"}')
    deltas = [e["delta"] for e in events_of(answer) if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call["arguments"]
    assert len(deltas) == 2


async def test_a_custom_tool_call_carries_raw_input(peer: Peer) -> None:
    answer = await peer.ask(r'sim:custom=apply_patch input="*** Begin Patch\n*** End Patch"')
    (call,) = output_of(answer)
    assert (call["type"], call["input"]) == ("custom_tool_call", "*** Begin Patch\n*** End Patch")
    assert "response.custom_tool_call_input.done" in types_of(answer)


async def test_reasoning_is_sealed_only_when_asked_for(peer: Peer) -> None:
    with_seal = output_of(await peer.ask("sim:reasoning"))
    without = output_of(await peer.ask("sim:reasoning", include=[]))
    assert [item["type"] for item in with_seal] == ["reasoning", "message"]
    assert with_seal[0]["encrypted_content"].startswith("gAAAA")
    assert without[0]["encrypted_content"] is None
    assert with_seal[0]["summary"][0]["type"] == "summary_text"


async def test_usage_can_be_dictated(peer: Peer) -> None:
    prompt = "sim:input_tokens=900,cached_tokens=100,output_tokens=50,reasoning_tokens=7"
    usage = events_of(await peer.ask(prompt))[-1]["response"]["usage"]
    assert usage == {
        "input_tokens": 900,
        "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 950,
    }


async def test_completed_may_come_without_its_output(peer: Peer) -> None:
    answer = await peer.ask("sim:no_output")
    assert events_of(answer)[-1]["response"]["output"] == []
    assert len(output_of(answer)) == 1


@pytest.mark.parametrize("at", [0, 2, 99])
async def test_a_failure_in_the_stream_comes_after_so_many_deltas(peer: Peer, at: int) -> None:
    """0 is right after ``response.created``; more than there are is right before the end."""
    answer = await peer.ask(f"sim:fail=rate_limit_exceeded,message=Slowly,at={at},events=4,resets_in_s=60")
    kinds = types_of(answer)
    assert answer.status_code == 200
    assert kinds[-1] == "response.failed"
    assert kinds.count("response.output_text.delta") == min(at, 4)
    assert len(kinds) == 2 or at > 0
    error = events_of(answer)[-1]["response"]["error"]
    assert (error["code"], error["message"], error["resets_in_seconds"]) == ("rate_limit_exceeded", "Slowly", 60)


async def test_bare_and_nested_error_events(peer: Peer) -> None:
    flat = events_of(await peer.ask("sim:error=server_error,at=1"))[-1]
    assert (flat["type"], flat["code"]) == ("error", "server_error")
    nested = events_of(await peer.ask("sim:error=server_error,nested"))[-1]
    assert nested["error"]["code"] == "server_error"


async def test_an_incomplete_response_says_why_and_keeps_its_output(peer: Peer) -> None:
    last = events_of(await peer.ask("sim:incomplete=max_output_tokens,at=99"))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("cut", "ending"),
    [("fin", httpx.RemoteProtocolError), ("mid", httpx.RemoteProtocolError), ("rst", httpx.ReadError), ("eof", None)],
)
async def test_a_cut_stream_ends_without_completed(peer: Peer, cut: str, ending: type[Exception] | None) -> None:
    text, error = await read_until_broken(peer, f"sim:cut={cut},at=2")
    assert error is ending
    assert "response.completed" not in text
    if cut != "rst":  # a reset may take bytes along
        assert text.count("event: response.output_text.delta") == (3 if cut == "mid" else 2)
    assert text.endswith("\n\n") is (cut in {"fin", "eof"}) or cut == "rst"
    assert peer.counts()["aborts"] == 0


@pytest.mark.parametrize(("cut", "ending"), [("fin", httpx.RemoteProtocolError), ("rst", httpx.ReadError)])
async def test_a_connection_can_die_before_the_headers(peer: Peer, cut: str, ending: type[Exception]) -> None:
    with pytest.raises(ending):
        await peer.ask(f"sim:cut={cut},at=-1")


async def test_nothing_at_all_until_the_client_gives_up(peer: Peer) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await peer.http.post(
            peer.sim.base_url + "/responses",
            json=asked("sim:hang=headers"),
            headers=peer.headers,
            timeout=0.1,
        )
    await peer.state.until(lambda: peer.counts()["aborts"] == 1)
