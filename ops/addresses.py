"""May we connect there? Addresses that a URL of somebody else's leads to, checked after resolution.

Rules that hold:

* a name is resolved once; every address that it has must be allowed, and the connection goes to a checked address,
  never to the name again (so a name that changes between check and connect gains nothing);
* allowed is what is globally routable, or lies in a network that the operator has named; what embeds another address
  (IPv4 in IPv6, 6to4, Teredo, NAT64) is judged by that one or refused;
* host names that are numbers in disguise (``0x7f.1``, ``017700000001``, ``2130706433``) are refused unread.

Who asks: webhooks, and the sandbox's proxy to the internet. Pure but for the resolver, which is handed in.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> its addresses as text. Raises OSError when there is none."""

_NAME: Final = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """We do not connect there; str() is one line with the reason. Nothing was sent."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises ValueError for what is not a network."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def allowed(address: Address, private: Sequence[Network] = ()) -> bool:
    """Whether we may connect to this very address."""
    if any(address.version == network.version and address in network for network in private):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return allowed(address.ipv4_mapped, private)
        if address.sixtofour is not None or address.teredo is not None or address in _NAT64:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def literal(host: str) -> Address | None:
    """The address that ``host`` is, if it is one as text (IPv6 without brackets)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def checked_address(
    host: str, port: int, *, resolve: Resolver | None = None, private: Sequence[Network] = ()
) -> str:
    """An address of ``host`` to connect to. Raises AddressRefused."""
    found = literal(host)
    if found is None and _NAME.fullmatch(host.lower().rstrip(".")) is None:
        raise AddressRefused(f"{host[:80]!r} is neither a host name nor an address")
    try:
        texts = [host] if found is not None else await (resolve or system_resolver)(host, port)
    except OSError:
        raise AddressRefused(f"the name {host!r} does not resolve") from None
    if not texts:
        raise AddressRefused(f"the name {host!r} has no address")
    for text in texts:
        address = literal(text.partition("%")[0])
        if address is None or not allowed(address, private):
            raise AddressRefused(f"{host!r} leads to a private or special address")
    return texts[0]


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """The machine's own resolver, off the event loop."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
