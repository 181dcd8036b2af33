"""What travels through the gateway: one request as parsed, and the settings it is handled by."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from auth.types import Caller
from gateway.adapt import Adapted
from upstream.types import RawHeaders


class Dialect(StrEnum):
    """Which kind of client speaks: it decides heartbeats and identity headers."""

    SDK = "sdk"
    CODEX = "codex"


NOTHING = Adapted(model="", requested_model="", stream=True, head=b"", input=b"")


@dataclass(slots=True)
class RelayRequest:
    """One model call as the client meant it, already adapted to what the backend accepts. Not changed by anybody
    but for ``let_go``.

    ``adapted`` is the body without the per-account installation id (see adapt.with_installation). ``owners`` are
    tenant-salted digests of the turn's encrypted parts and turn-state, newest first. ``affinity`` is a tenant-salted
    digest or None. ``adaptations`` are the words of the ``x-relay-adapted`` header. ``deadline_s`` is monotonic.
    """

    id: str
    caller: Caller
    model: str
    requested_model: str
    adapted: Adapted
    headers: RawHeaders
    affinity: bytes | None
    owners: tuple[bytes, ...]
    stream: bool
    dialect: Dialect
    deadline_s: float
    adaptations: tuple[str, ...] = ()
    echo: dict[str, object] = field(default_factory=dict)

    def let_go(self) -> None:
        """After the commit nothing is sent again: the body need not be kept for as long as the stream runs."""
        self.adapted = NOTHING
        self.headers = []
