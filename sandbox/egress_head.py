"""What does a container ask for? The heads of its requests, read once and strictly.

A container is hostile, and what is read here is passed on byte for byte to somebody who reads it again. So whatever two
readers could take for different things is refused, never mended. Rules that hold:

* lines end in CRLF and nowhere else; no folded lines, no blanks round names, no control characters;
* the length of a body is said once: one plain Content-Length, or ``chunked`` alone;
* a connection is a proxy's or the gateway's from its first head on (``Proxy-Authorization`` there or not), for good;
* of the gateway a container may ask POST /v1/responses, the models and the health, whatever key it has got hold of.

Pure. Who may go where is in egress_policy, the connections are in egress.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

HEAD_MAX: Final = 32 * 1024
FIELDS_MAX: Final = 100

_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,8192}) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}):[ \t]*([\x20-\x7e\t\x80-\xff]*?)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_AUTHORITY: Final = re.compile(r"(?:([A-Za-z0-9.-]{1,253})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?")
_MODELS: Final = re.compile(r"/v1/models(/[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*)?(\?[A-Za-z0-9._=&-]*)?")
_PATH: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]*")
_FORWARDED: Final = ("forwarded", "x-forwarded-", "x-real-ip", "x-client-ip")
_HOP: Final = frozenset(
    {
        "connection",
        "proxy-connection",
        "keep-alive",
        "te",
        "upgrade",
        "host",
        "proxy-authorization",
        "proxy-authenticate",
    }
)


class BadHead(Exception):
    """The head is not passed on; ``status`` is the answer's. str() is one line for the one who asked."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """One request's head. Names in ``fields`` are lower case, in order; ``raw`` are its bytes with the empty line.

    ``length`` is that of the body, 0 without one, None: chunked.
    """

    method: str
    target: str
    minor: int
    fields: tuple[tuple[str, str], ...]
    length: int | None
    raw: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    @property
    def is_proxied(self) -> bool:
        """Whether this connection is one to the proxy."""
        return any(name == "proxy-authorization" for name, _ in self.fields)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a proxy request leads. ``host`` is lower case without a dot at its end; ``path`` is empty for CONNECT."""

    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"


def parse_head(raw: bytes) -> Head:
    """``raw`` ends with the empty line. Raises BadHead."""
    first, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise BadHead("the request line is not one of HTTP/1.1")
    if len(lines) > FIELDS_MAX:
        raise BadHead("too many header fields", 431)
    fields = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadHead("a header field is malformed")
        fields.append((field[1].decode().lower(), field[2].decode("latin-1")))
    named = [name for name, _ in fields]
    if named.count("host") > 1 or (named.count("host") == 0 and match[3] == b"1"):
        raise BadHead("a request has exactly one Host header")
    return Head(match[1].decode(), match[2].decode(), int(match[3]), tuple(fields), _length(fields, match[3]), raw)


def _length(fields: list[tuple[str, str]], minor: bytes) -> int | None:
    codings = [value for name, value in fields if name == "transfer-encoding"]
    lengths = [value for name, value in fields if name == "content-length"]
    if codings:
        if codings != ["chunked"] or lengths or minor == b"0":
            raise BadHead("the length of the body is said in a way that can be misread")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0].encode("latin-1")) is None:
        raise BadHead("Content-Length must be one plain number")
    return int(lengths[0])


def check_for_gateway(head: Head) -> None:
    """Raises BadHead (403) unless a container may ask this of the gateway."""
    if head.is_proxied:
        raise BadHead("this connection is one to the gateway", 403)
    if any(name.startswith(_FORWARDED) for name, _ in head.fields):
        raise BadHead("a container does not say for whom it asks", 403)
    if any(name == "upgrade" for name, _ in head.fields):
        raise BadHead("nothing can be upgraded to here", 403)
    asked = (head.method, head.target)
    if asked in (("POST", "/v1/responses"), ("GET", "/healthz")):
        return
    if head.method == "GET" and _MODELS.fullmatch(head.target):
        return
    raise BadHead("a container may ask for POST /v1/responses, GET /v1/models and GET /healthz alone", 403)


def proxy_target(head: Head) -> Target:
    """Where CONNECT or an absolute-form request leads. Raises BadHead."""
    if head.method == "CONNECT":
        if head.length != 0:
            raise BadHead("CONNECT has no body")
        target = _authority(head.target, None)
        if not target.port:
            raise BadHead("CONNECT names a host and a port")
        return target
    if not head.target.lower().startswith("http://"):
        raise BadHead("the proxy takes CONNECT and http:// addresses")
    rest = head.target[len("http://") :]
    cut = min((at for at in (rest.find("/"), rest.find("?"), rest.find("#")) if at >= 0), default=len(rest))
    target = _authority(rest[:cut], 80)
    path = rest[cut:]
    if path and not path.startswith("/"):
        path = f"/{path}"
    if "#" in path or _PATH.fullmatch(path) is None or urlsplit(head.target).hostname != target.host.rstrip("."):
        raise BadHead("the address can be misread")
    return Target(target.host, target.port, path or "/")


def _authority(text: str, default: int | None) -> Target:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise BadHead("the address names no host that can be asked for")
    port = int(match[3]) if match[3] else default or 0
    if port > 65_535 or (match[3] and not port):
        raise BadHead("there is no such port")
    return Target((match[1] or match[2]).lower().removesuffix("."), port)


def origin_form(head: Head, target: Target) -> bytes:
    """The head as the origin gets it: its own Host, nothing meant for the proxy, and one request per connection."""
    named = {word.strip().lower() for value in head.values("connection") for word in value.split(",")}
    named -= {"content-length", "transfer-encoding"}
    kept = [(name, value) for name, value in head.fields if name not in _HOP and name not in named]
    lines = [f"{head.method} {target.path} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in kept]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
