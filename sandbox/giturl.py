"""From which repository may a task be cloned? Its address and its ref, checked before git hears of them.

Git itself runs in the container alone, behind the proxy's list, with https as its only transport; this check is the
first of three. Rules that hold:

* https, a host, port 443 or 8443, a plain path: no user, password, query, fragment, blank or control character, and
  nothing that begins with a dash;
* the host's addresses are public, or in a network that the operator has named;
* a ref is a branch, a tag or a full SHA in git's own grammar, and never an option;
* a token is a Secret of printable ASCII; it is no part of the address.

Nothing is fetched here but the name's addresses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from ops.addresses import AddressRefused, Network, Resolver, checked_address
from sandbox.types import GitSource
from store.records import Secret

PORTS: Final = frozenset({443, 8443})
URL_MAX: Final = 1024
_URL: Final = re.compile(r"https://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/.*)")
_PATH: Final = re.compile(r"(?:/(?!-)[A-Za-z0-9._~+@-]+){1,16}/?")
_REF: Final = re.compile(r"(?!-)[\w./-]{1,200}", re.ASCII)
_SHA: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,512}")


class BadSource(Exception):
    """The repository is not taken; ``field`` is ``url``, ``ref`` or ``token``, str() one line with the reason."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


async def checked_git(
    url: str,
    ref: str | None = None,
    resolve: Resolver | None = None,
    *,
    token: Secret | None = None,
    private: Sequence[Network] = (),
) -> GitSource:
    """The source, with the address as git gets it. Raises BadSource. ``private``: networks of the operator's own."""
    host, port, _ = _parts(url)
    if ref is not None:
        check_ref(ref)
    if token is not None and _TOKEN.fullmatch(token.reveal()) is None:
        raise BadSource("token", "a token is up to 512 printable characters without blanks")
    try:
        await checked_address(host.strip("[]"), port, resolve=resolve, private=private)
    except AddressRefused as error:
        raise BadSource("url", str(error)) from error
    return GitSource(check_url(url), ref, token)


def host_of(url: str) -> str:
    """The host of an address that ``checked_git`` gave, for the set-up phase's list of domains."""
    return urlsplit(url).hostname or ""


def is_sha(ref: str | None) -> bool:
    """Whether ``ref`` is a full SHA, which is fetched in another way than a name."""
    return ref is not None and _SHA.fullmatch(ref) is not None


def check_ref(ref: str) -> None:
    """Raises BadSource unless git could have a branch, a tag or a commit of this name."""
    parts = ref.split("/")
    good = (
        _REF.fullmatch(ref) is not None
        and ".." not in ref
        and not any(part == "" or part.startswith((".", "-")) or part.endswith((".", ".lock")) for part in parts)
    )
    if not good:
        raise BadSource("ref", "a ref is a branch, a tag or a full SHA: letters, digits and . _ - / in git's grammar")


def check_url(url: str) -> str:
    """The address as git gets it, by its letters alone; nothing is resolved. Raises BadSource."""
    host, port, path = _parts(url)
    return f"https://{host}{'' if port == 443 else f':{port}'}{path}"


def _parts(url: str) -> tuple[str, int, str]:
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise BadSource("url", f"an address has up to {URL_MAX} printable ASCII characters")
    if "@" in url.removeprefix("https://").partition("/")[0]:
        raise BadSource("url", "an address holds no user and no password: give the token by itself")
    match = _URL.fullmatch(url)
    if match is None or _PATH.fullmatch(match["path"]) is None:
        raise BadSource("url", "an address is https://HOST/PATH, without query, fragment or escapes")
    if {".", ".."} & set(match["path"].split("/")):
        raise BadSource("url", "an address holds no . or .. in its path")
    port = int(match["port"] or 443)
    if port not in PORTS:
        raise BadSource("url", "an address has port 443 or 8443")
    return match["host"].lower(), port, match["path"]
