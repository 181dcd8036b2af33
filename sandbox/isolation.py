"""With what privileges does a container run, and did the engine really do as it was told?

Pure. ``create_body`` builds the one request that makes a container, key by key, from a ContainerSpec: there is no way
to hand in another key, so nothing in a task, an environment or an image name can ask for a mount, a device, a port or
a privilege. docs/sandbox-isolation.md holds the same values as a table, and tests compare the three: this file, the
page, and what a real engine says of a container.

Rules that hold:

* the same for everybody: no network but loopback, no new privileges, no swap, every limit set, an init, own
  namespaces, no port, no device, no mount of the host but the socket folder, read-only;
* set-up is root with the engine's usual capabilities less NET_RAW on a writable root; everybody else is uid 10001
  without any capability on a read-only root. A judge is never root;
* ``deviations`` reads what the engine made of it. An engine that drops a limit with a warning (old kernels, rootless)
  is found out before the container has run.
"""

from __future__ import annotations

import math
import os.path
import re
from collections.abc import Mapping
from typing import Any, Final

from sandbox.engine import ContainerSpec, EngineError
from sandbox.types import Limits, Phase

AGENT_UID: Final = 10001
GATEWAY_FOLDER: Final = "/run/gw"
VOLUMES: Final = frozenset({"/workspace", "/task", "/out", "/home/agent"})
NAMED_VOLUME: Final = "codex-relay-"
"""What the name of a shared volume begins with; such a volume goes with the last container that uses it."""

ROOT_CAPABILITIES: Final = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What Docker gives to root by default, less NET_RAW; named one by one because engines' defaults differ."""

_MIB: Final = 1 << 20
_SHM_BYTES: Final = 64 * _MIB
_TMP_MAX_MIB: Final = 1024
_OPEN_FILES: Final = 16384
_LOG_FILES: Final = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_IMAGE = re.compile(r"(?:sha256:[0-9a-f]{64}|[a-z0-9][a-z0-9._/:-]{0,200}(?::[\w.-]{1,128})?(?:@sha256:[0-9a-f]{64})?)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def create_body(spec: ContainerSpec, runtime: str | None) -> dict[str, Any]:
    """The request that creates ``spec``'s container. Raises EngineError for a spec that nobody may ask for; nothing
    is sent then."""
    _check(spec)
    user = "0:0" if spec.as_root else f"{AGENT_UID}:{AGENT_UID}"
    # The environment goes before the command and not into Config.Env, which a commit would keep in the image.
    variables = [f"{name}={value}" for name, value in spec.environment]
    return {
        "Image": spec.image,
        "Hostname": "sandbox",
        "User": user,
        "WorkingDir": "/workspace",
        "Entrypoint": ["/usr/bin/env", *variables, *spec.argv] if variables else list(spec.argv),
        "Cmd": [],
        "Labels": dict(spec.labels),
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "Tty": False,
        "OpenStdin": False,
        "HostConfig": _host_config(spec, runtime),
    }


def _host_config(spec: ContainerSpec, runtime: str | None) -> dict[str, Any]:
    memory = spec.limits.memory_mib * _MIB
    return {
        **({"Runtime": runtime} if runtime is not None else {}),
        "NetworkMode": "none",
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(ROOT_CAPABILITIES) if spec.as_root else [],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": spec.read_only_root,
        "Init": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PublishAllPorts": False,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "OomKillDisable": False,
        "OomScoreAdj": 500,
        "NanoCpus": int(spec.limits.cpus * 1e9),
        "Memory": memory,
        "MemorySwap": memory,
        "PidsLimit": spec.limits.pids,
        "ShmSize": _SHM_BYTES,
        "Ulimits": _ulimits(spec.limits),
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={_tmp_mib(spec.limits)}m"},  # noqa: S108 - in the container
        "LogConfig": _log(spec.limits),
        "Mounts": _mounts(spec),
    }


def _ulimits(limits: Limits) -> list[dict[str, Any]]:
    """A file that alone would fill the disk ends at the kernel, faster than any watcher looks."""
    sizes = {"core": 0, "fsize": limits.disk_mib * _MIB, "nofile": _OPEN_FILES}
    return [{"Name": name, "Soft": size, "Hard": size} for name, size in sizes.items()]


def _tmp_mib(limits: Limits) -> int:
    """What /tmp holds is memory: half of it at most, so that a full one is not at once the end of the container."""
    return min(_TMP_MAX_MIB, limits.memory_mib // 2)


def _log(limits: Limits) -> dict[str, Any]:
    """Room for twice the output, for JSON costs some, before the engine turns to its second file: a reader who is
    behind when it turns may miss lines or hear them twice, and only a container that breaks its limit gets there."""
    size = {"max-size": f"{2 * limits.output_mib}m", "max-file": str(_LOG_FILES)}
    return {"Type": "json-file", "Config": size}


def _mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    for target in sorted({*spec.volumes, "/workspace"} if spec.workspace_volume else spec.volumes):
        mount: dict[str, Any] = {"Type": "volume", "Target": target}
        if target == "/workspace":
            mount["ReadOnly"] = spec.read_only_workspace
            if spec.workspace_volume:
                mount["Source"] = spec.workspace_volume
                mount["VolumeOptions"] = {"Labels": dict(spec.labels)}
        mounts.append(mount)
    if spec.socket_folder is not None:
        mounts.append(
            {
                "Type": "bind",
                "Source": str(spec.socket_folder),
                "Target": GATEWAY_FOLDER,
                "ReadOnly": True,
                "BindOptions": {"Propagation": "rprivate"},
            }
        )
    return mounts


def _check(spec: ContainerSpec) -> None:
    wrong = next((text for bad, text in _refusals(spec) if bad), None)
    if wrong is not None:
        raise EngineError(f"A container that must not be made: {wrong}")


def _refusals(spec: ContainerSpec) -> list[tuple[bool, str]]:
    limits, folder = spec.limits, spec.socket_folder
    sizes = (limits.cpus, limits.memory_mib, limits.pids, limits.disk_mib, limits.wall_s, limits.output_mib)
    return [
        (not _NAME.fullmatch(spec.name), f"the name {spec.name[:60]!r} is not one"),
        (not _IMAGE.fullmatch(spec.image), f"the image {spec.image[:60]!r} is not a name"),
        (not spec.argv, "there is no command"),
        (
            bool(spec.argv) and (spec.argv[0].startswith("-") or "=" in spec.argv[0]),
            "the command is not a program's name",
        ),
        (not all(math.isfinite(size) and size > 0 for size in sizes), "a limit is not above zero"),
        (spec.as_root and spec.phase is Phase.JUDGE, "a judge is never root"),
        (not spec.as_root and not spec.read_only_root, "a writable root is for root alone"),
        (not set(spec.volumes) <= VOLUMES, f"a volume is none of {', '.join(sorted(VOLUMES))}"),
        (not all(_VARIABLE.fullmatch(name) for name, _ in spec.environment), "a variable has no plain name"),
        (
            spec.workspace_volume is not None
            and not (spec.workspace_volume.startswith(NAMED_VOLUME) and _NAME.fullmatch(spec.workspace_volume)),
            f"the name of a shared volume does not begin with {NAMED_VOLUME}",
        ),
        (
            folder is not None and (not folder.is_absolute() or os.path.normpath(folder) != str(folder)),
            "the socket folder is not a plain absolute path",
        ),
        (folder is not None and len(folder.parts) < 3, "the socket folder is too high in the tree"),
    ]


_SET = frozenset({"CapDrop", "CapAdd", "Ulimits"})
_EMPTY: Final = (
    "Binds", "Devices", "DeviceRequests", "DeviceCgroupRules", "ExtraHosts", "GroupAdd", "Links", "PidMode",
    "PortBindings", "Sysctls", "UTSMode", "UsernsMode", "VolumesFrom", "VolumeDriver", "ContainerIDFile",
)  # fmt: skip
_LOOSE: Final = ("NetworkMode", "Privileged", "ReadonlyRootfs", "Memory", "PidsLimit", "NanoCpus")
"""What is compared on an engine other than Docker, which words the rest in its own way."""


def deviations(body: Mapping[str, Any], inspected: Mapping[str, Any], *, docker: bool = True) -> tuple[str, ...]:
    """Where the container that the engine made (its inspect document) differs from what was asked for."""
    wanted, made = body["HostConfig"], inspected.get("HostConfig") or {}
    keys = wanted.keys() - {"Mounts"} if docker else _LOOSE
    found = [f"HostConfig.{key}" for key in sorted(keys) if _plain(key, wanted[key]) != _plain(key, made.get(key))]
    found += [f"HostConfig.{key}" for key in _EMPTY if made.get(key) and docker]
    if docker:
        found += [f"HostConfig.{key}" for key in ("MaskedPaths", "ReadonlyPaths") if not made.get(key)]
    if (inspected.get("Config") or {}).get("User") != body["User"]:
        found.append("Config.User")
    asked = {one["Target"]: not one.get("ReadOnly", False) for one in wanted["Mounts"]}
    there = {one["Destination"]: one["RW"] for one in inspected.get("Mounts") or () if one.get("Type") != "tmpfs"}
    found += [
        f"mount {target}" for target in sorted(asked.keys() | there.keys()) if asked.get(target) != there.get(target)
    ]
    return tuple(found)


def _plain(key: str, value: Any) -> Any:
    """Engines put lists in another order and write CAP_ before names; nothing is the same as empty."""
    if key in _SET:
        items = [sorted(one.items()) if isinstance(one, dict) else str(one).removeprefix("CAP_") for one in value or ()]
        return sorted(items, key=str)
    return value or None
