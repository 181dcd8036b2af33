"""Grants: what a token opens, and what none does."""

from __future__ import annotations

import base64

import pytest

from sandbox.egress_head import Head, Target, parse_head
from sandbox.egress_policy import MIB, Decision, EgressRules, Grant, Grants, Refused, Teller, covers
from sandbox.types import NetworkPolicy
from store.records import Secret

TOKEN = "t" * 43
RULES = EgressRules(grant_connections=2, told=4)


def asking(value: str) -> Head:
    return parse_head(f"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: {value}\r\n\r\n".encode())


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_token_is_known_whatever_name_comes_with_it_and_until_its_end() -> None:
    grants = Grants()
    grant = Grant("task/1", NetworkPolicy(), 100.0)
    grants.add(Secret(TOKEN), grant)
    for user in ("setup", "", "task/1"):
        assert grants.of(asking(basic(f"{user}:{TOKEN}")), 99.0) is grant
    assert grants.of(asking(basic(f"setup:{TOKEN}")), 100.0) is None
    for wrong in (basic(TOKEN), basic(f"setup:{TOKEN}x"), basic("setup:"), "Basic", "Basic ???", f"Bearer {TOKEN}", ""):
        assert grants.of(asking(wrong), 0.0) is None, wrong
    assert grants.remove("other") == []
    assert grants.remove("task/1") == [grant]
    assert grants.of(asking(basic(f"setup:{TOKEN}")), 0.0) is None


def test_a_token_is_long_and_given_once() -> None:
    grants = Grants()
    grants.add(Secret(TOKEN), Grant("a", NetworkPolicy(), 1.0))
    for bad in (TOKEN, "short", "x" * 513):
        with pytest.raises(ValueError, match="egress token"):
            grants.add(Secret(bad), Grant("b", NetworkPolicy(), 1.0))


@pytest.mark.parametrize(
    ("domains", "host", "covered"),
    [
        (("example.com",), "example.com", True), (("Example.com.",), "example.com", True),
        (("example.com",), "a.example.com", False), (("*.example.com",), "a.example.com", True),
        (("*.example.com",), "a.b.example.com", True), (("*.example.com",), "example.com", False),
        (("*.example.com",), ".example.com", False), (("*.example.com",), "evilexample.com", False),
        (("example.com",), "example.com.evil.com", False), ((), "example.com", False), (("*",), "example.com", False),
    ],
)  # fmt: skip
def test_which_hosts_a_list_covers(domains: tuple[str, ...], host: str, covered: bool) -> None:
    assert covers(domains, host) is covered


@pytest.mark.parametrize(
    ("method", "target", "now_s", "used", "why"),
    [
        ("CONNECT", Target("a.com", 443), 10.0, 0, "time is over"),
        ("CONNECT", Target("a.com", 22), 0.0, 0, "port 22"),
        ("CONNECT", Target("a.com", 80), 0.0, 0, "port 80"),
        ("GET", Target("a.com", 443), 0.0, 0, "port 443"),
        ("POST", Target("a.com", 80), 0.0, 0, "method POST"),
        ("CONNECT", Target("b.com", 443), 0.0, 0, "not on this environment's list"),
        ("CONNECT", Target("a.com", 443), 0.0, MIB, "1 MiB is reached"),
    ],
)
def test_why_a_request_is_refused(method: str, target: Target, now_s: float, used: int, why: str) -> None:
    grant = Grant("t", NetworkPolicy(("a.com",), max_mib=1), 10.0, used_bytes=used)
    with pytest.raises(Refused, match=why):
        grant.check(method, target, RULES, now_s)
    Grant("t", NetworkPolicy(("a.com",), max_mib=1), 10.0).check("CONNECT", Target("a.com", 443), RULES, 0.0)


def test_so_many_decisions_are_told_and_then_one_that_says_so() -> None:
    told: list[Decision] = []
    teller, grant = Teller(told.append, RULES), Grant("t", NetworkPolicy(), 1.0)
    for port in range(9):
        teller.tell(grant, Decision("t", False, "a", port, "GET"))
    assert [one.reason for one in told] == ["", "", "", "more happened than is told here"]
