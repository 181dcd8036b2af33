"""Near is what is loopback or private by every address it has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.x_codex.near import is_near


async def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host}:{port} was resolved")


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:8080/backend-api/codex", True),
        ("http://[::1]/x", True),
        ("https://10.1.2.3/x", True),
        ("https://192.168.0.9", True),
        ("https://[fd00::1]/x", True),
        ("https://[::ffff:10.0.0.1]/x", True),
        ("https://[::ffff:8.8.8.8]/x", False),
        ("https://8.8.8.8/x", False),
        ("https://0.0.0.0/x", False),
        ("https://169.254.169.254/x", False),
        ("https://224.0.0.1/x", False),
        ("nothing", False),
    ],
)
async def test_an_address_speaks_for_itself(url: str, near: bool) -> None:
    assert await is_near(url, never) is near


@pytest.mark.parametrize(
    ("addresses", "near"),
    [
        (["127.0.0.1", "::1"], True),
        (["10.0.0.1", "8.8.8.8"], False),
        (["fe80::1%eth0"], False),
        (["what"], False),
        ([], False),
    ],
)
async def test_every_address_of_a_name_counts(addresses: list[str], near: bool) -> None:
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return addresses

    assert await is_near("https://upstream.internal/x", resolve) is near
    assert asked == [("upstream.internal", 443)]


async def test_a_name_that_does_not_resolve_is_not_near() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    assert not await is_near("http://upstream.internal:81/x", resolve)
