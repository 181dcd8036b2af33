"""Is what came in exactly what the route takes? Bodies and queries become values of their models, or a 400 with
``param``.

A body is one JSON object in UTF-8, sent as ``application/json`` and not encoded in any way. A route without a model
takes no body (``{}`` counts as none). A name that comes twice in a query is refused; of a JSON object the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from gateway.admin.routes import Route
from gateway.departure import Receive
from gateway.errors import GatewayError
from gateway.guard import read_body, values_of

_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*?)`(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_AT: Final = re.compile(r" - at `\$\.?(.*)`$", re.DOTALL)
_LONGEST: Final = 200
_MOST_PARAMETERS: Final = 32


async def read(route: Route, scope: Mapping[str, Any], receive: Receive) -> msgspec.Struct | None:
    """The body of the request. Raises GatewayError and ClientGone."""
    data = await read_body(receive, route.max_body_bytes)
    if route.body is None:
        if data.strip() not in (b"", b"{}"):
            raise GatewayError.invalid("This call takes no body.")
        return None
    kind = values_of(scope["headers"], b"content-type")
    media = kind[0].partition(b";")[0].strip().lower() if len(kind) == 1 else b""
    if media != b"application/json" or values_of(scope["headers"], b"content-encoding"):
        raise GatewayError("unsupported_media_type", "Send the body as application/json, plain.")
    try:
        return msgspec.json.decode(data, type=route.body)
    except msgspec.ValidationError as error:
        raise refused(str(error)) from None
    except RecursionError:
        raise GatewayError.invalid_json("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise GatewayError.invalid_json("it is not valid UTF-8") from None
    except msgspec.DecodeError as error:
        raise GatewayError.invalid_json(str(error).removeprefix("JSON is malformed: ")) from None


def query_of(route: Route, query_string: bytes) -> msgspec.Struct | None:
    """The query of the request; a route without a model takes none. Raises GatewayError."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict"
        )
    except ValueError:
        raise GatewayError.invalid("The query cannot be read.") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise GatewayError.invalid("A name comes twice in the query.")
    if route.query is None:
        if values:
            raise GatewayError.invalid("This call takes no query.", min(values)[:_LONGEST])
        return None
    try:
        return msgspec.convert(values, type=route.query, strict=False)
    except msgspec.ValidationError as error:
        raise refused(str(error)) from None


def refused(text: str) -> GatewayError:
    """A 400 out of msgspec's words; ``param`` is the path of the member."""
    param: str | None = None
    for pattern in (_UNKNOWN, _MISSING):
        if match := pattern.match(text):
            param = f"{match[2]}.{match[1]}" if match[2] else match[1]
    if param is None and (match := _AT.search(text)):
        param = match[1]
    message = _AT.sub("", text)[:_LONGEST]
    return GatewayError.invalid(f"{message}." if message else "Not acceptable.", param[:_LONGEST] if param else None)
