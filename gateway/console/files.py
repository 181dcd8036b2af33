"""Which files does the console have, and with which bytes, type and tag is each one sent?

Everything is read once, at the start, into one table from URL path to file. What a client asks for is looked up in
that table and nowhere else: no part of a request is ever joined to a path on disk. The kinds of file are a closed
list, so a stray file in the folder stops the start and is never served by chance.

The pages are one HTML shell under several paths: the script reads from the address which page it shows. One task or
one environment has a page of its own, whose address ends in its id (``page_path``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATIC: Final = Path(__file__).parent / "static"
SHELL: Final = "index.html"
ROOT: Final = "/console"

PAGES: Final = (
    "",
    "/sign-in",
    "/welcome",
    "/link",
    "/accounts",
    "/accounts/add",
    "/tenants",
    "/keys",
    "/admins",
    "/audit",
    "/profile",
    "/tasks",
    "/tasks/new",
    "/environments",
    "/environments/new",
)
"""Paths below ``/console`` that open the shell."""

_ONE: Final = re.compile(r"/console/(?:tasks|environments)/[A-Za-z0-9_-]{1,128}")

KINDS: Final[Mapping[str, bytes]] = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent. ``etag`` is a strong one, made of the content."""

    body: bytes
    kind: bytes
    etag: bytes


def page_path(path: str) -> str:
    """Under which path of the table to look: its own, but for the page of one task or environment the shell's."""
    return f"{ROOT}/" if _ONE.fullmatch(path) else path


def load_files(folder: Path = STATIC) -> dict[str, StaticFile]:
    """URL path to file: every page, and every file of ``folder`` but the shell under ``/console/static/``.

    Raises ValueError for a kind of file that is not in the list, OSError when the folder cannot be read.
    """
    table: dict[str, StaticFile] = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix not in KINDS:
            raise ValueError(f"the console has a file of a kind that it does not serve: {name}")
        table[f"{ROOT}/static/{name}"] = _read(path)
    shell = table.pop(f"{ROOT}/static/{SHELL}")
    table.update({ROOT + page: shell for page in PAGES})
    table[f"{ROOT}/"] = shell
    return table


def _read(path: Path) -> StaticFile:
    body = path.read_bytes()
    return StaticFile(body, KINDS[path.suffix], b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"')
