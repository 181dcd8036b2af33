"""What does the backend say about an account: its plan, and where its traffic has to go?

Judges the entries of ``GET wham/accounts/check``: exactly one may be the token's account. An entry without an origin
sets no constraint: the account may use the configured one.

Rules that hold:

* an origin is https, names a host and nothing else, and is the configured one or listed in ``allowed_origins``:
  a bearer token goes nowhere else, whoever says so;
* pure: who asks the backend, and with what, is not decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from auth.errors import ImportRefused

MAX_OVERRIDE: Final = 64


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """One account as the backend describes it; None where it sets no constraint or does not say."""

    plan: str | None = None
    workspace_origin: str | None = None
    routing_override: str | None = None


class ListedAccount(Protocol):
    """One entry of the backend's list, as the upstream client reads it."""

    @property
    def account_id(self) -> str: ...
    @property
    def plan(self) -> str | None: ...
    @property
    def workspace_origin(self) -> str | None: ...
    @property
    def routing_override(self) -> str | None: ...


def sole_entry(entries: Iterable[ListedAccount], account_id: str) -> AccountCheck:
    """What the list says of ``account_id``. Raises ImportRefused when it is not there exactly once."""
    mine = [entry for entry in entries if entry.account_id == account_id]
    if len(mine) != 1:
        times = "several times" if mine else "not"
        raise ImportRefused(
            "account_not_listed",
            f"the backend lists this account {times}; log in again with the workspace that you want to use",
        )
    return AccountCheck(mine[0].plan, mine[0].workspace_origin, mine[0].routing_override)


def accepted_origin(origin: str | None, home_origin: str, allowed_origins: Collection[str]) -> str | None:
    """The origin to keep for the account; None: the configured one serves. Raises ImportRefused."""
    if origin is None:
        return None
    found = normal_origin(origin)
    if found is not None and found == normal_origin(home_origin):
        return None
    if found is None or not found.startswith("https://"):
        raise ImportRefused("bad_origin", "the backend names a workspace origin that is not a plain https origin")
    if found not in {normal_origin(allowed) for allowed in allowed_origins}:
        raise ImportRefused(
            "foreign_origin",
            f"the backend wants this account's traffic at {found}; "
            "if that is right, add it to upstream.allowed_origins and import again",
        )
    return found


def accepted_override(override: str | None) -> str | None:
    """The routing override, fit for a header. Raises ImportRefused."""
    if override is None:
        return None
    plain = override.replace("_", "").replace("-", "")
    if len(override) > MAX_OVERRIDE or not plain.isalnum() or not plain.isascii():
        raise ImportRefused("bad_override", "the backend names a routing override that is not a plain word")
    return override


def normal_origin(url: str) -> str | None:
    """``scheme://host[:port]`` in lower case without a default port; None when the text is anything more or else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or "\\" in url:
        return None
    if parts.path not in {"", "/"} or parts.query or parts.fragment or not url.isascii() or not url.isprintable():
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, default} else "")
