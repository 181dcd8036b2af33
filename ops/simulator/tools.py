"""How a planned tool call is made to the tools that the request really offers.

The same command reaches the Codex CLI in three ways, by model and catalogue: a plain function ``exec_command``; the
same function inside a namespace (Responses Lite: the tools ride in an ``additional_tools`` input item); or, in code
mode, JavaScript for the custom tool ``exec``, which finds the function on its ``tools`` object. A tool that nobody
offered is called all the same: what a client does then is worth seeing too.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ops.simulator.script import ToolCall

CODE_TOOL = "exec"


def offered_tools(body: dict[str, Any]) -> Iterator[tuple[str | None, str]]:
    """Namespace (or None) and name of every tool of the request."""
    carriers = [item for item in body.get("input") or () if _is(item, "additional_tools")]
    for carrier in (body, *carriers):
        for tool in carrier.get("tools") or ():
            if _is(tool, "namespace"):
                name = str(tool.get("name"))
                yield from (
                    (name, str(inner.get("name"))) for inner in tool.get("tools") or () if isinstance(inner, dict)
                )
            elif isinstance(tool, dict):
                yield None, str(tool.get("name"))


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, dict) and value.get("type") == kind


def fit_call(call: ToolCall, body: dict[str, Any]) -> ToolCall:
    """The call as the offered tools take it."""
    namespaces = {name: namespace for namespace, name in offered_tools(body)}
    if call.name in namespaces:
        return replace(call, namespace=namespaces[call.name])
    if CODE_TOOL in namespaces and not call.custom:
        code = f"const result = await tools.{call.name}({call.arguments});\ntext(result.output ?? result);\n"
        return ToolCall(CODE_TOOL, code, custom=True, namespace=namespaces[CODE_TOOL])
    return call
