"""What the Codex backend refuses in a request body, and with which words.

Pure: a body goes in, a refusal comes out or None. The texts and the order follow what was seen of the ChatGPT
backend, which answers FastAPI's ``{"detail": "..."}`` for its own rules and the platform's ``{"error": {...}}`` for
items that the model service judges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ops.simulator.failures import error_body
from ops.simulator.script import Fail

ID_PREFIXES = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_", "custom_tool_call": "ctc_"}
CALLS = {"function_call": "function call", "custom_tool_call": "custom tool call"}


def _detail(text: str) -> Fail:
    return Fail(400, {"detail": text})


def _invalid(message: str, param: str | None = "input", code: str | None = None) -> Fail:
    return Fail(400, error_body(message, "invalid_request_error", code, param))


def refuse_body(body: dict[str, Any], unsupported: frozenset[str], models: frozenset[str]) -> Fail | None:
    """The first rule that the whole body breaks."""
    if body.get("store", True) is not False:
        return _detail("Store must be set to false")
    if body.get("stream") is not True:
        return _detail("Stream must be set to true")
    for name in body:
        if name in unsupported:
            return _detail(f"Unsupported parameter: {name}")
    items = body.get("input")
    if not isinstance(items, list):
        return _detail("Input must be a list")
    if "instructions" not in body and not _starts_with_developer(items):
        return _detail("Instructions are required")
    model = body.get("model")
    if not isinstance(model, str) or model not in models:
        return _detail(f"The '{model}' model is not supported when using Codex with a ChatGPT account.")
    return refuse_items(items)


def _starts_with_developer(items: list[Any]) -> bool:
    """The CLI since 0.169 sends its base instructions (or, for Lite models, its tools) as the first item."""
    return bool(items) and isinstance(items[0], dict) and items[0].get("role") == "developer"


def refuse_items(items: list[Any]) -> Fail | None:
    """The first rule that an input item breaks."""
    calls: set[str] = set()
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            return _invalid(f"Invalid type for 'input[{index}]': expected an object.", f"input[{index}]")
        refusal = _refuse_item(index, item, calls, len(items))
        if refusal is not None:
            return refusal
    return None


def _refuse_item(index: int, item: dict[str, Any], calls: set[str], size: int) -> Fail | None:
    kind = item.get("type", "message")
    if item.get("role") == "system":
        return _detail("System messages are not allowed")
    identifier = item.get("id")
    # Only what the model said has a server's id; the CLI gives its own inputs ids of the same shape.
    prefix = ID_PREFIXES.get(kind)
    if isinstance(identifier, str) and identifier and prefix and not identifier.startswith(prefix):
        return _invalid(
            f"Invalid 'input[{index}].id': '{identifier}'. Expected an ID that begins with '{prefix.rstrip('_')}'.",
            f"input[{index}].id",
            "invalid_value",
        )
    if kind in CALLS:
        calls.add(str(item.get("call_id")))
    elif kind in {"function_call_output", "custom_tool_call_output"}:
        call_id = item.get("call_id")
        if call_id not in calls:
            called = CALLS[kind.removesuffix("_output")]
            return _invalid(f"No tool call found for {called} output with call_id {call_id}.")
    elif kind == "item_reference":
        return Fail(
            404,
            error_body(
                f"Item with id '{identifier}' not found. Items are not persisted when `store` is set to false. Try "
                "again with `store` set to true, or remove this item from your input.",
                "invalid_request_error",
                None,
                "input",
            ),
        )
    elif kind == "compaction_trigger" and index != size - 1:
        return _invalid("compaction_trigger must be the last input item.", f"input[{index}]")
    return None


def refuse_sealed(items: list[Any], opens: Callable[[str, str], bool]) -> Fail | None:
    """``opens(purpose, sealed)`` says whether this account's content was sealed by this backend."""
    for item in items:
        if not isinstance(item, dict) or item.get("type") not in {"reasoning", "compaction"}:
            continue
        sealed = item.get("encrypted_content")
        if sealed is None:
            continue
        if not isinstance(sealed, str) or not opens(item["type"], sealed):
            shown = str(sealed)
            shown = f"{shown[:4]}...{shown[-4:]}" if len(shown) > 12 else shown
            return Fail(
                400,
                error_body(
                    f"The encrypted content {shown} could not be verified. Reason: Encrypted content could not be "
                    "decrypted or parsed.",
                    "invalid_request_error",
                    "invalid_encrypted_content",
                ),
            )
    return None
