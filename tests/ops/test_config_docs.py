"""The generated reference: valid, complete and harmless."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ops import config_docs
from ops.metrics import CATALOGUE
from ops.settings import Settings, load

EXAMPLE = config_docs.example_toml()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODEX_RELAY_CONFIG", raising=False)


def test_the_example_as_it_is_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(EXAMPLE)
    assert load(file) == Settings()


def test_every_default_in_the_example_is_valid_toml_and_the_real_default(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=\w+ = \S)", "", EXAMPLE, flags=re.MULTILINE)
    given = tomllib.loads(text)
    assert sum(len(section) for section in given.values()) > 50
    file = tmp_path / "config.toml"
    file.write_text(text)
    assert load(file) == Settings()


def test_every_setting_is_described_in_example_and_page() -> None:
    page = config_docs.settings_page()
    for name, section in config_docs.sections():
        for field, info in section.model_fields.items():
            assert info.description, f"{name}.{field} has no description"
            assert re.search(rf"^# {field} =", EXAMPLE, re.MULTILINE)
            assert f"| `{name}.{field}` |" in page


def test_every_metric_and_every_label_value_is_on_the_page() -> None:
    page = config_docs.metrics_page()
    for one in CATALOGUE.values():
        assert f"| `{one.name}` |" in page
        for _, values in one.labels:
            assert ", ".join(values or ()) in page


def test_no_secret_has_a_default() -> None:
    assert Settings().vault.key is None


def test_writing_makes_the_files_below_the_given_folder(tmp_path: Path) -> None:
    config_docs.write(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == set(config_docs.pages())
