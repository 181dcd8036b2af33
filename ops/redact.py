"""What must never be written, and how it is taken out: one place for logs, errors, evidence and audit details.

Rules that hold:

* what looks like a credential is masked wherever it stands in a text: bearer values, gateway keys, refresh tokens,
  JSON web tokens, ``sk-`` keys, passwords in URLs, ``name=value`` pairs with a telling name, long base64 runs;
* a field with a telling name (authorization, cookie, ``*_token``, ``*_secret`` ...) is masked whatever it holds;
* what does not print (control characters, bidirectional overrides, lone surrogates) is shown escaped, so that a
  text cannot forge a line or drive a terminal;
* a field holds at most 1 KB, a container at most 64 items and 4 levels; bytes are never shown, only counted;
* work is bounded: of a long text only its first 4 KB are looked at, and all patterns are linear.

Masking is the second fence. The first is that nobody passes a secret here: store.records.Secret does not show
itself. A fragment of a secret without a telling prefix, shorter than 72 characters, cannot be told from an id.

Pure functions; imports nothing of the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence, Set
from enum import Enum
from functools import lru_cache
from typing import Any, Final

MASK: Final = "[secret]"
FIELD_BYTES: Final = 1024
_LOOKED_AT: Final = 4096
_MAX_ITEMS: Final = 64
_MAX_DEPTH: Final = 4

_FIELDS: Final = frozenset(
    {
        "authorization", "proxy-authorization", "proxy_authorization", "cookie", "set-cookie", "set_cookie",
        "api_key", "api-key", "x-api-key", "apikey", "auth", "bearer", "password", "passwd", "secret", "token",
        "access_token", "refresh_token", "id_token", "client_secret", "code_verifier", "device_code", "user_code",
        "session", "csrf", "credential", "credentials", "private_key", "vault_key",
    }
)  # fmt: skip
_FIELD_ENDINGS: Final = ("_token", "_secret", "_password", "-token", "-secret", "token", "secret", "apikey")

_TELLING: Final = (
    r"access_token|refresh_token|id_token|client_secret|api[_-]?key|password|passwd|code_verifier|device_code"
    r"|authorization"
)
_SECRETS: Final = re.compile(
    rf"""
      (?P<name>\b(?:{_TELLING})\b["']?\s*[:=]\s*["']?)(?:bearer\s+|basic\s+)?[^\s"',;&]+
    | (?P<jar>\b(?:set-)?cookie["']?\s*[:=]\s*)[^\r\n]+
    | (?P<scheme>\bbearer\s+)[^\s"',;]+
    | (?P<door>at-cr-)[A-Za-z0-9_\-]+
    | (?P<lead>(?<![A-Za-z0-9])(?:rt[_.\-]|sk-))[A-Za-z0-9._~\-]{{6,}}
    | eyJ[A-Za-z0-9_\-]{{8,}}(?:\.[A-Za-z0-9_\-]*){{0,2}}
    | (?P<url>://)[^\s/@:]*:[^\s/@]+(?=@)
    | (?P<run>[A-Za-z0-9+/_\-]{{72,}}={{0,2}})
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Every secret that the patterns know begins with, or holds, one of these (in lower case), or is a long run.
_MARKS: Final = (
    "eyj", "at-cr-", "rt_", "rt.", "rt-", "sk-", "bearer", "cookie", "://", "authorization", "passw", "_token",
    "secret", "apikey", "api_key", "api-key", "_verifier", "_code",
)  # fmt: skip
_LONG: Final = 72
_RUN_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-=.~"


def text(value: str) -> str:
    """``value`` with secrets masked, unprintable characters escaped, cut to 1 KB of UTF-8."""
    if len(value) > _LOOKED_AT:
        # The run at the cut may be half a secret, which no pattern would know.
        value = value[:_LOOKED_AT].rstrip(_RUN_CHARACTERS) + " [cut]"
    if len(value) >= _LONG or _suspect(value):
        value = _SECRETS.sub(_masked, value)
    if not value.isprintable():
        value = _escaped(value)
    return _capped(value)


def value(given: Any) -> Any:
    """A copy of ``given`` that is safe to serialise: scalars, texts as by :func:`text`, containers item by item.

    Objects that are none of these become their masked ``str``. Enums become their value.
    """
    return _value(given, 0)


def fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with every field redacted; a telling field name masks whatever the field holds."""
    return {name: _field(name, item, 0) for name, item in given.items()}


def event(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor. Changes ``event_dict`` in place and returns it.

    The common case by far is a handful of short ids, words and paths: they are looked at together, in one pass.
    """
    short: list[str] = []
    for name, item in event_dict.items():
        kind = type(item)
        if _telling(name):
            event_dict[name] = None if item is None else MASK
        elif kind is str:
            if len(item) < _LONG:
                short.append(item)
            else:
                event_dict[name] = text(item)
        elif kind is not int and kind is not float and kind is not bool and item is not None:
            event_dict[name] = _value(item, 0)
    together = " ".join(short)
    if _suspect(together) or not together.isprintable():
        for name, item in event_dict.items():
            if type(item) is str and len(item) < _LONG:
                event_dict[name] = text(item)
    return event_dict


def _suspect(value: str) -> bool:
    lowered = value.lower()
    return any(map(lowered.__contains__, _MARKS))


@lru_cache(maxsize=1024)
def _telling(name: str) -> bool:
    lowered = name.lower()
    return lowered in _FIELDS or lowered.endswith(_FIELD_ENDINGS)


def _field(name: str, item: Any, depth: int) -> Any:
    if _telling(name):
        return None if item is None else MASK
    return _value(item, depth)


def _value(item: Any, depth: int) -> Any:
    if isinstance(item, Enum):
        item = item.value
    if item is None or isinstance(item, bool | int | float):
        return item
    if isinstance(item, str):
        return text(item)
    if isinstance(item, bytes | bytearray | memoryview):
        return f"[{len(item)} bytes]"
    if depth >= _MAX_DEPTH:
        return "[deep]"
    if isinstance(item, Mapping):
        pairs = list(item.items())[:_MAX_ITEMS]
        return {text(str(name)): _field(str(name), member, depth + 1) for name, member in pairs}
    if isinstance(item, Sequence | Set):
        return [_value(member, depth + 1) for member in list(item)[:_MAX_ITEMS]]
    return text(str(item))


def _masked(found: re.Match[str]) -> str:
    if found.lastgroup == "run":
        return found.group() if _is_words(found.group()) else MASK
    lead = found.group(found.lastgroup) if found.lastgroup else ""
    return f"{lead}{MASK}"


def _is_words(run: str) -> bool:
    """A path or a hyphenated name: several separators and few capitals, of which random base64 has two in five."""
    separators = sum(map(run.count, "/-_"))
    capitals = sum(map(str.isupper, run))
    return separators >= 3 and capitals * 7 < len(run) and "+" not in run


def _escaped(value: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)


def _capped(value: str) -> str:
    if len(value) <= FIELD_BYTES // 4:
        return value
    raw = value.encode("utf-8")
    if len(raw) <= FIELD_BYTES:
        return value
    mark = f" [+{len(raw) - FIELD_BYTES} bytes]"
    return raw[: FIELD_BYTES - len(mark)].decode("utf-8", "ignore") + mark
