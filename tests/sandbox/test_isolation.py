"""What goes into a create request, what never does, and what a container that came out otherwise is told apart by."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.check import spec_of
from sandbox.engine import ContainerSpec, EngineError
from sandbox.isolation import ROOT_CAPABILITIES, create_body, deviations
from sandbox.types import Limits, Phase
from tests.sandbox.isolation_page import differences, table

FOLDER = Path("/srv/relay/gw")


def spec(phase: Phase = Phase.AGENT, **changed: Any) -> ContainerSpec:
    return replace(spec_of(phase, "codex-relay/agent:1", FOLDER), **changed)


def as_inspected(body: dict[str, Any]) -> dict[str, Any]:
    """What a faithful engine would say of it."""
    host = copy.deepcopy(body["HostConfig"])
    mounts = [
        {
            "Type": one["Type"],
            "Destination": one["Target"],
            "RW": not one.get("ReadOnly", False),
            "Source": one.get("Source"),
        }
        for one in host["Mounts"]
    ]
    config = {key: value for key, value in body.items() if key != "HostConfig"}
    return {
        "Config": config,
        "HostConfig": {
            **host, "CapAdd": [f"CAP_{name}" for name in reversed(host["CapAdd"])] or None,
            "Devices": [], "Binds": None,
            "MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"],
        },
        "Mounts": mounts,
    }  # fmt: skip


@pytest.mark.parametrize("phase", Phase)
def test_the_page_says_what_is_asked_for(phase: Phase) -> None:
    rows = table(phase)
    wanted = spec(phase)
    asked = as_inspected(create_body(wanted, None))
    asked["HostConfig"]["CapAdd"] = create_body(wanted, None)["HostConfig"]["CapAdd"]
    assert differences(rows, asked, wanted.limits, FOLDER) == []
    assert {f"HostConfig.{key}" for key in asked["HostConfig"]} - rows.keys() == {
        "HostConfig.Mounts", "HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths",
    }  # fmt: skip


def test_the_page_would_be_found_wrong() -> None:
    asked = as_inspected(create_body(spec(), None))
    asked["HostConfig"]["ReadonlyRootfs"] = False
    asked["Mounts"].pop()
    told = differences(table(Phase.AGENT), asked, spec().limits, FOLDER)
    assert [line.split(":")[0] for line in told] == ["HostConfig.ReadonlyRootfs", "Mounts"]


def test_variables_stand_before_the_command_and_not_in_the_configuration() -> None:
    body = create_body(spec(environment=(("A", "1"), ("B", "x y=z"))), None)
    assert body["Entrypoint"][:4] == ["/usr/bin/env", "A=1", "B=x y=z", "python3"]
    assert "Env" not in body


def test_a_runtime_a_shared_workspace_and_a_read_only_one() -> None:
    host = create_body(spec(workspace_volume="codex-relay-w", read_only_workspace=True), "runsc")["HostConfig"]
    assert host["Runtime"] == "runsc"
    workspace = next(one for one in host["Mounts"] if one["Target"] == "/workspace")
    assert (workspace["Source"], workspace["ReadOnly"]) == ("codex-relay-w", True)
    assert [one["Target"] for one in host["Mounts"] if one["Type"] == "bind"] == ["/run/gw"]
    alone = create_body(spec(socket_folder=None), None)["HostConfig"]
    assert [one["Type"] for one in alone["Mounts"]] == ["volume"] * 4
    assert "Runtime" not in alone


def test_full_access_is_the_column_of_set_up() -> None:
    body = create_body(spec(as_root=True, read_only_root=False), None)
    assert body["User"] == "0:0"
    assert body["HostConfig"]["CapAdd"] == list(ROOT_CAPABILITIES)
    assert "NET_RAW" not in ROOT_CAPABILITIES
    assert "SYS_ADMIN" not in ROOT_CAPABILITIES


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"name": "../x"}, "name"),
        ({"name": ""}, "name"),
        ({"image": "a b"}, "image"),
        ({"image": "--privileged"}, "image"),
        ({"image": "agent\n:1"}, "image"),
        ({"argv": ()}, "command"),
        ({"argv": ("--", "x")}, "command"),
        ({"argv": ("A=b", "x")}, "command"),
        ({"limits": Limits(0, 1, 1, 1, 1, 1)}, "limit"),
        ({"limits": Limits(1, 1, -1, 1, 1, 1)}, "limit"),
        ({"limits": Limits(float("nan"), 1, 1, 1, 1, 1)}, "limit"),
        ({"limits": Limits(1, 1, 1, 1, float("inf"), 1)}, "limit"),
        ({"phase": Phase.JUDGE, "as_root": True}, "judge"),
        ({"read_only_root": False}, "writable root"),
        ({"volumes": ("/etc",)}, "volume"),
        ({"volumes": ("/workspace/../etc",)}, "volume"),
        ({"environment": (("A=B", "c"),)}, "variable"),
        ({"environment": (("-i", "c"),)}, "variable"),
        ({"workspace_volume": "/etc"}, "shared volume"),
        ({"workspace_volume": "somebody-elses"}, "shared volume"),
        ({"socket_folder": Path("gw")}, "socket folder"),
        ({"socket_folder": Path("/srv/../run/x")}, "socket folder"),
        ({"socket_folder": Path("/run")}, "socket folder"),
        ({"socket_folder": Path("/")}, "socket folder"),
    ],
)
def test_what_nobody_may_ask_for(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(EngineError, match=f"must not be made.*{reason}"):
        create_body(spec(**changed), None)


@pytest.mark.parametrize("phase", Phase)
def test_a_faithful_engine_deviates_in_nothing(phase: Phase) -> None:
    body = create_body(spec(phase), None)
    assert deviations(body, as_inspected(body)) == ()
    assert deviations(body, as_inspected(body), docker=False) == ()


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("HostConfig", "NetworkMode", "default"), ("HostConfig", "Privileged", True), ("HostConfig", "PidsLimit", None),
        ("HostConfig", "Memory", 0), ("HostConfig", "MemorySwap", -1), ("HostConfig", "CapAdd", ["SYS_ADMIN"]),
        ("HostConfig", "CapDrop", None), ("HostConfig", "SecurityOpt", None), ("HostConfig", "Ulimits", []),
        ("HostConfig", "Devices", [{"PathOnHost": "/dev/kvm"}]), ("HostConfig", "Binds", ["/:/host"]),
        ("HostConfig", "PidMode", "host"), ("HostConfig", "UsernsMode", "host"), ("HostConfig", "MaskedPaths", None),
        ("HostConfig", "PortBindings", {"80/tcp": []}), ("HostConfig", "Sysctls", {"a": "b"}), ("Config", "User", ""),
    ],
)  # fmt: skip
def test_an_engine_that_made_something_else_is_found_out(part: str, key: str, value: object) -> None:
    body = create_body(spec(), None)
    made = as_inspected(body)
    made[part][key] = value
    assert deviations(body, made) == (f"{part}.{key}",)


def test_a_mount_too_many_or_too_wide_is_found_out() -> None:
    body = create_body(spec(), None)
    made = as_inspected(body)
    made["Mounts"].append({"Type": "volume", "Destination": "/var/lib/x", "RW": True})
    next(one for one in made["Mounts"] if one["Destination"] == "/run/gw")["RW"] = True
    assert deviations(body, made) == ("mount /run/gw", "mount /var/lib/x")
