"""The OpenAPI 3.1 document of the gateway's own APIs, made from their tables of routes.

What a route takes and answers comes from the types that do the taking and answering, so the document cannot say
anything else. Every operation lists the errors of its own and those that its permission, its body and its store bring
with them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from auth.roles import Permission
from gateway.admin.access import CSRF_HEADER, SECURE_COOKIE
from gateway.admin.answers import ErrorAnswer
from gateway.admin.faults import absent
from gateway.admin.routes import ROUTES, Route
from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import CODES

_REF: Final = "#/components/schemas/{name}"
_ANY: Final = ("https_required", "invalid_request", "store_unavailable", "draining", "overloaded", "internal_error")
_GUARDED: Final = ("not_signed_in", "invalid_api_key", "forbidden")
_TASKS: Final = (Permission.TASKS_READ, Permission.TASKS_WRITE)
_BODY: Final = ("invalid_json", "unsupported_media_type", "body_too_large", "request_timeout")


class Described:
    """Serves the document: of the admin API, and of ``more`` where there is more (the tasks of the sandbox)."""

    def __init__(self, version: str, more: Sequence[Route] = ()) -> None:
        self._document = document((*ROUTES, *more), version)

    def handlers(self) -> Handlers:
        return {"openapi": self.show}

    async def show(self, _call: Call) -> Reply:
        return Reply(self._document)


def codes_of(route: Route) -> tuple[str, ...]:
    """Every error code that the route may answer with, its own and those that its shape brings."""
    codes = [*route.errors, *_ANY]
    if route.permission is not None:
        codes += _GUARDED
    if route.changes:
        codes.append("csrf_failed")
    if route.body is not None:
        codes += _BODY
    if route.streamed:
        codes += ("unsupported_media_type", "body_too_large", "request_timeout")
    if "{" in route.path or route.name in ("keys.list", "keys.create"):
        codes.append(absent().code)
    return tuple(dict.fromkeys(codes))


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "codex-relay",
            "version": version,
            "description": "Accounts, logins, tenants, keys, administrators and records of a codex-relay gateway; and, "
            "where it has a sandbox, its tasks and environments.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": SECURE_COOKIE},
                "key": {"type": "http", "scheme": "bearer", "description": "A client key with scope admin."},
                "tasks_key": {"type": "http", "scheme": "bearer", "description": "A client key with scope tasks."},
            },
        },
    }


def _schemas(routes: Iterable[Route]) -> dict[str, Any]:
    models: list[Any] = [ErrorAnswer]
    for route in routes:
        models += [model for model in (route.body, route.answer) if model is not None]
    return msgspec.json.schema_components(models, ref_template=_REF)[1]


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.name.partition(".")[0]],
        "summary": route.text,
        "parameters": list(_parameters(route)),
        "responses": {str(route.status): _answer(route), **_errors(route)},
        "security": [],
    }
    if route.permission is not None:
        key = "tasks_key" if route.permission in _TASKS else "key"
        found["security"] = [{"session": []}] if route.person else [{"session": []}, {key: []}]
        found["x-permission"] = route.permission.value
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": _json(_ref(route.body.__name__))}
    if route.streamed:
        data = {"schema": {"type": "string", "format": "binary"}}
        found["requestBody"] = {"required": True, "content": dict.fromkeys(route.media_in, data)}
    return found


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"\{([a-z]+)\}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    if route.query is not None:
        schema = msgspec.json.schema_components([route.query], ref_template=_REF)[1][route.query.__name__]
        for name, field in schema["properties"].items():
            needed = name in schema.get("required", ())
            yield {"name": name, "in": "query", "required": needed, "schema": _plain(field)}
    if route.changes:
        yield {
            "name": CSRF_HEADER.decode(),
            "in": "header",
            "required": False,
            "description": "The session's csrf_token; not asked of keys, nor where nobody is signed in yet.",
            "schema": {"type": "string"},
        }


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A query has no null: what may be left out is left out."""
    plain = {name: value for name, value in schema.items() if name not in ("default", "anyOf")}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return {**plain, **kinds[0]} if len(kinds) == 1 else dict(schema)


def _answer(route: Route) -> dict[str, Any]:
    if route.answer is None:
        schema = {"type": ["object", "array"]} if route.media == "application/json" else {"type": "string"}
        body = {} if route.status == 204 else {"content": {route.media: {"schema": schema}}}
        return {"description": "Done." if route.status == 204 else "The document.", **body}
    return {"description": route.text, "content": _json(_ref(route.answer.__name__))}


def _errors(route: Route) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes_of(route):
        by_status.setdefault(CODES[code][0], []).append(code)
    return {
        str(status): {"description": ", ".join(codes), "content": _json(_ref(ErrorAnswer.__name__))}
        for status, codes in sorted(by_status.items())
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
