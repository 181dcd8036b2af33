"""What comes in is exactly what the route takes, or a 400 that names the member."""

from __future__ import annotations

from typing import Any

import pytest

from auth.roles import Role
from gateway.admin.reading import refused
from gateway.admin.routes import API
from tests.gateway.admin.rig import House

BODIES: list[tuple[Any, str, str | None]] = [
    (b"", "invalid_json", None),
    (b"{", "invalid_json", None),
    (b'{"name":"a"}x', "invalid_json", None),
    (b'{"name":NaN}', "invalid_json", None),
    (b'{"name":"\xff"}', "invalid_json", None),
    (b'{"name":"\\ud800"}', "invalid_json", None),
    (b"\xef\xbb\xbf{}", "invalid_json", None),
    (b"[]", "invalid_request", None),
    (b"null", "invalid_request", None),
    ({}, "invalid_request", "name"),
    ({"name": 1}, "invalid_request", "name"),
    ({"name": ""}, "invalid_request", "name"),
    ({"name": "x" * 65}, "invalid_request", "name"),
    ({"name": "a\nb"}, "invalid_request", "name"),
    ({"name": "a\n"}, "invalid_request", "name"),
    ({"name": "a\u202eb"}, "invalid_request", "name"),
    ({"name": "a", "id": "ten-1"}, "invalid_request", "id"),
    ({"name": "a", "enabled": True}, "invalid_request", "enabled"),
    ({"name": "a", "limits": {"requests_per_minute": 0}}, "invalid_request", "limits.requests_per_minute"),
    ({"name": "a", "limits": {"tokens": 1}}, "invalid_request", "limits.tokens"),
    ({"name": "a", "pools": ["ok", "../x"]}, "invalid_request", "pools[1]"),
    ({"name": "a", "pools": ["p"] * 65}, "invalid_request", "pools"),
]


@pytest.mark.parametrize(("body", "code", "param"), BODIES)
async def test_a_body_is_refused_by_the_name_of_its_fault(body: Any, code: str, param: str | None) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    line = await house.ask("POST", f"{API}/tenants", owner, body)
    assert (line.status, line.code, line.json["error"]["param"]) == (400, code, param)
    assert len(await house.store.tenants()) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": ""},
        {"content-encoding": "gzip"},
    ],
)
async def test_what_a_form_could_send_is_not_taken(headers: dict[str, str]) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    assert (await house.ask("POST", f"{API}/tenants", owner, {"name": "a"}, headers=headers)).status == 415


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("accounts", "x=1", "x"),
        ("audit", "limit=0", "limit"),
        ("audit", "limit=1001", "limit"),
        ("audit", "limit=ten", "limit"),
        ("audit", "limit=1&limit=2", None),
        ("audit", "since_at_s=nan", "since_at_s"),
        ("audit", "since_at_s=1e400", "since_at_s"),
        ("audit", "action=%25%25%25", "action"),
        ("audit", "who=me", "who"),
        ("audit", "after_seq=-1", "after_seq"),
        ("audit", "tenant=%ff", None),
        ("keys", "tenant=", "tenant"),
    ],
)
async def test_a_query_is_refused_by_the_name_of_its_fault(path: str, query: str, param: str | None) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    line = await house.ask("GET", f"{API}/{path}", owner, query=query)
    assert (line.status, line.code, line.json["error"]["param"]) == (400, "invalid_request", param)


async def test_a_call_without_a_body_takes_none_but_an_empty_object() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    path = f"{API}/accounts/acct-1/probe"
    assert (await house.ask("POST", path, owner, {})).status == 200
    assert (await house.ask("POST", path, owner, {"force": True})).status == 400


def test_the_words_of_a_refusal_are_short() -> None:
    error = refused("Object contains unknown field `" + "x" * 5000 + "`")
    assert len(error.message) <= 201
    assert len(error.param or "") == 200
