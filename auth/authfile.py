"""What is in an ``auth.json``, and may it be taken?

Two questions, answered apart: how files are read (never through a symbolic link, never more than 1 MiB, regular files
only), and what a document says (shape, mode, claims). Nothing here touches the store or the network.

Rules that hold:

* only a ChatGPT login is taken; every other kind is refused by its name, with a stable code and the next step;
* an access token that has expired is fine as long as there is a refresh token;
* no message holds a token, or anything else out of the file but its e-mail address and account id;
* a file that others can read is taken with a warning: the login in it may be known to them.

File format: as written by the Codex CLI 0.169; older ones lack ``auth_mode``.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from auth.errors import ImportRefused
from auth.jwt import Claims, NotAJwt, claims_or_none, read_claims, stored_expiry_s
from store.records import Secret

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_FILES: Final = 10_000
STDIN: Final = "-"
_REFUSED_MODES: Final = {
    "apikey": ("api_key", "it holds an API key, not a ChatGPT login; run: codex login"),
    "chatgptauthtokens": ("external_tokens", "its tokens belong to another program; run: codex login"),
    "agentidentity": ("agent_identity", "it holds an agent identity, which cannot be relayed; run: codex login"),
    "personalaccesstoken": ("personal_access_token", "it holds a personal access token; run: codex login"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One document to import. ``refused`` is why it could not be read; ``warnings`` are fit to print."""

    name: str
    data: bytes = b""
    warnings: tuple[str, ...] = ()
    refused: ImportRefused | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A ChatGPT login out of an auth.json."""

    chatgpt_account_id: str
    access_token: Secret
    refresh_token: Secret | None
    id_token: Secret | None
    expires_at_s: float
    refreshed_at_s: float
    email: str | None
    plan: str | None
    fedramp: bool


def read_sources(paths: Sequence[str], stdin: BinaryIO) -> list[Source]:
    """All documents that ``paths`` name: files, folders (their ``*.json``, not deeper), ``-`` for ``stdin``."""
    sources: list[Source] = []
    for text in paths:
        if text == STDIN:
            sources.append(_bounded("standard input", stdin.read(MAX_FILE_BYTES + 1), ()))
            continue
        path = Path(text)
        if path.is_dir() and not path.is_symlink():
            files = sorted(entry for entry in path.iterdir() if entry.name.endswith(".json"))[:MAX_FILES]
            sources.extend(_file(entry) for entry in files)
            if not files:
                sources.append(_unreadable(text, "empty_folder", "the folder has no .json file"))
        else:
            sources.append(_file(path))
    return sources


def _file(path: Path) -> Source:
    name = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            return _unreadable(name, "symlink", "it is a symbolic link; name the file itself")
        return _unreadable(name, "unreadable", f"it cannot be read ({error.strerror})")
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return _unreadable(name, "not_a_file", "it is not a regular file")
        warnings: tuple[str, ...] = ()
        if found.st_mode & 0o077:
            warnings = (f"others may read it (mode {stat.S_IMODE(found.st_mode):04o}); run: chmod 600",)
        return _bounded(name, file.read(MAX_FILE_BYTES + 1), warnings)


def _bounded(name: str, data: bytes, warnings: tuple[str, ...]) -> Source:
    if len(data) > MAX_FILE_BYTES:
        return _unreadable(name, "too_large", "it is larger than 1 MiB, which no auth.json is")
    return Source(_printable(name), data, warnings)


def _unreadable(name: str, code: str, message: str) -> Source:
    return Source(_printable(name), refused=ImportRefused(code, message))


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)[:300]


def parse_login(data: bytes | Mapping[str, Any], now_s: float) -> Login:
    """The login in an auth.json document. Raises ImportRefused with a stable code."""
    document = _document(data)
    _check_mode(document)
    tokens = document.get("tokens")
    if not isinstance(tokens, dict):
        raise ImportRefused("no_tokens", "it holds no tokens; run: codex login")
    access, refresh, identity = (_token(tokens, name) for name in ("access_token", "refresh_token", "id_token"))
    if access is None:
        raise ImportRefused("no_tokens", "it holds no access token; run: codex login")
    try:
        claims = read_claims(access)
    except NotAJwt:
        raise ImportRefused("bad_token", "its access token is not a JWT; run: codex login") from None
    about = claims_or_none(identity) or Claims()
    refreshed_at_s = _last_refresh_s(document.get("last_refresh"), claims, now_s)
    expires_at_s = stored_expiry_s(claims, refreshed_at_s)
    if refresh is None and expires_at_s <= now_s:
        raise ImportRefused("expired", "its access token has expired and it has no refresh token; run: codex login")
    return Login(
        chatgpt_account_id=_account_id(tokens, about, claims),
        access_token=Secret(access),
        refresh_token=Secret(refresh) if refresh else None,
        id_token=Secret(identity) if identity else None,
        expires_at_s=expires_at_s,
        refreshed_at_s=refreshed_at_s,
        email=about.email or claims.email,
        plan=about.plan or claims.plan,
        fedramp=about.fedramp or claims.fedramp,
    )


def _document(data: bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(data, Mapping):
        return data
    if not data.strip():
        raise ImportRefused("empty", "it is empty")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ImportRefused("not_json", "it is not JSON") from None
    if not isinstance(document, dict):
        raise ImportRefused("not_an_object", "it is JSON, but not an auth.json: the outermost value is no object")
    return document


def _check_mode(document: Mapping[str, Any]) -> None:
    mode = document.get("auth_mode")
    if mode is not None and not isinstance(mode, str):
        raise ImportRefused("unknown_auth_mode", "its auth_mode is not a word")
    if mode is None:
        mode = _guessed_mode(document)
    word = mode.replace("_", "").replace("-", "").replace(" ", "").lower()
    if word == "chatgpt":
        return
    if word in _REFUSED_MODES:
        raise ImportRefused(*_REFUSED_MODES[word])
    raise ImportRefused("unknown_auth_mode", "its auth_mode is not one that is known here; run: codex login")


def _guessed_mode(document: Mapping[str, Any]) -> str:
    """Files of older CLIs have no ``auth_mode``: what they hold says what they are."""
    if document.get("tokens"):
        return "chatgpt"
    for member, mode in (
        ("personal_access_token", "personal_access_token"),
        ("agent_identity", "agent_identity"),
        ("OPENAI_API_KEY", "apikey"),
    ):
        if document.get(member):
            return mode
    raise ImportRefused("no_tokens", "it holds no tokens; run: codex login")


def _token(tokens: Mapping[str, Any], name: str) -> str | None:
    value = tokens.get(name)
    if value is None or value == "":
        return None
    usable = isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value
    if not isinstance(value, str) or not usable or len(value) > 64 * 1024:
        raise ImportRefused("bad_token", f"its {name} is not a token")
    return value


def _account_id(tokens: Mapping[str, Any], about: Claims, claims: Claims) -> str:
    """The id that goes to the backend. File and claims must agree: a refresh is checked against it."""
    given = tokens.get("account_id")
    said = {found for found in (about.account_id, claims.account_id) if found}
    if isinstance(given, str) and given:
        said.add(given)
    if not said:
        raise ImportRefused("account_id_missing", "neither the file nor its tokens name a ChatGPT account")
    if len(said) > 1:
        raise ImportRefused("account_mismatch", "the file and its tokens name different ChatGPT accounts")
    found = said.pop()
    if not found.isascii() or not found.isprintable() or " " in found or len(found) > 200:
        raise ImportRefused("account_id_missing", "its ChatGPT account id is not usable")
    return found


def _last_refresh_s(value: object, claims: Claims, now_s: float) -> float:
    """When the tokens were obtained: the file's word, else the token's ``iat``, else now; never in the future."""
    found = claims.issued_at_s
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    return min(found, now_s) if found is not None and found > 0 else now_s
