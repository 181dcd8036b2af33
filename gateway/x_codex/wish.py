"""What does a client wish for with the extension object ``x_codex``, and may it have that?

    "x_codex": {"sandbox": "read-only" | "workspace-write" | "danger-full-access", "environment": "...",
                "reasoning_effort": "...", "network_access": true}

Rules that hold:

* without ``sandbox`` it is no wish at all: the object has been stripped, the call is relayed;
* with it every member is known and of its type, or the call is refused with the member's name; nothing is guessed;
* a wish is granted by the settings and the key together: scope ``tasks`` besides ``relay``, ``danger-full-access``
  only where the operator has allowed it, and with ``local_only`` only in front of an upstream that is near;
* internet is for full access alone, where it is the default and can be declined.

``prompt_of`` makes the one text that the CLI is given out of a request's instructions and messages; what cannot be
said as text (images, calls of the client's own tools) is refused. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from auth.types import Caller
from gateway.adapt import Adapted
from gateway.errors import GatewayError
from gateway.models import EFFORTS
from sandbox.types import RunLevel

SCOPE: Final = "tasks"
OBJECT: Final = "x_codex"
PROMPT_MAX_BYTES: Final = 256 * 1024
_NAME_MAX: Final = 128
_TEXTS: Final = ("input_text", "output_text", "text")


@dataclass(frozen=True, slots=True)
class Wish:
    """``environment`` names one of the tenant's, by id or label. ``effort`` None: as the request says elsewhere."""

    level: RunLevel
    environment: str
    effort: str | None = None
    network: bool = False


@dataclass(frozen=True, slots=True)
class WishRules:
    """The operator's side. ``upstream_near``: the upstream's host is this one or on a private address."""

    full_access: bool = False
    local_only: bool = False
    upstream_near: bool = False


class _Marked(msgspec.Struct):
    sandbox: Any = None


class _Object(msgspec.Struct, forbid_unknown_fields=True):
    sandbox: RunLevel
    environment: str | None = None
    reasoning_effort: str | None = None
    network_access: bool | None = None


_MARKED: Final = msgspec.json.Decoder(_Marked)
_OBJECT: Final = msgspec.json.Decoder(_Object)


def wish_of(extension: bytes) -> Wish | None:
    """The wish in the object; None when it has no ``sandbox``. Raises GatewayError ``invalid_request``."""
    try:
        if _MARKED.decode(extension).sandbox is None:
            return None
        found = _OBJECT.decode(extension)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what, _, where = str(error).partition(" - at `$")
        param = OBJECT + where.rstrip("`") if isinstance(error, msgspec.ValidationError) else OBJECT
        raise GatewayError.invalid(f"{param} is not acceptable: {what}.", param) from None
    if not found.environment or len(found.environment) > _NAME_MAX:
        raise GatewayError.invalid(
            "x_codex.environment is missing: name the environment to run in.", "x_codex.environment"
        )
    _check_effort(found.reasoning_effort, "x_codex.reasoning_effort")
    full = found.sandbox is RunLevel.FULL_ACCESS
    if found.network_access and not full:
        raise GatewayError.invalid(
            f"There is no internet with sandbox {found.sandbox.value}: leave network_access out.",
            "x_codex.network_access",
        )
    network = full and found.network_access is not False
    return Wish(found.sandbox, found.environment, found.reasoning_effort, network)


def _check_effort(effort: str | None, param: str) -> None:
    if effort is not None and effort not in EFFORTS:
        raise GatewayError.invalid(f"{param} must be one of {', '.join(EFFORTS)}.", param)


def switched_off() -> GatewayError:
    return GatewayError.invalid(
        "Synchronous runs are off here. The operator switches them on with the settings sandbox.enabled and "
        "sandbox.synchronous; without x_codex.sandbox the call is relayed.",
        "x_codex.sandbox",
    )


def check(wish: Wish, caller: Caller, rules: WishRules) -> None:
    """Raises GatewayError when this caller may not have that here."""
    if SCOPE not in caller.scopes or "relay" not in caller.scopes:
        raise GatewayError.forbidden("x_codex.sandbox needs a key with the scopes relay and tasks")
    if wish.level is RunLevel.FULL_ACCESS and not rules.full_access:
        raise GatewayError.invalid(
            "danger-full-access is off here. The operator allows it with the setting sandbox.full_access.",
            "x_codex.sandbox",
        )
    if rules.local_only and not rules.upstream_near:
        raise GatewayError.invalid(
            "The setting sandbox.local_only refuses synchronous runs, because the upstream is not on a loopback or "
            "private address.",
            "x_codex.sandbox",
        )


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Item(msgspec.Struct):
    type: str = "message"
    role: str = "user"
    content: str | list[_Part] = ""


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Head(msgspec.Struct):
    instructions: str = ""
    reasoning: _Reasoning | None = None
    tools: list[msgspec.Raw] = []


_ITEMS: Final = msgspec.json.Decoder(list[_Item])
_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Errand:
    """What the CLI is told."""

    prompt: str
    effort: str | None


def errand_of(wish: Wish, adapted: Adapted) -> Errand:
    """The prompt and the effort of a request. Raises GatewayError ``invalid_request`` that names the field."""
    try:
        head = _HEAD.decode(adapted.head + b"null}")
        items = _ITEMS.decode(adapted.input)
    except (msgspec.DecodeError, RecursionError):
        raise GatewayError.invalid("input is not acceptable for a run: send messages with text.", "input") from None
    if head.tools:
        raise GatewayError.invalid("A run has the CLI's own tools and cannot call others: leave tools out.", "tools")
    said = [(item.role, _text(index, item)) for index, item in enumerate(items) if item.type != "reasoning"]
    said = [(role, text) for role, text in said if text.strip()]
    if not any(role == "user" for role, _ in said):
        raise GatewayError.invalid("input has no message of the user: say what is to be done.", "input")
    if head.instructions.strip():
        said.insert(0, ("instructions", head.instructions))
    # one message is the prompt as it is; of several each says who spoke
    prompt = said[0][1] if len(said) == 1 else "\n\n".join(f"[{role}]\n{text}" for role, text in said)
    if len(prompt.encode()) > PROMPT_MAX_BYTES:
        raise GatewayError.invalid(f"The text of a run has at most {PROMPT_MAX_BYTES // 1024} KiB.", "input")
    effort = wish.effort
    if effort is None and head.reasoning is not None:
        effort = head.reasoning.effort
        _check_effort(effort, "reasoning.effort")
    return Errand(prompt, effort)


def _text(index: int, item: _Item) -> str:
    if item.type != "message":
        raise GatewayError.invalid(
            f"A run takes messages only, not {item.type[:40]!r}: leave it out.", f"input[{index}].type"
        )
    if isinstance(item.content, str):
        return item.content
    for part in item.content:
        if part.type not in _TEXTS:
            raise GatewayError.invalid(
                f"A run takes text only, not {part.type[:40]!r}: put files into the environment.",
                f"input[{index}].content",
            )
    return "\n".join(part.text for part in item.content)
