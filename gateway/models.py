"""Names of models: aliases, effort suffixes, and the list that clients see. Pure.

``<model>-<effort>`` asks for a reasoning effort by name. A name that the backend itself knows is never taken apart,
and the part before the suffix must be known, so that ``gpt-5.1-codex-max`` stays the model that it is. While nothing
has been discovered yet, every suffix is understood but ``max`` and ``none``, which end real names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
_SAFE_UNKNOWN: Final = frozenset(EFFORTS) - {"max", "none"}
_CREATED_S: Final = 1_700_000_000
_OWNER: Final = "openai"


class ModelTable:
    """The operator's view of model names. Immutable."""

    def __init__(
        self, aliases: Mapping[str, str] | None = None, hidden: Collection[str] = (), list_efforts: bool = False
    ) -> None:
        self._aliases = dict(aliases or {})
        self._hidden = frozenset(hidden)
        self._list_efforts = list_efforts

    def resolve(self, name: str, known: Collection[str]) -> tuple[str, str | None]:
        """(model to send up, effort or None). ``known`` are the backend's names, empty when not discovered.

        An alias wins over a model of the same name; its target may carry a suffix but is not an alias again.
        """
        target = self._aliases.get(name)
        if target is not None:
            return self._split(target, known)
        if name in known:
            return name, None
        base, effort = self._split(name, known)
        if base in self._aliases:  # <alias>-<effort>: the suffix that was asked for wins over the target's own
            base = self._split(self._aliases[base], known)[0]
        return base, effort

    def _split(self, name: str, known: Collection[str]) -> tuple[str, str | None]:
        base, dash, effort = name.rpartition("-")
        if not dash or effort not in EFFORTS or name in known:
            return name, None
        plausible = base in known or base in self._aliases or (not known and effort in _SAFE_UNKNOWN)
        return (base, effort) if plausible and base else (name, None)

    def hidden(self, slug: str) -> bool:
        """Whether the operator leaves the model out of lists; it can be called all the same."""
        return slug in self._hidden

    def listing(self, entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The discovered entries (the backend's own objects) and the aliases in OpenAI's shape.

        Left out: what the operator hides and what the backend marks with a visibility other than ``list``.
        """
        data: list[dict[str, Any]] = []
        shown: set[str] = set()

        def show(name: str) -> None:
            if name not in shown and name not in self._hidden:
                shown.add(name)
                data.append({"id": name, "object": "model", "created": _CREATED_S, "owned_by": _OWNER})

        for entry in entries:
            slug = entry.get("slug")
            if not isinstance(slug, str) or not slug or entry.get("visibility", "list") != "list":
                continue
            show(slug)
            if self._list_efforts and slug not in self._hidden:
                for effort in _efforts(entry):
                    show(f"{slug}-{effort}")
        for alias in self._aliases:
            show(alias)
        return {"object": "list", "data": data}


def _efforts(entry: Mapping[str, Any]) -> list[str]:
    levels = entry.get("supported_reasoning_levels")
    if not isinstance(levels, list):
        return []
    named = [level.get("effort") if isinstance(level, Mapping) else level for level in levels]
    return [effort for effort in named if isinstance(effort, str) and effort in EFFORTS]
