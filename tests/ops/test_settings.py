"""The file, the environment over it, one line for the first thing that is wrong, and no typo that passes silently."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ops.sections.base import Section
from ops.settings import ENV_PREFIX, Settings, SettingsError, config_path, from_whole_json, load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder and none of our variables."""
    import os

    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(folder: Path, text: str) -> Path:
    path = folder / "relay.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_the_defaults_hold_and_listen_on_loopback() -> None:
    assert load() == Settings()
    assert load().server.host == "127.0.0.1"


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "[server]\nport = 1\nworkers = 3\n")
    monkeypatch.setenv("CODEX_RELAY_SERVER__PORT", "2")
    found = load(path).server
    assert (found.port, found.workers, found.host) == (2, 3, "127.0.0.1")


def test_lists_and_tables_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_RELAY_MODELS__ALIASES", '{"fast":"gpt-5.5"}')
    assert load().models.aliases == {"fast": "gpt-5.5"}


def test_the_file_is_the_given_one_else_the_named_one_else_the_local_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_path(None) is None
    (tmp_path / "config.toml").write_text("")
    assert config_path(None) == Path("config.toml")
    monkeypatch.setenv("CODEX_RELAY_CONFIG", "/etc/relay.toml")
    assert config_path(None) == Path("/etc/relay.toml")
    assert config_path(Path("mine.toml")) == Path("mine.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ("server.prot", "no such setting")),
        ("[sever]\nport = 1\n", ("sever", "no such setting")),
        ("[server]\nport = 70000\n", ("server.port", "65535")),
        ('[server]\nport = "x"\nworkers = 0\n', ("server.port", "1 more")),
        ("[router]\nmax_attempts = 0\n", ("router.max_attempts",)),
        ("[log]\ncapture_content = true\n", ("log.capture_content",)),
        ("[oauth]\nrefresh_timeout_s = 0\n", ("oauth.refresh_timeout_s",)),
        ("[server\n", ("not valid TOML",)),
        ("\udcff", ("not valid TOML",)),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_the_setting_and_the_fix(
    text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        load(path)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in (*words, "config.example.toml"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", ["SERVER__PROT", "SEVER__PORT", "SERVER", "PORT", "SERVER_PORT", "SERVER__PORT__X"])
def test_a_typo_in_the_environment_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, "1")
    with pytest.raises(SettingsError, match=ENV_PREFIX + name):
        load()


def test_a_refused_value_is_not_repeated_for_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_RELAY_VAULT__PROVIDER", "hunter2")
    with pytest.raises(SettingsError) as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_the_vaults_key_shows_itself_only_in_the_whole_json() -> None:
    made = Settings(vault={"provider": "env", "key": SecretStr("the-key")})
    assert "the-key" not in repr(made)
    assert "the-key" not in made.model_dump_json()
    assert b"the-key" in made.whole_json()


@given(
    port=st.integers(0, 65_535),
    workers=st.integers(1, 64),
    aliases=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    hidden=st.lists(st.text(max_size=5), max_size=3),
    key=st.none() | st.text(min_size=1, max_size=9),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_whole_json_gives_the_same_settings_again(
    port: int, workers: int, aliases: dict[str, str], hidden: list[str], key: str | None
) -> None:
    made = Settings(
        server={"port": port, "workers": workers},
        models={"aliases": aliases, "hidden": tuple(hidden)},
        vault={"key": None if key is None else SecretStr(key)},
    )
    assert from_whole_json(made.whole_json()) == made


def test_the_example_file_is_accepted_as_it_is_and_with_everything_switched_on(tmp_path: Path) -> None:
    text = (ROOT / "config.example.toml").read_text()
    assert load(written(tmp_path, text)) is not None
    assert tomllib.loads(text) is not None


def test_settings_cannot_be_changed_once_made() -> None:
    made = Settings()
    with pytest.raises(ValueError, match="frozen"):
        made.server.port = 9  # type: ignore[misc]  # the point


def test_every_setting_says_what_it_is_for() -> None:
    for name, section in Settings.model_fields.items():
        assert isinstance(section.default, Section)
        for field, info in type(section.default).model_fields.items():
            assert info.description, f"{name}.{field}"
