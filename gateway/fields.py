"""The top-level members of a Responses request: which go up, which do not, and what type each must have. Pure.

Tables first; the functions below only read them. The lists of what the backend refuses come from its public
refusals ("Unsupported parameter: ...") as peers report them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Raw

from gateway import items as it
from gateway.errors import GatewayError

Decoder = msgspec.json.Decoder[Any]

STRING: Final[Decoder] = msgspec.json.Decoder(str)
STRINGS: Final[Decoder] = msgspec.json.Decoder(list[str])
MEMBERS: Final[Decoder] = msgspec.json.Decoder(dict[str, Raw])
_OBJECTS: Final[Decoder] = msgspec.json.Decoder(list[dict[str, Raw]])
_BOOL: Final[Decoder] = msgspec.json.Decoder(bool)
_INT: Final[Decoder] = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=2**53)])
_NUMBER: Final[Decoder] = msgspec.json.Decoder(float)
_TEXTS: Final[Decoder] = msgspec.json.Decoder(dict[str, str])

TYPES: Final[dict[str, Decoder]] = {
    "background": _BOOL,
    "frequency_penalty": _NUMBER,
    "instructions": STRING,
    "max_output_tokens": _INT,
    "max_tool_calls": _INT,
    "metadata": _TEXTS,
    "parallel_tool_calls": _BOOL,
    "presence_penalty": _NUMBER,
    "prompt_cache_key": STRING,
    "reasoning": MEMBERS,
    "safety_identifier": STRING,
    "service_tier": STRING,
    "store": _BOOL,
    "temperature": _NUMBER,
    "text": MEMBERS,
    "tools": _OBJECTS,
    "top_logprobs": _INT,
    "top_p": _NUMBER,
    "truncation": msgspec.json.Decoder(Literal["auto", "disabled"]),
    "user": STRING,
}
"""Members whose type is checked; the same decoders give the values that a Response object repeats."""

_LEADS: Final = {STRING: b'"', MEMBERS: b"{"}
"""How every value begins that these decoders take, and no other."""
PASSED: Final = frozenset(
    {
        "instructions", "max_tool_calls", "parallel_tool_calls", "prompt_cache_key", "text", "top_logprobs",
        "include", "service_tier", "tools", "tool_choice",
    }
)  # fmt: skip
DROPPED: Final = frozenset(
    {
        "frequency_penalty", "generate", "max_completion_tokens", "max_output_tokens", "max_tokens", "metadata",
        "presence_penalty", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "stream_options",
        "temperature", "top_p", "truncation", "user",
    }
)  # fmt: skip
HARMLESS: Final[dict[str, tuple[bytes, ...]]] = {"truncation": (b'"disabled"',), "metadata": (b"{}",)}
"""Values that mean the same as nothing: dropped without a word."""
OWN: Final = frozenset({"background", "previous_response_id"})
"""Members that mean nothing once they have passed ``refuse_stored_state``."""
INCLUDES: Final = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
    }
)
REFUSED_TOOLS: Final = frozenset(
    {"file_search", "code_interpreter", "computer", "computer_use", "computer_use_preview"}
)
ECHOED: Final = (
    "frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls",
    "presence_penalty", "prompt_cache_key", "reasoning", "safety_identifier", "service_tier", "temperature", "text",
    "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
)  # fmt: skip
ITEM_REASONS: Final = {
    it.SYSTEM: "the backend takes no system messages: use the role developer or instructions",
    it.ID: "the id was not made by the backend",
    it.STRAY: "the item has members of chat messages",
    it.SHELL: "a reasoning item without encrypted_content names something stored, and nothing is stored",
}
_STORED: Final = {
    "previous_response_id": "Nothing is stored, so there is no previous response: send the whole conversation in input",
    "conversation": "Nothing is stored, so there is no conversation: send it in input",
    "prompt": "Nothing is stored, so there is no prompt template: send instructions and input",
}
_KEYS: Final = {name: b',"%s":' % name.encode() for name in (PASSED | {"reasoning"})}


def key(name: str) -> bytes:
    """``,"name":`` as JSON text."""
    known = _KEYS.get(name)
    return known if known is not None else b"," + msgspec.json.encode(name) + b":"


def absent(raw: Raw | None) -> bool:
    """Whether a member is missing or null, which mean the same."""
    return raw is None or bytes(memoryview(raw)[:1]) == b"n"


def drop_nulls(fields: dict[str, Raw]) -> None:
    for name in [name for name, raw in fields.items() if raw == _NULL]:
        del fields[name]


_NULL: Final = Raw(b"null")
_FALSE: Final = Raw(b"false")
_TRUE: Final = Raw(b"true")


def decode(name: str, raw: Raw, decoder: Decoder) -> Any:
    """The value. Raises GatewayError that names the field when it has another type."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        what = str(error).partition(" - at `$")[0] if isinstance(error, msgspec.ValidationError) else "a bad value"
        raise GatewayError.invalid(f"{name} is not acceptable: {what}.", name) from None


def check(name: str, raw: Raw) -> None:
    """Raises GatewayError when the member has a known type and the value is of another."""
    decoder = TYPES.get(name)
    if decoder is not None and not _is_plainly(raw, decoder):
        decode(name, raw, decoder)


def _is_plainly(raw: Raw, decoder: Decoder) -> bool:
    """Whether the first byte settles it: the gate has parsed the value already, only escapes were not looked into."""
    lead = _LEADS.get(decoder)
    return lead is not None and (value := bytes(raw)).startswith(lead) and value.find(b"\\") < 0


def flag(raw: Raw | None, name: str) -> bool:
    """A boolean that is False when absent."""
    if raw is None or raw == _FALSE:
        return False
    return raw == _TRUE or bool(decode(name, raw, _BOOL))


def object_bytes(name: str, raw: Raw) -> bytes:
    decode(name, raw, MEMBERS)
    return bytes(raw)


def refuse_stored_state(fields: dict[str, Raw]) -> None:
    """Raises GatewayError for what would need stored state, which no mode can give."""
    for name, why in _STORED.items():
        if name in fields:
            raise GatewayError.invalid(f"{why}.", name)
    if flag(fields.get("background"), "background"):
        raise GatewayError.invalid("Nothing runs in the background here: send the call without it.", "background")


def echo_of(fields: dict[str, Raw]) -> dict[str, object]:
    """What the Response object repeats of the request, by name; large values stay raw one level down.

    The values own their bytes, so that the body itself can go.
    """
    echo: dict[str, object] = {}
    for name in ECHOED:
        raw = fields.get(name)
        if raw is None:
            continue
        own = Raw(bytes(raw))
        decoder = TYPES.get(name)
        echo[name] = own if decoder is None else decode(name, own, decoder)
    return echo


class _Tool(msgspec.Struct):
    type: str = ""


_TOOL: Final[Decoder] = msgspec.json.Decoder(_Tool)
_TOOLS: Final[Decoder] = msgspec.json.Decoder(list[_Tool])


def backend_tools(raw: Raw) -> bytes | None:
    """The tools with the backend's names, or None when they are right already.

    Raises GatewayError that names the tool which the backend does not offer.
    """
    kinds = [tool.type for tool in decode("tools", raw, _TOOLS)]
    for index, kind in enumerate(kinds):
        if kind in REFUSED_TOOLS:
            raise GatewayError.invalid(
                f"The tool {kind} is not offered by the backend: leave it out.", f"tools[{index}].type"
            )
    changed = [index for index, kind in enumerate(kinds) if kind.startswith("web_search_preview")]
    if not changed:
        return None
    tools = decode("tools", raw, _OBJECTS)
    for index in changed:
        tools[index]["type"] = "web_search"
    return msgspec.json.encode(tools)


def backend_tool_choice(raw: Raw) -> bytes | None:
    """The same for ``tool_choice``."""
    if bytes(memoryview(raw)[:1]) == b'"':
        return None
    if not decode("tool_choice", raw, _TOOL).type.startswith("web_search_preview"):
        return None
    choice = decode("tool_choice", raw, MEMBERS)
    choice["type"] = "web_search"
    return msgspec.json.encode(choice)
