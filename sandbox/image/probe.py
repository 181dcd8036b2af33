"""Runs inside a container and tries to get out: every attempt must fail. Standard library only.

Standard input of a kind is /task/facts.json, written by sandbox/check.py: what the host looks like from outside (its
addresses and a port where it listens, its namespaces, its root device) and the limits that were set. For each attempt
one JSON line goes to standard output: ``{"name", "open", "detail"}``. ``open`` true means that something outside was
reached, or a limit does not hold. An attempt that breaks in an unforeseen way is told as open: what is not proven
closed counts as open. The last line is ``{"name": "end"}``.

Nothing here does harm where it succeeds: files are opened and not written, processes that fork end by themselves.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterable
from typing import Any

Facts = dict[str, Any]
Attempt = Callable[[Facts], "str | None"]

WAIT_S = 1.0
MEMORY_STEP = 8 << 20
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
WAIT_ALL = 0x40000000
BROKEN = 99
CALLS = {
    "x86_64": {
        "keyctl": 250, "add_key": 248, "bpf": 321, "init_module": 175, "open_by_handle_at": 304, "userfaultfd": 323,
    },
    "aarch64": {
        "keyctl": 219, "add_key": 217, "bpf": 280, "init_module": 105, "open_by_handle_at": 265, "userfaultfd": 282,
    },
}  # fmt: skip
GATEWAY = "/run/gw/gw.sock"

libc = ctypes.CDLL(None, use_errno=True)


def connects(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.settimeout(WAIT_S)
        try:
            tried.connect(address)
        except OSError:
            return False
        return True


def tcp(addresses: Iterable[tuple[str, int]]) -> str | None:
    for host, port in addresses:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            if connects(family, (host, port)):
                return f"connected to {host} port {port}"
        except OSError:
            continue  # no such family here
    return None


def denied(call: int, number: str) -> str | None:
    """What a system call said when it was not refused."""
    if call >= 0:
        return f"{number} succeeded"
    code = ctypes.get_errno()
    return None if code in (errno.EPERM, errno.EACCES, errno.ENOSYS) else f"{number}: {os.strerror(code)}"


def opens(paths: Iterable[str], flags: int) -> str | None:
    for path in paths:
        try:
            os.close(os.open(path, flags | os.O_CLOEXEC))
        except OSError:
            continue
        return f"{path} can be opened"
    return None


def in_child(act: Callable[[], int]) -> int:
    """``act`` in a process of its own; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = BROKEN
        try:
            code = act()
        except (OSError, MemoryError):
            code = 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == BROKEN:
        raise RuntimeError("in its process")
    return code


# network


def interfaces(_: Facts) -> str | None:
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    links = [name for name in names if not name.startswith(("tunl", "sit", "ip6", "gre", "erspan", "ip_vti", "teql"))]
    return f"there are network interfaces: {', '.join(links)}" if links else None


def metadata(_: Facts) -> str | None:
    return tcp([("169.254.169.254", 80), ("169.254.170.2", 80), ("100.100.100.200", 80), ("fd00:ec2::254", 80)])


def host_addresses(facts: Facts) -> str | None:
    return tcp((host, facts["port"]) for host in facts["addresses"])


def host_loopback(facts: Facts) -> str | None:
    return tcp([("127.0.0.1", facts["port"]), ("::1", facts["port"])])


def abstract_socket(facts: Facts) -> str | None:
    return "the host's abstract sockets can be reached" if connects(socket.AF_UNIX, "\0" + facts["abstract"]) else None


def internet(_: Facts) -> str | None:
    return tcp([("1.1.1.1", 443), ("8.8.8.8", 53), ("2606:4700:4700::1111", 443)])


def dns(_: Facts) -> str | None:
    for server in ("8.8.8.8", "127.0.0.11", "169.254.169.253"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(WAIT_S)
            try:
                asked.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1", (server, 53))
                asked.recv(512)
            except OSError:
                continue
            return f"{server} answered a DNS question"
    return None


def raw_sockets(facts: Facts) -> str | None:
    for family, kind, protocol in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_PACKET, socket.SOCK_RAW, 0x0300)):
        try:
            socket.socket(family, kind, protocol).close()
        except OSError:
            continue
        return f"a raw socket of family {family} can be made"
    return None


def gateway(_: Facts) -> str | None:
    """The other way round: this one must be reached."""
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(5 * WAIT_S)
        try:
            door.connect(GATEWAY)
            said = door.recv(16)
        except OSError as error:
            return f"the gateway's socket cannot be reached: {error}"
    return None if said == b"gateway" else f"the gateway's socket said {said!r}"


def gateway_folder(_: Facts) -> str | None:
    return opens(["/run/gw/written"], os.O_CREAT | os.O_WRONLY)


def sockets(_: Facts) -> str | None:
    for top in ("/run", "/var/run", "/tmp", "/var/lib"):  # noqa: S108 - looked through
        for folder, _folders, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                if path != GATEWAY and _is_socket(path) and not path.endswith(GATEWAY):
                    return f"there is a socket: {path}"
    return None


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


# kernel


def namespaces(facts: Facts) -> str | None:
    mine = {name: os.readlink(f"/proc/self/ns/{name}") for name in facts["namespaces"]}
    shared = sorted(name for name in mine if mine[name] == facts["namespaces"][name])
    return f"shared with the host: {', '.join(shared)}" if shared else None


def privileges(facts: Facts) -> str | None:
    with open("/proc/self/status") as file:
        told = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    wanted = {"NoNewPrivs": "1", "Seccomp": "2", "CapBnd": facts["capabilities"], "CapAmb": "0" * 16}
    wrong = [f"{name} is {told.get(name)}" for name, value in wanted.items() if told.get(name) != value]
    wrong += [
        f"{name} is {told[name]}"
        for name in ("CapEff", "CapPrm")
        if int(told[name], 16) & ~int(facts["capabilities"], 16)
    ]
    return "; ".join(wrong) or None


def mounts(_: Facts) -> str | None:
    made = libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
    return denied(made, "mount")


def remount(_: Facts) -> str | None:
    return denied(libc.mount(None, b"/proc/sys", None, 32 | 4096, None), "remount")  # MS_REMOUNT | MS_BIND


def unshares(flag: int, kind: str) -> Attempt:
    return lambda _: f"a {kind} namespace can be made" if in_child(lambda: libc.unshare(flag) != 0) == 0 else None


def syscalls(_: Facts) -> str | None:
    numbers = CALLS.get(platform.machine())
    if numbers is None:
        return f"the system calls of {platform.machine()} are not known to this probe"
    found = (denied(libc.syscall(number, 0, 0, 0, 0, 0), name) for name, number in numbers.items())
    return next(filter(None, found), None)


def host_process(facts: Facts) -> str | None:
    """PID 1 here must be the container's own init, and a process of the host not a number that means anything."""
    if libc.ptrace(PTRACE_ATTACH, facts["pid"], None, None) == 0:
        os.waitpid(facts["pid"], WAIT_ALL)  # it can be let go only when it has stopped
        libc.ptrace(PTRACE_DETACH, facts["pid"], None, None)
        return "a process of the host can be traced"
    numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    return f"{len(numbers)} processes are visible" if len(numbers) > 8 else None


def proc_sys(_: Facts) -> str | None:
    names = ("core_pattern", "modprobe", "hostname", "panic", "randomize_va_space", "sysrq")
    paths = [f"/proc/sys/kernel/{name}" for name in names]
    return opens(
        [*paths, "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/proc/irq/0/smp_affinity"], os.O_WRONLY
    )


def kernel_memory(_: Facts) -> str | None:
    found = opens(["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kmsg"], os.O_RDONLY)
    if found is not None:
        return found
    try:
        with open("/proc/kcore", "rb") as file:  # an engine masks it by an empty device
            return "/proc/kcore can be read" if file.read(1) else None
    except OSError:
        return None


def sysfs(_: Facts) -> str | None:
    paths = ["/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/transparent_hugepage/enabled"]
    for top in ("/sys/module", "/sys/class", "/sys/fs"):
        for folder, _folders, names in os.walk(top):
            paths += [os.path.join(folder, name) for name in names]
            if len(paths) > 3000:
                break
    try:
        shown = os.listdir("/sys/firmware")
    except OSError:
        shown = []
    return opens(paths, os.O_WRONLY) or (f"/sys/firmware shows {len(shown)} entries" if shown else None)


def release_agent(_: Facts) -> str | None:
    found = [os.path.join(folder, "release_agent") for folder, _, _ in os.walk("/sys/fs/cgroup")]
    return opens([*found, "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/devices/devices.allow"], os.O_WRONLY)


def devices(facts: Facts) -> str | None:
    known = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}
    for name in os.listdir("/dev"):
        mode = os.lstat(f"/dev/{name}").st_mode
        if (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)) and name not in known:
            return f"there is a device /dev/{name}"
    for folder in ("/tmp", "/workspace"):  # noqa: S108 - in the container
        path = f"{folder}/disk"
        try:
            os.mknod(path, stat.S_IFBLK | 0o600, facts["disk"])
        except OSError:
            continue
        found = opens([path], os.O_RDONLY)
        os.unlink(path)
        if found is not None:
            return "the host's disk can be opened"
    return None


def setuid(_: Facts) -> str | None:
    if os.getuid() == 0:
        return None

    def become() -> int:
        os.setuid(0)
        return 0

    return "a user can become root" if in_child(become) == 0 else None


def writes_root(_: Facts) -> str | None:
    return opens(("/probe", "/etc/probe", "/usr/bin/probe", "/opt/agent/probe", "/var/probe"), os.O_CREAT | os.O_WRONLY)


# limits


def file_size(facts: Facts) -> str | None:
    def grow() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open("/workspace/large", "wb") as file:
                file.truncate(facts["disk_bytes"] + 1)
        except OSError as error:
            return 1 if error.errno == errno.EFBIG else BROKEN
        return 0

    return "a file can be longer than the disk limit" if in_child(grow) == 0 else None


def core_dumps(_: Facts) -> str | None:
    return None if resource.getrlimit(resource.RLIMIT_CORE) == (0, 0) else "core dumps are allowed"


def processes(facts: Facts) -> str | None:
    """A fork bomb that counts: children wait for the end of a pipe."""
    reads, writes = os.pipe()
    children: list[int] = []
    try:
        while len(children) < 2 * facts["pids"]:
            child = os.fork()
            if child == 0:
                os.close(writes)
                os.read(reads, 1)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    os.close(writes)
    for child in children:
        os.waitpid(child, 0)
    os.close(reads)
    return f"{len(children)} processes could be started" if len(children) >= facts["pids"] else None


def memory(facts: Facts) -> str | None:
    def grow() -> int:
        held: list[bytes] = []
        while len(held) * MEMORY_STEP < 2 * facts["memory_bytes"]:
            held.append(b"\1" * MEMORY_STEP)
        return 0

    return "twice the memory limit could be held" if in_child(grow) == 0 else None


ATTEMPTS: dict[str, Attempt] = {
    "interfaces": interfaces, "metadata address": metadata, "host addresses": host_addresses,
    "host loopback": host_loopback, "abstract sockets": abstract_socket, "internet": internet, "dns": dns,
    "raw sockets": raw_sockets, "gateway socket": gateway, "gateway folder": gateway_folder,
    "engine sockets": sockets, "namespaces": namespaces, "privileges": privileges, "mount": mounts,
    "remount": remount, "user namespace": unshares(NEW_USER, "user"), "mount namespace": unshares(NEW_MOUNTS, "mount"),
    "system calls": syscalls, "host processes": host_process, "proc sys": proc_sys, "kernel memory": kernel_memory,
    "sysfs": sysfs, "release agent": release_agent, "devices": devices, "setuid": setuid, "root files": writes_root,
    "file size": file_size, "core dumps": core_dumps, "process limit": processes, "memory limit": memory,
}  # fmt: skip


def tried(name: str, facts: Facts) -> dict[str, Any]:
    try:
        found = ATTEMPTS[name](facts)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not a proof
        found = f"the attempt broke: {type(error).__name__}: {error}"
    return {
        "name": name,
        "open": found is not None,
        "detail": found or ("reached, as it must be" if name == "gateway socket" else "closed"),
    }


def main() -> None:
    with open("/task/facts.json") as file:
        facts: Facts = json.load(file)
    for name in ATTEMPTS:
        sys.stdout.write(json.dumps(tried(name, facts)) + "\n")
        sys.stdout.flush()
    sys.stdout.write('{"name": "end"}\n')


if __name__ == "__main__":
    main()
