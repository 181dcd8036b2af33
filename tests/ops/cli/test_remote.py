"""Where a command finds the gateway and its key, and what a refusal becomes."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ops.cli.remote import Target, address_of, refuse, target_of
from ops.settings import KEY_ENV, URL_ENV, Settings
from store.records import Secret


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(URL_ENV, raising=False)
    monkeypatch.delenv(KEY_ENV, raising=False)


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"host": "0.0.0.0", "port": 9000}, "http://127.0.0.1:9000"),
        ({"host": "::"}, "http://[::1]:8080"),
        ({"tls_cert_file": "c.pem", "tls_key_file": "k.pem"}, "https://127.0.0.1:8080"),
        ({"public_url": "https://relay.example/x"}, "https://relay.example/x"),
    ],
)
def test_the_settings_say_where_it_is(server: dict[str, object], address: str) -> None:
    assert address_of(Settings(server=server)) == address


def test_the_option_wins_over_the_environment_and_that_over_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "at-cr-x")
    assert target_of(None, None, None).url == "http://127.0.0.1:8080"
    monkeypatch.setenv(URL_ENV, "https://one.example/")
    assert target_of(None, None, None).url == "https://one.example"
    assert target_of(None, "https://two.example", None).url == "https://two.example"


def test_a_client_needs_no_settings_that_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("not toml")
    monkeypatch.setenv(KEY_ENV, "at-cr-x")
    assert target_of(None, "https://two.example", None).key.reveal() == "at-cr-x"


def test_the_key_comes_from_a_file_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY_ENV, "at-cr-x")
    (tmp_path / "key").write_text("at-cr-file\n")
    target = target_of(None, "https://two.example", tmp_path / "key")
    assert target.key.reveal() == "at-cr-file"
    assert "at-cr-file" not in repr(target)
    for text in ("", "two lines\nof text", "schlüssel"):
        (tmp_path / "key").write_text(text)
        with pytest.raises(click.ClickException, match="key"):
            target_of(None, "https://two.example", tmp_path / "key")
    with pytest.raises(click.ClickException, match="cannot be read"):
        target_of(None, "https://two.example", tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "loopback"),
    [("http://127.0.0.1:1", True), ("http://[::1]", True), ("http://localhost", True), ("http://10.0.0.1", False)],
)
def test_this_machine_is_known(url: str, loopback: bool) -> None:
    assert Target(url, Secret("x")).loopback is loopback


def test_a_refusal_is_the_gateways_own_words_made_harmless() -> None:
    with pytest.raises(click.ClickException, match=r"401 invalid_api_key: no.*keys create") as failed:
        refuse(401, b'{"error":{"message":"no \\u001b[31m","code":"invalid_api_key"}}')
    assert "\x1b" not in failed.value.message
    with pytest.raises(click.ClickException, match="502 unknown"):
        refuse(502, b"<html>")
