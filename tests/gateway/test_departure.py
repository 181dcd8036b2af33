"""A client that leaves stops what is done for it at once; everything else is left alone. Both ways of watching."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.departure import CONNECTION_KEY, ClientGone, Departure

Way = Callable[[], "Client"]


class Client:
    """The client of one request, watched by receive."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.scope: dict[str, Any] = {}

    async def receive(self) -> dict[str, Any]:
        return await self.messages.get()

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    def departure(self) -> Departure:
        return Departure(self.scope, self.receive)


class Connected(Client):
    """The same, but its connection tells."""

    def __init__(self) -> None:
        super().__init__()
        self.scope[CONNECTION_KEY] = self
        self.departed = False
        self.on_departure: Callable[[], None] | None = None

    async def receive(self) -> dict[str, Any]:
        raise AssertionError("the connection tells; nobody reads")

    def leave(self) -> None:
        self.departed = True
        told, self.on_departure = self.on_departure, None
        if told is not None:
            told()


@pytest.fixture(params=[Client, Connected])
def client(request: pytest.FixtureRequest) -> Client:
    made = request.param()
    assert isinstance(made, Client)
    return made


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("awaits", [0, 1, 7])
async def test_the_block_is_left_at_whatever_await_it_is(client: Client, awaits: int) -> None:
    gates = [asyncio.Event() for _ in range(9)]
    reached: list[int] = []
    cleaned: list[bool] = []

    async def work() -> None:
        with client.departure() as departure:
            try:
                for number, gate in enumerate(gates):
                    reached.append(number)
                    await gate.wait()
            finally:
                cleaned.append(departure.gone)

    task = asyncio.create_task(work())
    for number in range(awaits):
        gates[number].set()
        await turns()
    await turns()
    client.leave()
    with pytest.raises(ClientGone):
        await task
    assert reached[-1] == awaits
    assert cleaned == [True]
    assert task.cancelling() == 0, "the cancellation was ours and has been taken back"
    assert_nothing_is_left(client)


async def test_the_caller_goes_on_after_a_departure(client: Client) -> None:
    async def work() -> str:
        try:
            with client.departure():
                await asyncio.Event().wait()
        except ClientGone:
            await asyncio.sleep(0)
            return "tidied up"
        return "unreachable"

    task = asyncio.create_task(work())
    await turns()
    client.leave()
    assert await task == "tidied up"


async def test_a_cancellation_from_elsewhere_passes_through_as_it_is(client: Client) -> None:
    async def work() -> None:
        with client.departure() as departure:
            try:
                await asyncio.Event().wait()
            finally:
                assert not departure.gone

    task = asyncio.create_task(work())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert_nothing_is_left(client)


async def test_a_client_that_stays_costs_nothing_and_leaves_nothing(client: Client) -> None:
    with client.departure() as departure:
        await turns()
    assert not departure.gone
    await turns()
    assert_nothing_is_left(client)
    client.leave()
    await turns()  # nobody is cancelled by a departure after the end


async def test_errors_of_the_block_pass_through(client: Client) -> None:
    with pytest.raises(ValueError, match="mine"), client.departure():
        raise ValueError("mine")
    await turns()
    assert_nothing_is_left(client)


async def test_a_client_that_left_before_is_noticed_before_anything_is_done(client: Client) -> None:
    client.leave()
    done: list[int] = []

    async def work() -> None:
        with client.departure():
            await turns()
            done.append(1)

    with pytest.raises(ClientGone):
        await work()
    assert done == []
    await turns()
    assert_nothing_is_left(client)


async def test_the_rest_of_a_body_is_thrown_away_while_watching() -> None:
    client = Client()
    for _ in range(3):
        client.messages.put_nowait({"type": "http.request", "body": b"x", "more_body": True})
    with client.departure() as departure:
        await turns()
        assert client.messages.empty()
    assert not departure.gone


def assert_nothing_is_left(client: Client) -> None:
    if isinstance(client, Connected):
        assert client.on_departure is None
    others = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert all(task.cancelling() or task.done() for task in others)
