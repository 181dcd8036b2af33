"""Where a provider of single sign-on is asked: over https, or on loopback, and with nothing hidden in the address."""

from __future__ import annotations

import pytest

from auth.provider_url import usable_url


@pytest.mark.parametrize(
    ("url", "https_only", "usable"),
    [
        ("https://id.example/x?y=1", True, True),
        ("http://127.0.0.1:9/x", True, False),
        ("http://127.0.0.1:9/x", False, True),
        ("http://[::1]/x", False, True),
        ("http://localhost/x", False, True),
        ("http://id.example/x", False, False),
        ("http://127.0.0.1.evil.example/", False, False),
        ("https://id.example:99999/", True, False),
        ("https://id.example/\r\nx: y", True, False),
        ("https://ïd.example/", True, False),
        ("https://[::1/", True, False),
        ("https://id.example\\@evil.example/", True, False),
        ("//id.example/", True, False),
        ("", True, False),
    ],
)
def test_where_we_would_go(url: str, https_only: bool, usable: bool) -> None:
    assert usable_url(url, plain=not https_only) is usable
