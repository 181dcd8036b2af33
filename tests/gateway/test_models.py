"""Names of models: what a client may write, and what goes up."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from gateway.models import ModelTable

KNOWN = frozenset({"gpt-5.5", "gpt-5.1-codex", "gpt-5.1-codex-max", "codex-none"})
TABLE = ModelTable({"fast": "gpt-5.5-low", "best": "gpt-5.1-codex-max", "gpt-old": "gpt-5.5"}, hidden={"codex-none"})


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("gpt-5.5", KNOWN, ("gpt-5.5", None)),
        ("gpt-5.5-high", KNOWN, ("gpt-5.5", "high")),
        ("gpt-5.5-none", KNOWN, ("gpt-5.5", "none")),
        ("gpt-5.1-codex-max", KNOWN, ("gpt-5.1-codex-max", None)),
        ("gpt-5.1-codex-max-high", KNOWN, ("gpt-5.1-codex-max", "high")),
        ("codex-none", KNOWN, ("codex-none", None)),
        ("fast", KNOWN, ("gpt-5.5", "low")),
        ("fast-high", KNOWN, ("gpt-5.5", "high")),
        ("best", KNOWN, ("gpt-5.1-codex-max", None)),
        ("gpt-old-xhigh", KNOWN, ("gpt-5.5", "xhigh")),
        ("unknown-high", KNOWN, ("unknown-high", None)),
        ("high", KNOWN, ("high", None)),
        ("-high", KNOWN, ("-high", None)),
        ("gpt-9-high", frozenset(), ("gpt-9", "high")),
        ("gpt-5.1-codex-max", frozenset(), ("gpt-5.1-codex-max", None)),
        ("-high", frozenset(), ("-high", None)),
    ],
)
def test_a_name_resolves(name: str, known: Collection[str], expected: tuple[str, str | None]) -> None:
    assert TABLE.resolve(name, known) == expected


def ids(listing: dict[str, Any]) -> list[str]:
    return [model["id"] for model in listing["data"]]


def test_the_list_has_the_openai_shape_without_hidden_models() -> None:
    entries: list[dict[str, Any]] = [
        {"slug": "gpt-5.5", "visibility": "list"},
        {"slug": "secret", "visibility": "hide"},
        {"slug": "codex-none"},
        {"slug": "gpt-5.5"},
        {"slug": 5},
        {},
    ]
    listing = TABLE.listing(entries)
    assert listing["object"] == "list"
    assert ids(listing) == ["gpt-5.5", "fast", "best", "gpt-old"]
    assert {"id", "object", "created", "owned_by"} == set(listing["data"][0])
    assert TABLE.hidden("codex-none")


def test_effort_names_are_listed_when_asked_for() -> None:
    table = ModelTable(list_efforts=True)
    entry: dict[str, Any] = {
        "slug": "m",
        "supported_reasoning_levels": [{"effort": "low", "description": ""}, {"effort": 5}, "high"],
    }
    assert ids(table.listing([entry, {"slug": "n", "supported_reasoning_levels": "x"}])) == [
        "m",
        "m-low",
        "m-high",
        "n",
    ]
