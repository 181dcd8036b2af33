"""Which entry of the backend's list is ours, and which origin may get a token."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from auth.check import AccountCheck, normal_origin, sole_entry
from auth.errors import ImportRefused


@dataclass(frozen=True)
class Entry:
    account_id: str
    plan: str | None = "pro"
    workspace_origin: str | None = None
    routing_override: str | None = "us"


def test_the_one_entry_of_the_account_is_taken() -> None:
    assert sole_entry([Entry("a"), Entry("b", "team")], "b") == AccountCheck("team", None, "us")


@pytest.mark.parametrize("entries", [[], [Entry("a")], [Entry("b"), Entry("b")]])
def test_none_or_two_entries_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(ImportRefused) as refused:
        sole_entry(entries, "b")
    assert refused.value.code == "account_not_listed"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Host.Example:443/", "https://host.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("https://host/path", None),
        ("https://host?x", None),
        ("https://user@host", None),
        ("https://host\\@evil", None),
        ("https://host:99999", None),
        ("ftp://host", None),
        ("https://", None),
        ("host", None),
        ("https://h\u00f6st", None),
    ],
)
def test_an_origin_is_scheme_host_and_port_and_nothing_else(url: str, origin: str | None) -> None:
    assert normal_origin(url) == origin
