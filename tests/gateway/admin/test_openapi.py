"""The document is OpenAPI 3.1, says every route and every code, and is served to who has signed in."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from auth.roles import Role
from gateway.admin.openapi import codes_of, document
from gateway.admin.routes import API, ROUTES, Route
from gateway.errors import CODES
from tests.gateway.admin.good import GOOD
from tests.gateway.admin.rig import House


async def served() -> dict[str, Any]:
    house = await House().furnish()
    found = (await house.ask("GET", f"{API}/openapi.json", await house.person("any", Role.MEMBER, "ten-1"))).json
    assert isinstance(found, dict)
    return found


async def test_the_document_is_valid_and_has_every_route() -> None:
    told = await served()
    OpenAPIV31SpecValidator(told).validate()
    operations = {(method.upper(), path) for path, methods in told["paths"].items() for method in methods}
    assert operations == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        operation = told["paths"][route.path][route.method.lower()]
        assert operation["security"] == [] if route.permission is None else operation["x-permission"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_an_answer_is_what_the_document_says(route: Route) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER, password=True)
    good = await GOOD[route.name](house, owner)
    line = await house.ask(
        route.method, route.path.replace("{id}", good.target), owner, good.body, query=good.query
    )  # fmt: skip
    told = document(ROUTES, "1")
    answer = told["paths"][route.path][route.method.lower()]["responses"][str(line.status)]
    assert ("content" in answer) == (line.status != 204)
    if "content" in answer:
        schema = answer["content"]["application/json"]["schema"] | {"components": told["components"]}
        jsonschema.Draft202012Validator(schema).validate(line.json)


def test_every_code_of_a_route_is_a_code() -> None:
    for route in ROUTES:
        assert set(codes_of(route)) <= set(CODES), route.name
    used = {code for route in ROUTES for code in codes_of(route)}
    assert {"not_signed_in", "csrf_failed", "https_required", "last_owner", "login_throttled", "link_invalid"} <= used
