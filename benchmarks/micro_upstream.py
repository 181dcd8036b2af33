"""What one request and one event cost in the upstream package alone: CPU of this process, per operation.

    python benchmarks/micro_upstream.py [--seconds 1.0] [--loop uvloop|asyncio]

A child process plays the backend (keep-alive, chunked, prepared bytes). Compare figures of one run only: the speed of
a shared host drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import uvloop

from ops.clock import SystemClock
from store.records import Account, Credential, Secret
from upstream.client import CodexClient
from upstream.dial import Dialer, tls_context
from upstream.httpx_transport import PoolTransport
from upstream.pool import ConnectionPool
from upstream.sse import find_terminal
from upstream.types import ClientSettings, Identity, UpstreamRequest

DELTA = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1","output_index":0,'
    b'"content_index":0,"delta":"Hello there","logprobs":[],"sequence_number":4}\n\n'
)
DONE = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1","usage":'
    b'{"input_tokens":100,"output_tokens":5,"total_tokens":105}},"sequence_number":9}\n\n'
)
HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: mock\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-codex-primary-used-percent: 42\r\nx-request-id: abc\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _answer(events: int) -> bytes:
    body = [DELTA] * (events - 1) + [DONE]
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in body) + b"0\r\n\r\n"


class _Backend(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.head = b""
        self.left = 0
        self.answers = {n: _answer(n) for n in (3, 52, 20_000)}

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = int(self.head[:end].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.left = length - (len(self.head) - end - 4)
            self.events = int(self.head.split(b"/", 3)[1].decode() or 3)
            self.head = b""
        else:
            self.left -= len(data)
        if self.left == 0:
            self.transport.write(self.answers[self.events])


def _serve(pipe: Pipe) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Backend, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


async def _one(client: CodexClient, request: UpstreamRequest, account: Account, credential: Credential) -> int:
    response = await client.send(request, account, credential)
    blocks = 0
    while block := await response.next_block(15.0):
        blocks += 1
        if find_terminal(block) is not None:
            response.expect_end()
    response.close()
    return blocks


async def _cost(name: str, seconds: float, per: int, run: Callable[[], Awaitable[object]], width: int) -> None:
    async def worker(until: float) -> int:
        count = 0
        while time.monotonic() < until:
            await run()
            count += 1
        return count

    await run()
    results = []
    for _ in range(5):
        cpu, until = time.process_time(), time.monotonic() + seconds / 5
        counts = await asyncio.gather(*(worker(until) for _ in range(width)))
        results.append((time.process_time() - cpu) / sum(counts) / per * 1e6)
    results.sort()
    print(f"{name:58s} {results[2]:9.2f} us  [{results[0]:.2f}-{results[-1]:.2f}]", flush=True)


async def _main(port: int, seconds: float) -> None:
    clock = SystemClock()
    pool = ConnectionPool(Dialer(tls_context()), clock)
    account = Account(id="a", chatgpt_account_id="acct-1", label="a")
    credential = Credential("a", Secret("ey" + "x" * 1500), None, None, 0.0, 0.0)
    async with httpx.AsyncClient(transport=PoolTransport(pool), trust_env=False) as http:

        def client(events: int) -> CodexClient:
            base = f"http://127.0.0.1:{port}/{events}/codex"
            return CodexClient(ClientSettings(base, base, Identity("codex_cli_rs", "ua/1", "1")), pool, http, clock)

        def call(events: int, size: int) -> Callable[[], Awaitable[object]]:
            request = UpstreamRequest([b'{"input":"', b"x" * size, b'"}'], [(b"session-id", b"s" * 36)], False, "req_1")
            made = client(events)
            return lambda: _one(made, request, account, credential)

        for width in (1, 32, 64):
            await _cost(f"request: 5 KB body, 3 events, {width} at once", seconds, 1, call(3, 5000), width)
        await _cost("request: 200 KB body, 3 events, 8 at once", seconds, 1, call(3, 200_000), 8)
        await _cost("request: 2 MB body, 3 events, 4 at once", seconds, 1, call(3, 2_000_000), 4)
        await _cost("request: 5 KB body, 52 events in a burst, 32 at once", seconds, 1, call(52, 5000), 32)
        await _cost("event: 20,000 in a burst, 1 stream", seconds, 20_000, call(20_000, 5000), 1)
        await _cost("event: 20,000 in a burst, 8 streams", seconds, 20_000, call(20_000, 5000), 8)
        print(pool.stats)
    await pool.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="per line")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    backend = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    backend.start()
    try:
        port = ours.recv()
        if options.loop == "uvloop":
            uvloop.run(_main(port, options.seconds))
        else:
            asyncio.run(_main(port, options.seconds))
    finally:
        backend.terminate()


if __name__ == "__main__":
    main()
