"""Who is calling. Pure data; never the key itself."""

from __future__ import annotations

from dataclasses import dataclass

from store.records import Limits


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. ``models`` empty: every model. ``pools`` empty: every pool."""

    tenant_id: str
    tenant_name: str
    key_id: str
    scopes: frozenset[str]
    models: tuple[str, ...]
    pools: tuple[str, ...]
    key_limits: Limits
    tenant_limits: Limits
