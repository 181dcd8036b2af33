"""The table of docs/sandbox-isolation.md, and how a container compares with it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sandbox.types import Limits, Phase

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "sandbox-isolation.md"
_COLUMN = {Phase.SETUP: 2, Phase.AGENT: 3, Phase.JUDGE: 4}


def table(phase: Phase) -> dict[str, str]:
    """Key -> value as written, of one phase's column."""
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| `(.*?)` \| `(.*?)` \|$", PAGE.read_text(), re.MULTILINE)
    return {row[0]: row[_COLUMN[phase] - 1] for row in rows}


def differences(wanted: dict[str, str], inspected: dict[str, Any], limits: Limits, folder: Path) -> list[str]:
    """Keys in which an engine's description of a container is not what the table says."""
    values = {
        "cpus": int(limits.cpus * 1e9), "memory": limits.memory_mib << 20, "pids": limits.pids,
        "disk": limits.disk_mib << 20, "tmp": min(1024, limits.memory_mib // 2), "log": 2 * limits.output_mib,
        "folder": folder,
    }  # fmt: skip
    found = []
    for key, text in wanted.items():
        expected = json.loads(re.sub(r"<(\w+)>", lambda match: str(values[match[1]]), text))
        if (expected or None) != (_value(key, inspected) or None):
            found.append(f"{key}: {_value(key, inspected)!r} is not {expected!r}")
    return found


def _value(key: str, inspected: dict[str, Any]) -> Any:
    """The value, with lists whose order means nothing made plain."""
    if key == "Mounts":
        return {one["Destination"]: _mount(one) for one in inspected["Mounts"] if one["Type"] != "tmpfs"}
    part, name = key.split(".")
    value = inspected[part].get(name)
    if name == "Ulimits":
        return {one["Name"]: one["Hard"] for one in value if one["Hard"] == one["Soft"]}
    return sorted(one.removeprefix("CAP_") for one in value or ()) if name == "CapAdd" else value


def _mount(one: dict[str, Any]) -> str:
    told = f"{one['Type']} {'rw' if one['RW'] else 'ro'}"
    return f"{told} {one['Source']}" if one["Type"] == "bind" else told
