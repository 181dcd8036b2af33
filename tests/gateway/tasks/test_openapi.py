"""Tasks stand in the one OpenAPI document with a tag and a key of their own, and answer as it says."""

from __future__ import annotations

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.admin.openapi import codes_of, document
from gateway.admin.routes import ROUTES as ADMIN
from gateway.admin.routes import Route
from gateway.errors import CODES
from gateway.tasks.routes import REST
from tests.gateway.tasks.good import good
from tests.gateway.tasks.rig import TaskHouse

TOLD = msgspec.json.decode(msgspec.json.encode(document((*ADMIN, *REST), "1")))


def test_it_is_valid_and_has_both() -> None:
    OpenAPIV31SpecValidator(TOLD).validate()
    create = TOLD["paths"]["/v1/tasks"]["post"]
    assert create["tags"] == ["tasks"]
    assert create["security"] == [{"session": []}, {"tasks_key": []}]
    assert TOLD["paths"]["/admin/api/accounts"]["get"]["security"] == [{"session": []}, {"key": []}]
    assert all(set(codes_of(route)) <= set(CODES) for route in REST)


@pytest.mark.parametrize("route", REST, ids=lambda route: route.name)
async def test_an_answer_is_what_the_document_says(house: TaskHouse, route: Route) -> None:
    request = await good(route, house)
    headers = {} if request.kind is None else {"content-type": request.kind}
    line = await house.ask(route.method, request.path(route), house.one, request.body, headers=headers)
    answer = TOLD["paths"][route.path][route.method.lower()]["responses"][str(line.status)]
    assert ("content" in answer) == (line.status != 204)
    if "application/json" in answer.get("content", {}):
        schema = answer["content"]["application/json"]["schema"] | {"components": TOLD["components"]}
        jsonschema.Draft202012Validator(schema).validate(line.json)
