"""What does the backend say about an account: its plan, and where its traffic has to go?

Reads the answer of ``GET wham/accounts/check``. ``accounts`` is a list of entries or a map of id to entry; exactly one
entry may be the token's account. ``NO_CONSTRAINT`` (or nothing) means that the account may use the configured origin.

Rules that hold:

* an origin is https, names a host and nothing else, and is the configured one or listed in ``allowed_origins``:
  a bearer token goes nowhere else, whoever says so;
* pure: who asks the backend, and with what, is not decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from auth.errors import ImportRefused

NO_CONSTRAINT: Final = "NO_CONSTRAINT"
MAX_OVERRIDE: Final = 64


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """One account as the backend describes it; None where it sets no constraint or does not say."""

    plan: str | None = None
    workspace_origin: str | None = None
    routing_override: str | None = None


def read_account_check(document: object, account_id: str) -> AccountCheck:
    """The entry of ``account_id``. Raises ImportRefused when there is none or more than one."""
    entries = [entry for entry in _entries(document) if _entry_id(entry) == account_id]
    if len(entries) != 1:
        many = "several times" if entries else "not"
        raise ImportRefused(
            "account_not_listed",
            f"the backend lists this account {many}; log in again with the workspace that you want to use",
        )
    entry = entries[0]
    return AccountCheck(
        plan=_text(entry.get("plan_type")),
        workspace_origin=_constraint(entry.get("workspace_backend_origin")),
        routing_override=_constraint(entry.get("account_routing_override")),
    )


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


def _entries(document: object) -> list[Mapping[str, Any]]:
    accounts = document.get("accounts") if isinstance(document, dict) else None
    listed = list(accounts.values()) if isinstance(accounts, dict) else accounts
    if not isinstance(listed, list):
        raise ImportRefused("check_unreadable", "the backend's account list is not readable; try again later")
    unwrapped = [e.get("account", e) if isinstance(e, dict) else e for e in listed]
    return [entry for entry in unwrapped if isinstance(entry, dict)]


def _entry_id(entry: Mapping[str, Any]) -> str | None:
    return _text(entry.get("id")) or _text(entry.get("account_id"))


def _constraint(value: object) -> str | None:
    found = _text(value)
    return None if found == NO_CONSTRAINT else found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
