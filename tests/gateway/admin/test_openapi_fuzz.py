"""The document against the API, by schemathesis: what it allows is taken or refused by its rules, what it forbids is
refused, and nothing is ever a fault of ours, whoever asks.

Each example meets a furnished house of its own. As an owner every operation is seen to do what it is for; as every
lesser role every example of a forbidden operation is a 403.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote, urlencode

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from auth.roles import Role
from gateway.admin.openapi import document
from gateway.admin.routes import ROUTES, Route
from tests.fakes.line import Line
from tests.gateway.admin.good import GOOD
from tests.gateway.admin.rig import HOST, House
from tests.gateway.admin.test_routes import expected, someone

pytestmark = pytest.mark.slow
load_all_checks()
CHECKED: Any = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    )
]  # fmt: skip
SCHEMA = schemathesis.openapi.from_dict(document(ROUTES, "1"))
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
PHASES = (Phase.explicit, Phase.generate)
TAKING = [route for route in ROUTES if route.body or route.query]
WAYS = [(one, GenerationMode.POSITIVE) for one in ROUTES] + [(one, GenerationMode.NEGATIVE) for one in TAKING]
LESSER = (Role.ADMIN, Role.AUDITOR, Role.MEMBER, "bound admin", "admin key", "relay key", "nobody")


async def asked(route: Route, case: Case[Any], who: Role | str, *, own_id: bool) -> tuple[Line, str]:
    """One example in a house of its own; the answer and the path that was asked for."""
    house = await House().furnish()
    await house.person("the-first", Role.OWNER)
    acting = await someone(house, who)
    given_id = str((case.path_parameters or {}).get("id", "x"))
    if own_id and "{id}" in route.path:
        given_id = (await GOOD[route.name](house, acting)).target
    path = route.path.replace("{id}", unquote(given_id))
    body = case.body if isinstance(case.body, bytes | dict | list | str | int | float | bool) else None
    query = urlencode(case.query or {}, doseq=True)
    line = await house.ask(route.method, path, acting, body, query=query)
    assert house.crashes == []
    return line, path


def checked(case: Case[Any], line: Line, path: str) -> None:
    request = httpx.Request(case.method, f"http://{HOST}{quote(path)}")
    headers = [(name, value) for name, value in line.messages[0]["headers"]]
    response = httpx.Response(line.status, headers=headers, content=line.body, request=request)
    response.elapsed = timedelta(0)  # nothing was sent, so nothing measured it
    case.validate_response(response, checks=CHECKED)


@pytest.mark.parametrize(("route", "mode"), WAYS, ids=lambda one: getattr(one, "name", str(one)))
def test_what_the_document_says_is_what_an_owner_meets(route: Route, mode: GenerationMode) -> None:
    operation: Any = SCHEMA[route.path][route.method]
    seen: list[int] = []

    @settings(max_examples=3, phases=PHASES, **QUIET)  # type: ignore[arg-type]
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Case[Any]) -> None:
        line, path = asyncio.run(asked(route, case, Role.OWNER, own_id=len(seen) % 2 == 0))
        seen.append(line.status)
        if "{id}" not in route.path or path.count("/") == route.path.count("/"):
            checked(case, line, path)

    try:
        run()
    except Exception as error:
        if type(error).__name__ not in ("Unsatisfiable", "InvalidArgument"):
            raise
        assert mode is GenerationMode.NEGATIVE, "what an operation takes can always be made"
    else:
        assert seen


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_operation_does_what_it_is_for_when_an_owner_asks(route: Route) -> None:
    async def run() -> int:
        house = await House().furnish()
        owner = await house.person("root", Role.OWNER, password=True)
        good = await GOOD[route.name](house, owner)
        line = await house.ask(
            route.method, route.path.replace("{id}", good.target), owner, good.body, query=good.query
        )  # fmt: skip
        operation: Any = SCHEMA[route.path][route.method]
        checked(operation.Case(path_parameters={"id": good.target}), line, route.path)
        return line.status

    assert 200 <= asyncio.run(run()) < 300


@pytest.mark.parametrize("who", LESSER, ids=str)
def test_no_example_gets_a_lesser_role_where_the_table_does_not_let_it(who: Role | str) -> None:
    for route in ROUTES:
        run_as(who, route)


def run_as(who: Role | str, route: Route) -> None:
    operation: Any = SCHEMA[route.path][route.method]
    wanted = expected(route, who)

    @settings(max_examples=2, phases=PHASES, **QUIET)  # type: ignore[arg-type]
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def run(case: Case[Any]) -> None:
        line, _ = asyncio.run(asked(route, case, who, own_id=True))
        assert line.status < 500
        if wanted in (401, 403):
            assert line.status == wanted, (route.name, line.body)

    run()
