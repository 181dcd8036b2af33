"""A planned call finds its tool among those that the request offers."""

from __future__ import annotations

from typing import Any

import pytest

from ops.simulator.script import ToolCall
from ops.simulator.tools import fit_call, offered_tools
from tests.simulator.conftest import Peer, output_of

PLAIN = {"type": "function", "name": "exec_command"}
CALL = ToolCall("exec_command", '{"cmd": "ls"}')


def lite(*tools: dict[str, Any]) -> dict[str, Any]:
    space = {"type": "namespace", "name": "functions", "tools": list(tools)}
    return {"input": [{"type": "additional_tools", "role": "developer", "tools": [space]}]}


def test_tools_are_found_at_the_top_and_in_namespaces() -> None:
    body = {"tools": [PLAIN, {"type": "web_search"}, "odd"], **lite({"type": "custom", "name": "exec"})}
    assert list(offered_tools(body)) == [(None, "exec_command"), (None, "None"), ("functions", "exec")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"tools": [PLAIN]}, CALL),
        ({}, CALL),
        (lite(PLAIN), ToolCall("exec_command", CALL.arguments, namespace="functions")),
        (lite({"type": "custom", "name": "exec"}, PLAIN), ToolCall(CALL.name, CALL.arguments, namespace="functions")),
    ],
)
def test_a_call_names_the_namespace_of_its_tool(body: dict[str, Any], expected: ToolCall) -> None:
    assert fit_call(CALL, body) == expected


def test_code_mode_wraps_the_call_in_javascript() -> None:
    made = fit_call(CALL, lite({"type": "custom", "name": "exec"}))
    assert (made.name, made.custom, made.namespace) == ("exec", True, "functions")
    assert 'await tools.exec_command({"cmd": "ls"})' in made.arguments


async def test_the_namespace_is_on_the_wire(peer: Peer) -> None:
    (call,) = output_of(await peer.ask("sim:tool=exec_command", lite(PLAIN)["input"][0]))
    assert (call["name"], call["namespace"]) == ("exec_command", "functions")
