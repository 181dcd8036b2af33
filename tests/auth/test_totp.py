"""One-time codes: RFC 6238's own numbers, one step either way, each step once."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.totp import STEP_S, fitting_step, new_secret, uri

RFC = base64.b32encode(b"12345678901234567890").decode()
NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("at_s", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_the_numbers_of_the_rfc_fit(at_s: int, code: str) -> None:
    assert fitting_step(RFC, code, at_s, 0) == at_s // STEP_S


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "-12345", "２８７０８２", "28708\x00", "287 08"])
def test_what_is_no_code_never_fits(code: str) -> None:
    assert fitting_step(RFC, code, 59, 0) is None


def test_blanks_are_ignored() -> None:
    assert fitting_step(RFC, " 287 082\n", 59, 0) == 1


@given(st.integers(-5, 5), st.integers(-3, 3))
def test_one_step_off_is_taken_and_a_used_one_never(drift: int, used: int) -> None:
    secret = RFC
    step = int(NOW) // STEP_S
    code = pyotp.TOTP(secret).generate_otp(step + drift)
    found = fitting_step(secret, code, NOW, step + used)
    if abs(drift) <= 1 and drift > used:
        assert found == step + drift
    else:
        assert found is None


def test_a_secret_is_fresh_and_its_uri_says_whose_it_is_and_hides_itself() -> None:
    secret = new_secret()
    assert secret != new_secret()
    assert len(base64.b32decode(secret)) == 20
    made = uri(secret, "ann@example.org")
    assert secret not in repr(made)
    parts = urlsplit(made.reveal())
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert parse_qs(parts.query)["secret"] == [secret]
    assert parse_qs(parts.query)["issuer"] == ["codex-relay"]
