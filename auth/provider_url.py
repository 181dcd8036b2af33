"""Is this a URL at which a provider of single sign-on is asked?

Pure, and light to import: the settings ask it of the issuer at the start, discovery asks it of every address. It says
nothing about whom the address belongs to; the issuer is the operator's word, the rest is the issuer's.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

_MAX_CHARS: Final = 2048


def usable_url(url: str, *, plain: bool) -> bool:
    """Whether we would go there: https, or plain http on loopback where ``plain`` is allowed; nothing hidden in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    clean = url.isascii() and url.isprintable() and " " not in url and len(url) <= _MAX_CHARS
    if not clean or not host or parts.fragment or "@" in parts.netloc or "\\" in url:
        return False
    return parts.scheme == "https" or (plain and parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
