"""How does a login come in from a browser that cannot call us back: the address it ends at, pasted.

The browser is sent to the issuer as the Codex CLI sends it, and ends at an address on its own machine where nobody
listens. A person copies that address out of the address bar; it holds the code.

Rules that hold:

* the state is random, belongs to one login, and is compared before anything else in the address is believed: an
  address of another login, or one that somebody sent, is refused and changes nothing;
* the code is worth nothing without the verifier, which never leaves the gateway but to the issuer (PKCE, S256);
* a full address must be the one that the issuer was told; the query alone is taken too;
* nothing of a pasted address is ever printed or put into an error.

Authorize address: byte for byte as the Codex CLI 0.169 builds it; RFC 7636, RFC 6749 section 4.1.2.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from auth.logins import LoginInvalid
from store.records import Secret

REDIRECT_URI: Final = "http://127.0.0.1:1455/auth/callback"
SCOPE: Final = "openid profile email offline_access api.connectors.read api.connectors.invoke"
MAX_PASTED: Final = 8192
_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_WORD: Final = re.compile(r"[a-z_]{1,64}")
_COPY: Final = "copy the whole address that the browser ended at, which begins with http://127.0.0.1:1455/auth/callback"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The two secrets of one browser login."""

    state: Secret
    code_verifier: Secret


@dataclass(frozen=True, slots=True)
class Callback:
    """A pasted address of this login: a code, or the issuer's word why there is none."""

    code: Secret | None = None
    error: str | None = None


def new_challenge() -> Challenge:
    """Fresh secrets, 256 and 512 bits."""
    return Challenge(Secret(_b64url(os.urandom(32))), Secret(_b64url(os.urandom(64))))


def authorize_url(issuer: str, client_id: str, challenge: Challenge) -> str:
    """Where the browser has to go."""
    digest = hashlib.sha256(challenge.code_verifier.reveal().encode()).digest()
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "code_challenge": _b64url(digest),
        "code_challenge_method": "S256",
        "state": challenge.state.reveal(),
        "scope": SCOPE,
        "id_token_add_organizations": "true",
        "codex_cli_simplified_flow": "true",
        "originator": "codex_cli_rs",
    }
    return f"{issuer.rstrip('/')}/oauth/authorize?{urlencode(query)}"


def read_callback(pasted: str, state: Secret) -> Callback:
    """What the pasted address says. Raises LoginInvalid, by a code for each way in which it is not this login's."""
    members = _members(_query(pasted.strip()))
    given = members.get("state")
    if not given:
        raise LoginInvalid("callback_incomplete", f"the address holds no state; {_COPY}")
    if not hmac.compare_digest(given.encode(), state.reveal().encode()):
        raise LoginInvalid(
            "callback_of_another_login",
            "the address belongs to another login; open the link that this login shows, and copy where it ends",
        )
    if error := members.get("error"):
        return Callback(error=error if _WORD.fullmatch(error) else "unknown_error")
    code = members.get("code")
    if not code:
        raise LoginInvalid("callback_incomplete", f"the address holds no code; {_COPY}")
    return Callback(code=Secret(code))


def _query(pasted: str) -> str:
    """The query of a full address, or the text itself when it is a query alone."""
    if not pasted or len(pasted) > MAX_PASTED or not pasted.isascii() or not pasted.isprintable() or " " in pasted:
        raise LoginInvalid("callback_unreadable", f"this is not an address; {_COPY}")
    if "://" not in pasted.partition("?")[0]:
        return pasted.partition("?")[2] if "?" in pasted else pasted
    try:
        parts = urlsplit(pasted)
        home = parts.scheme == "http" and parts.hostname in _HOSTS and parts.port == 1455
    except ValueError:
        home = False
    if not home or parts.path != "/auth/callback" or "@" in parts.netloc:
        raise LoginInvalid("callback_of_another_page", f"the address is of another page; {_COPY}")
    return parts.query


def _members(query: str) -> dict[str, str]:
    """The members of the query, each once: an address that says something twice is not believed either time."""
    try:
        found = parse_qs(query, max_num_fields=32, errors="strict")
    except ValueError:
        found = {}
    members = {name: values[0] for name, values in found.items() if len(values) == 1}
    if not found or len(members) != len(found) or not all(_plain(value) for value in members.values()):
        raise LoginInvalid("callback_unreadable", f"the address cannot be read; {_COPY}")
    return members


def _plain(value: str) -> bool:
    return value.isprintable() and len(value) <= 4096


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
