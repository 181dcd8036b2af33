"""Request bodies of the benchmarks: what a coding agent sends, in three sizes.

The text ``mock:EVENTS:DELAY_MS:EVENTS_PER_FLUSH`` in the instructions tells the mock upstream which stream to play. The
same arguments give the same bytes: text and "images" come from a seeded generator.
"""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

SIZES = {"5k": 5_000, "200k": 200_000, "2m": 2_000_000}
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dogs",
    "while",
    "tools",
    "call",
    "functions",
    "and",
    "return",
    '"quoted"',
    "output\n",
]


def body(size: str, stream: str) -> bytes:
    """A /v1/responses body of about ``size``; ``stream`` is ``EVENTS:DELAY_MS:EVENTS_PER_FLUSH``."""
    rng = random.Random(7)
    made: dict[str, Any] = {
        "model": "gpt-5.1-codex",
        "instructions": f"mock:{stream} you are a coding agent. {_text(rng, 800)}",
        "stream": True,
        "store": False,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "reasoning": {"effort": "medium", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "11111111-2222-3333-4444-555555555555",
        "tools": [_tool(rng, number) for number in range(4)],
        "input": [],
    }
    if size == "2m":
        made["input"] += [_picture(rng) for _ in range(2)]
    left = SIZES[size] - len(json.dumps(made))
    number = 0
    while left > 0:
        number += 1
        item = _item(rng, number)
        made["input"].append(item)
        left -= len(json.dumps(item)) + 2
    return json.dumps(made).encode()


def write(folder: Path, size: str, stream: str) -> Path:
    """The body as a file; made once per folder."""
    path = folder / f"{size}-{stream.replace(':', '_')}.json"
    if not path.exists():
        path.write_bytes(body(size, stream))
    return path


def _text(rng: random.Random, length: int) -> str:
    out: list[str] = []
    so_far = 0
    while so_far < length:
        word = rng.choice(WORDS)
        out.append(word)
        so_far += len(word) + 1
    return " ".join(out)[:length]


def _tool(rng: random.Random, number: int) -> dict[str, Any]:
    fields = {"path": {"type": "string"}, "limit": {"type": "number"}}
    parameters = {"type": "object", "properties": fields, "required": ["path"]}
    name = f"tool_{number}"
    return {
        "type": "function",
        "name": name,
        "description": _text(rng, 150),
        "strict": False,
        "parameters": parameters,
    }


def _item(rng: random.Random, number: int) -> dict[str, Any]:
    if number % 2:
        return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": _text(rng, 600)}]}
    return {"type": "function_call_output", "call_id": f"call_{number}", "output": _text(rng, 900)}


def _picture(rng: random.Random) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(rng.randbytes(740_000)).decode()
    text = {"type": "input_text", "text": _text(rng, 300)}
    return {"type": "message", "role": "user", "content": [text, {"type": "input_image", "image_url": url}]}
