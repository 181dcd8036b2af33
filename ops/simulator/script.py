"""How the simulated backend is told what to do: one small language for prompts, scripts, modes and defaults.

Directives stand in a prompt as ``sim:KEY[=VALUE][,KEY[=VALUE]...]``; a script line is the same without ``sim:``.
A value with blanks or commas is a JSON string in quotes: ``sim:text="Hello, you"``. Layers, the later wins: the
configuration, the account's mode, its script, the ``instructions``, the last user message.

====================  =========================================================================================
``events=N``          N text deltas (default 8)
``delay_ms=N``        pause before each delta; ``first_ms``: after the headers; ``ttfb_ms``: before the headers
``text=T`` ``echo``   exactly this text; the prompt itself
``pad=N``             each delta carries N more bytes
``reasoning``         a reasoning item with a summary goes first; its ``encrypted_content`` is sealed, and there
                      only when ``include`` asks for it
``tool=NAME``         a function call; the ``key=value`` words after it are its arguments (``json="{...}"`` gives
                      them whole). Each further ``tool=`` is one more turn: turn k follows k tool outputs; after
                      the last one comes text
``custom=NAME``       the same as a custom tool call; its argument is ``input=``
``edit-file=NAME``    the scripted agent: writes NAME with ``exec_command``, reads it back, reports (also
                      ``sim:edit-file NAME``); every turn reasons, so ownership of sealed content is exercised
``http=NAME|STATUS``  answer that failure instead of a stream (``ops.simulator.failures``); ``resets_in_s``,
                      ``retry_after_s``, ``message``, ``location`` refine it
``fail=CODE``         ``response.failed`` after ``at=N`` deltas (0: right after ``response.created``)
``error=CODE``        a bare ``error`` event there instead; ``nested`` puts it under ``error``
``incomplete=REASON`` ``response.incomplete``
``cut=HOW``           end there: ``fin`` (truncated body), ``rst``, ``mid`` (inside an event), ``eof`` (clean end);
                      with ``at=-1`` the connection is dropped before the headers
``hang``              say nothing more from there on; ``hang=headers``: not even headers
``gate=NAME``         wait there until the gate is opened, then go on; ``gate=NAME,at=-1``: before the headers
``input_tokens=N``    reported usage; also ``output_tokens``, ``reasoning_tokens``, ``cached_tokens``
``no_output``         ``response.completed`` with an empty ``output``
``noise``             private and unknown events, comments and keep-alives in between
``no_turn_state`` ``no_limits``   leave the header or the rate-limit headers and event out
``model=NAME``        the model that answers (``openai-model``)
====================  =========================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

_VALUE = r'"(?:[^"\\]|\\.)*"'
_DIRECTIVES = re.compile(rf"(?<!\w)sim:((?:{_VALUE}|[^\s\"])+)")
_PAIR = re.compile(rf"([a-z_-]+)(?:=({_VALUE}|[^\s,]*))?(?:,|$)")
_ARGUMENT = re.compile(rf"\s+([A-Za-z_]\w*)=({_VALUE}|[^\s]+)")
_WORD = re.compile(r"\s+([\w./-]+)")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model makes; ``arguments`` is a JSON object, or the raw input of a custom tool."""

    name: str
    arguments: str
    custom: bool = False
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one answer does. Field names are the directives."""

    events: int = 8
    delay_ms: float = 0
    first_ms: float = 0
    ttfb_ms: float = 0
    text: str | None = None
    echo: bool = False
    pad: int = 0
    reasoning: bool = False
    tools: tuple[ToolCall, ...] = ()
    http: str | None = None
    resets_in_s: int | None = None
    retry_after_s: int | None = None
    message: str | None = None
    location: str | None = None
    fail: str | None = None
    error: str | None = None
    nested: bool = False
    incomplete: str | None = None
    cut: str | None = None
    hang: str | None = None
    gate: str | None = None
    at: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    no_output: bool = False
    noise: bool = False
    no_turn_state: bool = False
    no_limits: bool = False
    model: str | None = None

    def is_faulty(self) -> bool:
        """True when the stream does not end with ``response.completed``."""
        return any((self.fail, self.error, self.incomplete, self.cut, self.hang))


@dataclass(frozen=True, slots=True)
class Fail:
    """An HTTP answer in full; a dict body is sent as JSON."""

    status: int
    body: dict[str, Any] | str | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Item = str | Fail
"""A script entry: a line of directives ("" is a normal answer), or an HTTP answer."""


RefreshKind = Literal[
    "ok",
    "lost",
    "hang",
    "no_refresh_token",
    "no_access_token",
    "no_id_token",
    "other_account",
    "not_json",
    "huge",
    "drop",
]


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a token exchange does besides, or instead of, its duty.

    ``lost`` rotates and drops the connection; ``drop`` drops it without rotating; ``hang`` never answers and does
    not rotate; ``no_*`` leaves a member out; ``other_account`` names a stranger in the tokens. With every kind,
    ``delay_s`` waits first, and ``gate`` waits for that gate to be opened.
    """

    kind: RefreshKind = "ok"
    delay_s: float = 0.0
    gate: str = ""


RefreshItem = Refresh | Fail
_TYPES: dict[str, Any] = {f.name: f.type for f in fields(Plan)}


class UnknownDirective(ValueError):
    """A directive that this language does not have; said aloud, so that a typo does not pass as a normal answer."""


def _unquote(value: str) -> str:
    if value.startswith('"'):
        decoded = json.loads(value, strict=False)
        assert isinstance(decoded, str)
        return decoded
    return value


def _convert(key: str, value: str | None) -> Any:
    declared = str(_TYPES[key])
    if declared == "bool":
        return value is None or value not in {"0", "false", "no"}
    if key == "hang":
        return value or "stream"
    if value is None:
        raise UnknownDirective(f"sim:{key} needs a value")
    if "int" in declared:
        return int(value)
    return float(value) if "float" in declared else value


def _edit_file(name: str) -> tuple[ToolCall, ...]:
    commands = (f"printf 'made by the simulator\\n' > {name}", f"cat {name}")
    return tuple(ToolCall("exec_command", json.dumps({"cmd": command})) for command in commands)


def _read_arguments(text: str, at: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while match := _ARGUMENT.match(text, at):
        found[match.group(1)] = _unquote(match.group(2))
        at = match.end()
    return found, at


def apply_line(plan: Plan, line: str, rest: str = "") -> Plan:
    """``plan`` with the directives of one comma-separated line; ``rest`` is the text after it, for arguments.

    Raises UnknownDirective (a ValueError) for an unknown key or a value that does not convert.
    """
    changes: dict[str, Any] = {}
    tools: list[ToolCall] = []
    at = 0
    while at < len(line):
        match = _PAIR.match(line, at)
        if match is None:
            raise UnknownDirective(f"cannot read directive {line[at:]!r}")
        at = match.end()
        key, value = match.group(1), match.group(2)
        value = None if value is None else _unquote(value)
        if key in {"tool", "custom"}:
            arguments, _ = _read_arguments(rest, 0)
            whole = arguments.get("json") or json.dumps(arguments)
            raw = arguments.get("input", "") if key == "custom" else whole
            tools.append(ToolCall(value or "exec_command", raw, custom=key == "custom"))
        elif key == "edit-file":
            word = _WORD.match(rest)
            name = value or (word.group(1) if word else "simulated.txt")
            tools.extend(_edit_file(name))
            changes |= {"reasoning": True, "text": f"Wrote {name} and read it back."}
        elif key in _TYPES and key != "tools":
            changes[key] = _convert(key, value)
        else:
            raise UnknownDirective(f"unknown directive sim:{key}")
    return replace(plan, **changes, tools=plan.tools + tuple(tools))


def apply_text(plan: Plan, text: str) -> Plan:
    """``plan`` with every ``sim:`` directive found in free text."""
    if "sim:" not in text:
        return plan
    for match in _DIRECTIVES.finditer(text):
        plan = apply_line(plan, match.group(1), text[match.end() :])
    return plan


def apply_script_line(plan: Plan, line: str) -> Plan:
    """``plan`` with one script line; ``sim:`` may be written or left out, several words may follow each other."""
    line = line.strip()
    if not line:
        return plan
    return apply_text(plan, line if line.startswith("sim:") else f"sim:{line}")


def without_directives(text: str) -> str:
    return _DIRECTIVES.sub("", text).strip()


def item_from_json(value: Any) -> Item:
    """A script entry of the control API: a string, or ``{"status", "body"?, "headers"?}``."""
    if isinstance(value, str):
        apply_script_line(Plan(), value)
        return value
    if isinstance(value, dict) and "status" in value:
        return Fail(int(value["status"]), value.get("body", b""), dict(value.get("headers", {})))
    raise UnknownDirective("an item is a line of directives or an object with status, body and headers")


def refresh_from_json(value: Any) -> RefreshItem:
    """``{"kind", "delay_s"?, "gate"?}``, a bare kind, or ``{"status", "body"?, "headers"?}``."""
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, dict) and "status" in value:
        return Fail(int(value["status"]), value.get("body", b""), dict(value.get("headers", {})))
    if not isinstance(value, dict) or not set(value) <= {"kind", "delay_s", "gate"}:
        raise UnknownDirective("an item has kind, delay_s and gate, or status, body and headers")
    kind = value.get("kind", "ok")
    if kind not in get_args(RefreshKind):
        raise UnknownDirective(f"unknown kind {kind!r}")
    return Refresh(kind, float(value.get("delay_s", 0.0)), str(value.get("gate", "")))
