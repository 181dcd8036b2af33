"""Is the upstream near: on this machine, or on a private address?

Asked once, at the start, for the setting ``sandbox.local_only``. Every address that the host's name has must be
loopback or private; a name that does not resolve is not near. An answer that changes later changes nothing here.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ops.addresses import Address, Resolver, literal, system_resolver


async def is_near(base_url: str, resolve: Resolver = system_resolver) -> bool:
    """Whether the host of ``base_url`` is loopback or private by every address it has."""
    parts = urlsplit(base_url)
    host = parts.hostname
    if not host:
        return False
    found = literal(host)
    if found is not None:
        return _is_private(found)
    try:
        texts = await resolve(host, parts.port or (80 if parts.scheme == "http" else 443))
    except OSError:
        return False
    addresses = [literal(text.partition("%")[0]) for text in texts]
    return bool(addresses) and all(one is not None and _is_private(one) for one in addresses)


def _is_private(address: Address) -> bool:
    """Loopback, or of a network that is nobody's on the internet; what is merely special is not enough."""
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return _is_private(mapped)
    special = address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved
    return address.is_loopback or (address.is_private and not special)
