"""Redaction: what must not be written is not, whatever it is wrapped in."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import redact
from store.records import Secret

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyLTEyMyJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
SECRETS = {
    "gateway key": "at-cr-k1234567-" + "S3cr3tS3cr3tS3cr3t",
    "refresh token": "rt_S3cr3tS3cr3tS3cr3tS3cr3t",
    "refresh token with a dot": "rt.1.S3cr3tS3cr3tS3cr3tS3cr3t",
    "web token": JWT,
    "web token cut in half": JWT[:30],
    "api key": "sk-proj-S3cr3tS3cr3tS3cr3t",
    "base64 run": base64.b64encode(b"S3cr3t" * 20).decode(),
}
WRAPPINGS = ("{}", "Bearer {}", "x={}", '{{"a":"{}"}}', "before {} after", "({})", "https://h/p?q={}&r=1", "\n{}\r\n")


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_known_kind_of_secret_is_masked_in_any_text(secret: str, wrapping: str) -> None:
    shown = redact.text(wrapping.format(secret))
    assert redact.MASK in shown
    assert secret.rpartition("-")[2][:16] not in shown
    assert "S3cr3t" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "authorization: Bearer hunter2",
        "Authorization=Basic hunter2",
        '{"refresh_token": "hunter2"}',
        "access_token=hunter2&x=1",
        "api-key: hunter2",
        "password=hunter2",
        "client_secret='hunter2'",
        "redis://user:hunter2@host:6379/0",
        "https://:hunter2@host/",
        "Cookie: a=1; session=hunter2",
        "set-cookie: session=hunter2; Path=/",
        "BEARER hunter2",
    ],
)
def test_a_value_with_a_telling_name_is_masked_although_it_looks_harmless(text: str) -> None:
    assert "hunter2" not in redact.text(text)


@pytest.mark.parametrize(
    "text",
    [
        "req_0123456789abcdef",
        "start-of-stream",
        "task-1 done",
        "gpt-5.1-codex-max",
        "/v1/responses",
        "usage_limit_reached: resets in 3600 s",
        "0" * 64,
        "https://host/path?x=1",
        "/var/lib/some-service/with-a-rather-long-name/and/more/folders/below/it/than/anybody/needs/config",
        "an ordinary sentence, with punctuation - and dashes.",
    ],
)
def test_ordinary_texts_pass_unchanged(text: str) -> None:
    assert redact.text(text) == text


def test_characters_that_do_not_print_are_shown_escaped() -> None:
    shown = redact.text("a\r\nforged line\x1b[31m\x00\x9b\u202e\u2028\ud800")
    assert shown.isprintable()
    assert shown.startswith(r"a\r\nforged line\x1b[31m\x00\x9b")


def test_a_field_holds_at_most_one_kilobyte_of_utf_8() -> None:
    for text in ("word " * 1000, "é" * 3000, "x" * 10_000_000, "\x00" * 5000, "界" * 342):
        assert len(redact.text(text).encode()) <= redact.FIELD_BYTES


def test_a_secret_at_the_cut_of_a_long_text_does_not_slip_through_in_halves() -> None:
    for length in range(3990, 4100):
        shown = redact.text(" " * length + SECRETS["base64 run"])
        assert "UzNjcjN0" not in shown


@given(st.binary(min_size=54, max_size=300))
def test_random_bytes_in_base64_are_masked_in_both_alphabets(data: bytes) -> None:
    random = hashlib.shake_256(data).digest(len(data))
    for encoded in (base64.b64encode(random), base64.urlsafe_b64encode(random)):
        assert redact.text(f"x {encoded.decode()} y") == "x [secret] y"


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_around_a_key_lets_it_through(before: str, after: str) -> None:
    key = SECRETS["gateway key"]
    shown = redact.text(f"{before}{key}{after}")
    assert key not in shown
    assert shown.isprintable()


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = redact.text(text)
    assert redact.text(once) == once


class _Word(StrEnum):
    ONE = "one"


class _Thing:
    def __str__(self) -> str:
        return f"thing with {SECRETS['gateway key']}"


def test_values_are_copied_with_every_leaf_redacted() -> None:
    key = SECRETS["gateway key"]
    shown = redact.value(
        {"list": [key, 1, None, True, 1.5], "authorization": "x", "bytes": b"abc", "enum": _Word.ONE, "thing": _Thing(),
         "secret object": Secret("hunter2"), "set": {"one"}}
    )  # fmt: skip
    assert shown == {
        "list": ["at-cr-[secret]", 1, None, True, 1.5],
        "authorization": redact.MASK,
        "bytes": "[3 bytes]",
        "enum": "one",
        "thing": "thing with at-cr-[secret]",
        "secret object": "[secret]",
        "set": ["one"],
    }


def test_deep_and_wide_values_are_cut() -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    assert redact.value(deep) == [[[["[deep]"]]]]
    assert len(redact.value(list(range(10_000)))) == 64


@pytest.mark.parametrize("name", ["Authorization", "set-cookie", "access_token", "X-Gateway-Token", "webhook_secret"])
def test_a_telling_field_name_masks_whatever_it_holds(name: str) -> None:
    assert redact.fields({name: 12345}) == {name: redact.MASK}
    assert redact.fields({name: None}) == {name: None}


def test_counts_and_ids_are_not_taken_for_secrets() -> None:
    harmless = {"input_tokens": 100, "key": "k_12345678", "tenant": "ten_1", "status": 200, "stream": True}
    assert redact.fields(harmless) == harmless


def test_the_processor_treats_every_kind_of_field() -> None:
    token = secrets.token_urlsafe(80)
    event = redact.event(
        None, "info",
        {"event": "x", "n": 1, "long": f"a {token}", "short": "Bearer abc", "refresh_token": "x", "list": [token]},
    )  # fmt: skip
    assert event == {
        "event": "x", "n": 1, "long": "a [secret]", "short": "Bearer [secret]", "refresh_token": "[secret]",
        "list": ["[secret]"],
    }  # fmt: skip
    assert token not in json.dumps(dict(event))
