"""What the front costs before an account is chosen: guard, JSON gate, adaptation, the body for one account.

Run: ``python -m benchmarks.micro_front``. Prints microseconds of CPU per request, the best of seven rounds.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from functools import partial

import zstandard

from benchmarks.bodies import body
from gateway.adapt import Mode, Terms, adapt, with_installation, without_foreign_reasoning
from gateway.decode import decode_body
from gateway.departure import Receive
from gateway.guard import Guard, Scope, Send
from gateway.jsongate import parse_object
from gateway.models import ModelTable
from gateway.parse import owner_digest

ROUNDS = 7
NUMBER = {"5k": 3000, "200k": 300, "2m": 30}
TERMS = Terms(ModelTable(), frozenset({"gpt-5.1-codex"}), Mode.RELAXED)
INSTALLATION = "11111111-2222-3333-4444-555555555555"


def best_us(act: Callable[[], object], number: int) -> float:
    return min(timeit.repeat(act, number=number, repeat=ROUNDS, timer=time.process_time)) / number * 1e6


def front(data: bytes, codex: bool) -> object:
    adapted = adapt(parse_object(data), TERMS, codex, partial(owner_digest, "tenant"))
    return with_installation(adapted, INSTALLATION, codex)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers nothing."""


def guard_us() -> float:
    fields = [
        (b"host", b"127.0.0.1:8080"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"authorization", b"Bearer at-cr-" + b"x" * 60),
        (b"connection", b"keep-alive"),
        (b"content-length", b"5000"),
        (b"content-type", b"application/json"),
        (b"user-agent", b"OpenAI/Python 3.51.0"),
        *((b"x-stainless-%d" % number, b"value") for number in range(8)),
    ]
    scope = {"http_version": "1.1", "method": "POST", "raw_path": b"/v1/responses", "query_string": b""}
    guard = Guard(nothing, max_headers=100, max_header_bytes=32_768, max_body_bytes=64 << 20)
    return best_us(lambda: guard.fault(scope | {"headers": fields}), 5000)


def main() -> None:
    print(f"guard, 16 fields: {guard_us():.1f} us")
    for size, number in NUMBER.items():
        data = body(size, "3:0:1")
        text = data.decode().replace("quick", "schn\u00e9ll").encode()
        packed = zstandard.compress(data)
        sealed = data.replace(b'"input": [', b'"input": [{"type":"reasoning","encrypted_content":"gAAAA"},', 1)
        adapted = adapt(parse_object(sealed), TERMS, True, lambda value: value)
        figures = {
            "gate": best_us(lambda d=data: parse_object(d), number),
            "gate, not ASCII": best_us(lambda d=text: parse_object(d), number),
            "gate+adapt+body, SDK": best_us(lambda d=data: front(d, False), number),
            "gate+adapt+body, Codex": best_us(lambda d=data: front(d, True), number),
            "unpack zstd": best_us(lambda d=packed: decode_body(d, [b"zstd"], 64 << 20), number),
            "drop foreign reasoning": best_us(lambda a=adapted: without_foreign_reasoning(a, {b"gAAAA"}), number),
        }
        print(f"{size} ({len(data):,} bytes)")
        for name, value in figures.items():
            print(f"  {name:24} {value:9.1f} us")


if __name__ == "__main__":
    main()
