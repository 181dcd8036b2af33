"""What may an environment ask for? Each field by itself, with its name in the refusal.

Pure. An image is taken from the operator's list alone: its name reaches the engine. Whether a repository's host is
public is asked when a task is made, because a name's addresses change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from sandbox.giturl import BadSource, check_url
from sandbox.types import EnvironmentSpec, Limits, NetworkPolicy
from store.records import Secret

LABEL_MAX: Final = 100
SCRIPT_MAX: Final = 256 * 1024
VALUE_MAX: Final = 32 * 1024
NAMES_MAX: Final = 100
DOMAINS_MAX: Final = 200
SECRET_MIN: Final = 8
"""A shorter value cannot be searched for in a layer without finding it by chance."""
MIB_MAX: Final = 100 * 1024
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RESERVED: Final = re.compile(r"GW_.*|CODEX_.*|LD_.*|PATH|HOME|USER|(HTTPS?|ALL|NO)_PROXY|GIT_CONFIG.*", re.IGNORECASE)
_DOMAIN: Final = re.compile(
    r"(?=.{1,253}\Z)(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
)


class BadEnvironment(Exception):
    """A wish that is not taken; ``field`` names the part, str() is one line. Nothing has changed."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


@dataclass(frozen=True, slots=True)
class EnvironmentDraft:
    """An environment as somebody wants it. ``secrets``: a value sets, None takes away, a name that is not there stays
    as it is."""

    label: str
    repository: str | None = None
    image: str | None = None
    setup_script: str = ""
    maintenance_script: str = ""
    test_command: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret | None] = field(default_factory=dict, repr=False)
    setup_network: NetworkPolicy = field(default_factory=NetworkPolicy)
    agent_network: NetworkPolicy = field(default_factory=NetworkPolicy)
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentRules:
    """The operator's bounds: the most that one container may have, and the images that may be named."""

    limits: Limits = EnvironmentSpec("", "", "").limits
    images: frozenset[str] = frozenset()


def check_draft(draft: EnvironmentDraft, rules: EnvironmentRules) -> None:
    """Raises BadEnvironment."""
    label = draft.label
    if not 1 <= len(label) <= LABEL_MAX or not label.isprintable() or label != label.strip():
        raise BadEnvironment("label", f"1 to {LABEL_MAX} printable characters, without blanks at its ends")
    if draft.repository is not None:
        try:
            check_url(draft.repository)
        except BadSource as error:
            raise BadEnvironment("repository", str(error)) from None
    if draft.image is not None and draft.image not in rules.images:
        raise BadEnvironment("image", "not on the operator's list of images")
    for name in ("setup_script", "maintenance_script", "test_command"):
        _check_text(name, getattr(draft, name), SCRIPT_MAX)
    _check_names("variables", draft.variables)
    _check_names("secrets", draft.secrets)
    for name, value in draft.variables.items():
        _check_text(f"variables.{name}", value, VALUE_MAX)
    for name, secret in draft.secrets.items():
        if secret is None:
            continue
        _check_text(f"secrets.{name}", secret.reveal(), VALUE_MAX)
        if len(secret.reveal()) < SECRET_MIN:
            raise BadEnvironment(f"secrets.{name}", f"a secret has at least {SECRET_MIN} characters")
    _check_network("setup_network", draft.setup_network)
    _check_network("agent_network", draft.agent_network)
    if draft.limits is not None:
        _check_limits(draft.limits, rules.limits)


def _check_text(where: str, text: str, most: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadEnvironment(where, "not UTF-8") from None
    if size > most or "\0" in text:
        raise BadEnvironment(where, f"up to {most} bytes, without NUL")


def _check_names(where: str, named: Mapping[str, object]) -> None:
    if len(named) > NAMES_MAX:
        raise BadEnvironment(where, f"up to {NAMES_MAX}")
    for name in named:
        if _NAME.fullmatch(name) is None:
            raise BadEnvironment(where, f"{name[:40]!a} is no name: letters, digits and _, no digit first")
        if _RESERVED.fullmatch(name):
            raise BadEnvironment(where, f"the name {name} is the sandbox's own")


def _check_network(where: str, policy: NetworkPolicy) -> None:
    if len(policy.domains) > DOMAINS_MAX:
        raise BadEnvironment(f"{where}.domains", f"up to {DOMAINS_MAX}")
    for domain in policy.domains:
        if _DOMAIN.fullmatch(domain) is None:
            raise BadEnvironment(
                f"{where}.domains", f"{domain[:80]!a} is neither a host name nor *.name, in lower case"
            )
    if unknown := policy.methods - METHODS:
        raise BadEnvironment(f"{where}.methods", f"{min(unknown)[:20]!a} is none of {', '.join(sorted(METHODS))}")
    if not 1 <= policy.max_mib <= MIB_MAX:
        raise BadEnvironment(f"{where}.max_mib", f"1 to {MIB_MAX}")


def _check_limits(wanted: Limits, most: Limits) -> None:
    for one in fields(Limits):
        value, top = getattr(wanted, one.name), getattr(most, one.name)
        if not 0 < value <= top:
            raise BadEnvironment(f"limits.{one.name}", f"above 0, up to {top:g}")
