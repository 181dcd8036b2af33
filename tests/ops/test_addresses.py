"""Where a URL of somebody else's may lead: nowhere private, in whatever spelling, and not by a second answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

from ops.addresses import AddressRefused, allowed, checked_address, networks

BAD_HOSTS = (
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
    "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2001:0:7f00:1::",
    "64:ff9b::7f00:1", "2001:db8::1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.1", "1.2.3",
    "0177.0.0.1", "user@example.com", "exa mple.com", "example.com\r\n", "", "-a.com", "a..com", "[::1]",
    "example.com:80", "127。0。0。1",
)  # fmt: skip


async def public(host: str, port: int) -> Sequence[str]:
    return ["93.184.215.14"]


@pytest.mark.parametrize("host", BAD_HOSTS)
async def test_a_private_place_is_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(AddressRefused):
        await checked_address(host, 443, resolve=public)


@pytest.mark.parametrize(
    "host", ["example.com", "EXAMPLE.com.", "xn--bcher-kva.example", "93.184.215.14", "2606:4700::1111"]
)
async def test_a_public_place_is_not(host: str) -> None:
    assert await checked_address(host, 443, resolve=public)


async def test_one_private_answer_among_public_ones_refuses_the_name() -> None:
    async def mixed(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14", "127.0.0.1"]

    with pytest.raises(AddressRefused, match="private"):
        await checked_address("example.com", 443, resolve=mixed)


async def test_the_name_is_asked_for_once_and_the_answer_is_what_is_connected_to() -> None:
    answers = iter((["93.184.215.14"], ["127.0.0.1"]))

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    assert await checked_address("example.com", 443, resolve=rebinding) == "93.184.215.14"
    assert next(answers) == ["127.0.0.1"]


async def test_a_name_without_an_address_is_refused() -> None:
    async def nothing(host: str, port: int) -> Sequence[str]:
        raise OSError

    with pytest.raises(AddressRefused, match="does not resolve"):
        await checked_address("example.com", 443, resolve=nothing)


async def test_a_named_network_is_allowed_and_nothing_beside_it() -> None:
    private = networks(["10.1.0.0/16"])
    assert await checked_address("10.1.2.3", 80, private=private) == "10.1.2.3"
    with pytest.raises(AddressRefused):
        await checked_address("10.2.0.1", 80, private=private)
    assert allowed(ipaddress.ip_address("::ffff:10.1.2.3"), private)


def test_a_network_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError):
        networks(["10.1.0.0/99"])
