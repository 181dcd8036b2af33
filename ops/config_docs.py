"""``config.example.toml`` and ``docs/settings.md``, made from ops/settings.py, so that they cannot be out of step.

``python -m ops.config_docs`` writes both, and docs/metrics.md, below the folder that it is started in (``make docs``);
a test compares the files with what would be written.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ops.metrics import CATALOGUE, OTHER, Description
from ops.sections.base import Section
from ops.settings import ENV_PREFIX, Settings

_HEAD: Final = """\
# codex-relay: every setting with its default. Copy to config.toml and change what you need; a line that stays
# commented out keeps its default. Every value is also the environment variable {prefix}<SECTION>__<NAME>, which wins.
# Units stand in the names. Made from the source; docs/settings.md holds the same as a table.
"""
_SETTINGS_HEAD: Final = """\
# Settings

Made from `ops/sections/`; do not edit. One TOML file (`--config`, `$CODEX_RELAY_CONFIG`, or `./config.toml`); every
value is also an environment variable, which wins. Lists in variables are JSON:
`{prefix}SERVER__TRUSTED_PROXIES='["10.0.0.0/8"]'`. An unknown name, a wrong type or a value out of bounds refuses the
start with one line that names the setting; `codex-relay config check` tells the same.
"""
_METRICS_HEAD: Final = """\
# Metrics

Made from `ops/metrics.py`; do not edit. `GET /metrics` answers the sum over all workers. Labels take only the values
listed here; anything else counts as `{other}`. Models, keys, tenants and paths are never labels: ask the audit log.

| metric | kind | meaning | labels |
|---|---|---|---|
"""
_SECTION_HEAD: Final = """
## [{name}]

{text}

| setting | type | default | meaning |
|---|---|---|---|
"""
_WORDS: Final[dict[object, str]] = {
    str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "secret text",
}  # fmt: skip


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Name and class of every section, in order."""
    for name, info in Settings.model_fields.items():
        if isinstance(info.default, Section):
            yield name, type(info.default)


def example_toml() -> str:
    """The example configuration: valid TOML that changes nothing."""
    parts = [_HEAD.format(prefix=ENV_PREFIX)]
    for name, section in sections():
        parts.append(f"\n# {_first_line(section)}\n[{name}]\n")
        for field, info in section.model_fields.items():
            value = _toml(info.get_default(call_default_factory=True))
            note = _bounds_note(info) if value else f"{_bounds_note(info)} Not set."
            parts.append(f"# {info.description}{note}\n# {field} = {value}".rstrip() + "\n")
    return "".join(parts)


def settings_page() -> str:
    """docs/settings.md: a table per section."""
    parts = [_SETTINGS_HEAD.replace("{prefix}", ENV_PREFIX)]
    for name, section in sections():
        parts.append(_SECTION_HEAD.format(name=name, text=_first_line(section)))
        for field, info in section.model_fields.items():
            default = _toml(info.get_default(call_default_factory=True)).replace("|", "\\|")
            shown = f"`{default}`" if default else "not set"
            parts.append(f"| `{name}.{field}` | {_type(info)} | {shown} | {_cell(info.description)} |\n")
        parts.append(f"\nVariables: `{ENV_PREFIX}{name.upper()}__<NAME>`.\n")
    return "".join(parts)


def metrics_page() -> str:
    """docs/metrics.md: every metric, its labels and their values."""
    parts = [_METRICS_HEAD.replace("{other}", OTHER)]
    parts.extend(_metric_row(one) for one in CATALOGUE.values())
    return "".join(parts)


def write(root: Path) -> None:
    """Writes the three files below ``root``."""
    for name, text in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Path below the root of the project -> its text."""
    return {
        "config.example.toml": example_toml(),
        "docs/settings.md": settings_page(),
        "docs/metrics.md": metrics_page(),
    }


def _metric_row(one: Description) -> str:
    labels = "; ".join(
        f"`{label}`: {'a pseudonym or version' if values is None else ', '.join(values)}"
        for label, values in one.labels
    )
    return f"| `{one.name}` | {one.kind} | {one.help} | {labels or '-'} |\n"


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _toml(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(str(name))} = {_toml(item)}" for name, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return json.dumps(str(value), ensure_ascii=False)


def _type(info: FieldInfo) -> str:
    return _cell(_word(info.annotation)) + _bounds_note(info)


def _word(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    origin, arguments = get_origin(kind), [one for one in get_args(kind) if one not in {type(None), Ellipsis}]
    if origin is Annotated:
        return _word(arguments[0])
    if origin is Literal:
        return " or ".join(_toml(one) for one in arguments)
    if origin in {Union, types.UnionType}:
        return " or ".join(_word(one) for one in arguments)
    if origin is tuple:
        return f"list of {_word(arguments[0])}"
    if origin is dict:
        return "table of text"
    raise TypeError(f"no word for {kind!r}; add it to ops/config_docs.py")


def _bounds_note(info: FieldInfo) -> str:
    low, high = _bounds(info)
    if low and high:
        return f" ({low}, {high})"
    return f" ({low or high})" if low or high else ""


def _bounds(info: FieldInfo) -> tuple[str, str]:
    low = high = ""
    for mark in info.metadata:
        if isinstance(mark, annotated_types.Ge):
            low = f"≥ {mark.ge}"
        elif isinstance(mark, annotated_types.Gt):
            low = f"> {mark.gt}"
        elif isinstance(mark, annotated_types.Le):
            high = f"≤ {mark.le}"
    return low, high


if __name__ == "__main__":
    write(Path.cwd())
