"""Is this body one JSON object, by the letter of RFC 8259? And what are its top-level members?

One pass of msgspec checks the syntax of everything and leaves the values of the top level as they are. It refuses
NaN and Infinity, trailing bytes, byte order marks, other encodings, lone surrogates, wrong top-level types, and
nesting beyond the interpreter's recursion limit, none of which can hurt: its recursion is counted. What it does
not look at is the UTF-8 of nested strings; a second, cheap pass does.

Of duplicate names the last wins. Whoever sends the members on encodes them anew, so that a duplicate at the top
level can never mean one thing here and another thing upstream. Numbers of nested values are never computed with.
"""

from __future__ import annotations

import codecs
from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import GatewayError

_DECODER: Final = msgspec.json.Decoder(dict[str, Raw])
_PIECE_BYTES: Final = 256 * 1024
_BOM: Final = codecs.BOM_UTF8


def parse_object(body: bytes) -> dict[str, Raw]:
    """The members of the object by name. The values are views into ``body``.

    Raises GatewayError ``invalid_json``. Time is linear in the length, refusals included.
    """
    if not body.isascii():
        _check_utf8(body)
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError:
        raise GatewayError.invalid_json("the top level is not an object") from None
    except RecursionError:
        raise GatewayError.invalid_json("it is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise GatewayError.invalid_json(_why(body, error)) from None


def _why(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "it is empty"
    if body.startswith(_BOM):
        return "it begins with a byte order mark"
    return str(error).removeprefix("JSON is malformed: ")


def _check_utf8(body: bytes) -> None:
    """In pieces, so that a large body is never held a second time as text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        if len(body) <= _PIECE_BYTES:
            decoder.decode(body, True)
            return
        view = memoryview(body)
        for start in range(0, len(body), _PIECE_BYTES):
            decoder.decode(view[start : start + _PIECE_BYTES])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        raise GatewayError.invalid_json("it is not valid UTF-8") from None
