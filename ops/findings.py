"""What does a check of the doctor answer? A status, one line, and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check. ``fix`` is empty when all is well."""

    name: str
    status: Status
    message: str
    fix: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(name, Status.OK, message)


def warn(name: str, message: str, fix: str) -> Finding:
    return Finding(name, Status.WARN, message, fix)


def fail(name: str, message: str, fix: str) -> Finding:
    return Finding(name, Status.FAIL, message, fix)


def halves(message: str, fix: str) -> tuple[str, str]:
    """Errors of the store are "cause; next step" already."""
    cause, found, step = message.rpartition("; ")
    return (cause, step) if found else (message, fix)
