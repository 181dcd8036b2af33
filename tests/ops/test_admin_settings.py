"""Settings of the administrators' doors that would leave them open, or shut for everybody, refuse the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ops.sections.admin import AdminSettings, OidcSettings


def test_the_defaults_hold() -> None:
    assert OidcSettings().issuer is None
    assert AdminSettings().session_idle_s < AdminSettings().session_max_s


def test_a_session_cannot_be_idle_longer_than_it_lives() -> None:
    AdminSettings(session_idle_s=60, session_max_s=60)
    with pytest.raises(ValidationError, match="make it shorter"):
        AdminSettings(session_idle_s=61, session_max_s=60)


@pytest.mark.parametrize(
    "issuer", ["https://id.example", "https://id.example/realms/a/", "http://127.0.0.1:4000", "http://localhost:1"]
)
def test_an_issuer_is_taken(issuer: str) -> None:
    assert OidcSettings(issuer=issuer).issuer == issuer


@pytest.mark.parametrize(
    "values",
    [
        {"issuer": "http://id.example"},
        {"issuer": "id.example"},
        {"issuer": ""},
        {"issuer": "https://id.example/?a=b"},
        {"issuer": "https://id.example/#a"},
        {"issuer": "https://user:secret@id.example"},
        {"scopes": ("email",)},
        {"scopes": ("openid", "a b")},
        {"scopes": ("openid", "")},
        {"roles": {"staff": "root"}},
    ],
    ids=str,
)
def test_what_is_not_safe_to_ask_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OidcSettings(**values)
