"""What is held before the commit, for how long, and that a failure in it is still replaceable."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.handshake import HANDSHAKE_TYPES, Handshake
from tests.fakes.backend import CREATED, DELTA, FakeResponse, event
from tests.fakes.clock import FakeClock
from upstream.classify import classify_event
from upstream.errors import FaultKind, UpstreamError
from upstream.sse import split_events

IN_PROGRESS = event("response.in_progress", sequence_number=1)
OVERLOADED = event("response.failed", response='{"error":{"code":"server_is_overloaded","message":"busy"}}')
ODD_FAILURE = event("response.failed", response='{"error":{"code":"something_new","message":"?"}}')
PING = b": ping\n\n"


def handshake(hold_s: float = 0.1, clock: FakeClock | None = None) -> Handshake:
    return Handshake(hold_s, clock or FakeClock())


async def test_a_content_event_commits_at_once() -> None:
    answer = FakeResponse(CREATED + DELTA, DELTA)
    assert await handshake().hold(answer.real()) == CREATED + DELTA
    assert len(answer.steps) == 1, "nothing more was read"


async def test_handshake_events_are_held_until_one_that_is_none() -> None:
    answer = FakeResponse(CREATED, IN_PROGRESS, DELTA, DELTA)
    assert await handshake().hold(answer.real()) == CREATED + IN_PROGRESS + DELTA
    assert len(answer.steps) == 1


async def test_with_no_holding_the_first_event_commits() -> None:
    answer = FakeResponse(CREATED, OVERLOADED)
    assert await handshake(0.0).hold(answer.real()) == CREATED
    assert answer.waits == [None]


async def test_with_no_holding_a_failure_in_the_first_block_is_replaceable_all_the_same() -> None:
    with pytest.raises(UpstreamError):
        await handshake(0.0).hold(FakeResponse(CREATED + OVERLOADED).real())


async def test_the_wait_runs_from_the_first_event_and_its_rest_is_what_is_waited_for() -> None:
    clock = FakeClock()

    class Slow(FakeResponse):
        async def next_block(self, wait_s: float | None = None) -> bytes | None:
            block = await super().next_block(wait_s)
            clock.advance(0.04)
            return block

    answer = Slow(*[CREATED] * 10)
    assert await handshake(0.1, clock).hold(answer.real()) == CREATED * 4
    assert answer.waits[0] is None, "the first event has a deadline of its own"
    assert [round(wait, 3) for wait in answer.waits[1:] if wait is not None] == [0.1, 0.06, 0.02]


async def test_silence_behind_the_first_event_commits_what_is_held() -> None:
    assert await handshake().hold(FakeResponse(CREATED, None, OVERLOADED).real()) == CREATED


@pytest.mark.parametrize("before", [(), (CREATED,), (CREATED, IN_PROGRESS)])
async def test_a_failure_that_another_account_can_mend_is_raised(before: tuple[bytes, ...]) -> None:
    with pytest.raises(UpstreamError) as caught:
        await handshake().hold(FakeResponse(*before, OVERLOADED).real())
    assert caught.value.kind is FaultKind.OVERLOADED


async def test_a_failure_that_is_the_clients_business_goes_down() -> None:
    assert await handshake().hold(FakeResponse(CREATED, ODD_FAILURE).real()) == CREATED + ODD_FAILURE


@pytest.mark.parametrize("before", [(), (CREATED,)])
async def test_an_end_before_the_commit_is_a_truncation(before: tuple[bytes, ...]) -> None:
    with pytest.raises(UpstreamError) as caught:
        await handshake().hold(FakeResponse(*before).real())
    assert caught.value.kind is FaultKind.TRUNCATED


async def test_a_comment_promises_nothing() -> None:
    with pytest.raises(UpstreamError):
        await handshake().hold(FakeResponse(CREATED, PING, OVERLOADED).real())
    assert await handshake().hold(FakeResponse(PING + CREATED, DELTA).real()) == PING + CREATED + DELTA


async def test_a_cancellation_while_holding_passes_through() -> None:
    answer = FakeResponse(CREATED, asyncio.Event())
    task = asyncio.create_task(handshake().hold(answer.real()))
    await answer.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# the short look at plain events says what the long one says

KINDS = st.sampled_from(
    [
        *sorted(HANDSHAKE_TYPES),
        "response.output_text.delta",
        "response.failed",
        "error",
        "response.completed",
        "ping",
        "",
    ]
)
CODES = st.sampled_from(["server_is_overloaded", "usage_limit_reached", "something_new"])


@st.composite
def events(draw: st.DrawFn) -> bytes:
    kind, name, code, other = draw(KINDS), draw(KINDS), draw(CODES), draw(KINDS)
    inner = f'"error":{{"code":"{code}","message":"m"}}'
    error = f'"response":{{{inner}}},{inner}'
    data = draw(
        st.sampled_from(
            [
                f'data: {{"type":"{kind}",{error}}}',
                f'data:{{"type":"{kind}",{error}}}',
                f'data:  {{"type":"{kind}",{error}}}',
                f'data: {{"type": "{kind}",{error}}}',
                f'data: {{{error},"type":"{kind}"}}',
                f"data: {{{error}}}",
                f'data: {{"type":"{kind}",\ndata: {error}}}',
                f'data: {{"x":\ndata: {{"type":"{other}"}},"type":"{kind}",{error}}}',
                f'data: {{"x":"\\ndata: {{\\"type\\":\\"{other}\\"","type":"{kind}",{error}}}',
                "data: [DONE]",
                "data",
                ": comment",
            ]
        )
    )
    lead = draw(
        st.sampled_from(["", f"event: {name}\n", f"event:{name}\n", ": c\n", "id: 1\n", f"event: {name}\nid: 1\n"])
    )
    text = f"{lead}{data}\n\n"
    return text.replace("\n", draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))).encode()


def slowly(block: bytes, clock: FakeClock) -> bool | FaultKind:
    """The rule, event by event."""
    for one in split_events(block):
        if not one.data:
            continue
        if one.type in ("response.failed", "error"):
            error = classify_event(one.type, one.data, clock.now_s())
            return True if error is None else error.kind
        if one.type not in HANDSHAKE_TYPES:
            return True
    return False


@given(st.lists(events(), min_size=1, max_size=4))
async def test_the_short_look_and_the_long_look_agree_on_every_form_of_event(blocks: list[bytes]) -> None:
    clock = FakeClock()
    block = b"".join(blocks)
    answer = FakeResponse(block, None)
    try:
        assert await handshake(0.1, clock).hold(answer.real()) == block
        found: bool | FaultKind = len(answer.waits) == 1
    except UpstreamError as error:
        found = error.kind
    assert found == slowly(block, clock)
