"""Who may go where, how much and for how long? The grants of the proxy, by token.

A grant is one phase of one attempt: a name for the log, a policy, an end. Rules that hold:

* a token is known by its SHA-256 alone; no token, a wrong one and one that has ended are the same answer;
* no domains means nothing is reachable; ``*.name`` is what is below ``name``, not ``name`` itself; an address is
  reachable only when the policy has it literally (and it is public);
* CONNECT leads to ``connect_ports`` and is not looked into; plain http leads to ``http_ports`` with the policy's
  methods;
* a grant counts its bytes in both directions and its open connections; at their limits nothing more passes;
* so many decisions are told per grant, then one that says that the rest is not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sandbox.egress_head import Head, Target
from sandbox.types import NetworkPolicy
from store.records import Secret

MIB: Final = 1024 * 1024
_TOKEN_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class EgressRules:
    """Bounds of one server. ``idle_s``: a proxied connection without a byte is closed; ``gateway_idle_s`` the same
    for one to the gateway, which keeps a stream alive by itself."""

    connect_ports: frozenset[int] = frozenset({443, 8443})
    http_ports: frozenset[int] = frozenset({80})
    connections: int = 512
    grant_connections: int = 64
    head_s: float = 10.0
    connect_s: float = 10.0
    idle_s: float = 120.0
    gateway_idle_s: float = 900.0
    told: int = 500


@dataclass(frozen=True, slots=True)
class Decision:
    """One line for the task's log. ``name`` is the grant's, "" when there was none; ``reason`` is empty when allowed.

    ``sent_bytes`` and ``received_bytes`` are the container's side; a connection is told when it has ended.
    """

    name: str
    allowed: bool
    host: str
    port: int
    method: str
    reason: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0


class Refused(Exception):
    """Not there, not so, or not any more; str() is one line with the reason."""


@dataclass(slots=True)
class Grant:
    """One token's rights and what it has used. ``deadline_s`` is monotonic."""

    name: str
    policy: NetworkPolicy
    deadline_s: float
    used_bytes: int = 0
    told: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def left_bytes(self) -> int:
        return self.policy.max_mib * MIB - self.used_bytes

    def check(self, method: str, target: Target, rules: EgressRules, now_s: float) -> None:
        """Raises Refused unless this may be asked for now."""
        if now_s >= self.deadline_s:
            raise Refused("the time is over")
        if len(self.tasks) > rules.grant_connections:
            raise Refused("too many connections at once")
        if self.left_bytes <= 0:
            raise Refused(f"the limit of {self.policy.max_mib} MiB is reached")
        ports = rules.connect_ports if method == "CONNECT" else rules.http_ports
        if target.port not in ports:
            raise Refused(f"port {target.port} is not open to {method}")
        if method != "CONNECT" and method not in self.policy.methods:
            raise Refused(f"the method {method} is not allowed")
        if not covers(self.policy.domains, target.host):
            raise Refused("the host is not on this environment's list")


class Grants:
    """All grants of one server."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Grant] = {}

    def add(self, token: Secret, grant: Grant) -> None:
        """Raises ValueError for a token that is too short to be one, or is given already."""
        plain = token.reveal().encode()
        digest = hashlib.sha256(plain).digest()
        if not 32 <= len(plain) <= _TOKEN_MAX or digest in self._by_digest:
            raise ValueError("an egress token has 32 to 512 characters and is given once")
        self._by_digest[digest] = grant

    def remove(self, name: str) -> list[Grant]:
        """Takes the grants of that name out."""
        gone = {digest: grant for digest, grant in self._by_digest.items() if grant.name == name}
        for digest in gone:
            del self._by_digest[digest]
        return list(gone.values())

    def all(self) -> list[Grant]:
        return list(self._by_digest.values())

    def of(self, head: Head, now_s: float) -> Grant | None:
        """Whose head this is, by ``Proxy-Authorization: Basic <anything>:<token>``; None: nobody's."""
        values = head.values("proxy-authorization")
        if len(values) != 1:
            return None
        scheme, _, coded = values[0].partition(" ")
        try:
            _, colon, token = base64.b64decode(coded.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        if scheme.lower() != "basic" or not colon or len(token) > _TOKEN_MAX:
            return None
        grant = self._by_digest.get(hashlib.sha256(token).digest())
        return grant if grant is not None and now_s < grant.deadline_s else None


def covers(domains: tuple[str, ...], host: str) -> bool:
    """Whether ``host`` (lower case) is one of ``domains`` or below a ``*.`` one."""
    for domain in domains:
        wanted = domain.lower().removesuffix(".")
        if wanted.startswith("*."):
            if host.endswith(wanted[1:]) and len(host) > len(wanted) - 1:
                return True
        elif host == wanted:
            return True
    return False


class Teller:
    """Tells decisions, at most ``rules.told`` per grant. ``report`` must not block or raise."""

    def __init__(self, report: Callable[[Decision], None], rules: EgressRules) -> None:
        self._report = report
        self._rules = rules

    def tell(self, grant: Grant, decision: Decision) -> None:
        grant.told += 1
        if grant.told < self._rules.told:
            self._report(decision)
        elif grant.told == self._rules.told:
            self._report(Decision(grant.name, False, "", 0, "", "more happened than is told here"))
