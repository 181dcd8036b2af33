"""One message for a person, however often the same thing is found."""

from __future__ import annotations

from typing import Any

from ops.alerts import Alerts
from tests.fakes.clock import FakeClock


class Post:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    def send(self, kind: str, text: str, data: dict[str, Any]) -> None:
        self.sent.append((kind, text, data))


def test_the_same_alert_is_counted_each_time_and_told_once_an_hour() -> None:
    clock, post, counted = FakeClock(), Post(), list[str]()
    alerts = Alerts(counted.append, post, clock)
    for _ in range(3):
        alerts("needs_reauth", "a1", "refused; import a new login")
    alerts("needs_reauth", "a2", "refused")
    assert counted == ["needs_reauth"] * 4
    assert [(kind, data["account"]) for kind, _, data in post.sent] == [
        ("alert.needs_reauth", "a1"),
        ("alert.needs_reauth", "a2"),
    ]
    clock.advance(3600)
    alerts("needs_reauth", "a1", "refused")
    assert len(post.sent) == 3


def test_without_webhooks_it_only_counts() -> None:
    counted = list[str]()
    Alerts(counted.append, None, FakeClock())("needs_reauth", "a1", "refused")
    assert counted == ["needs_reauth"]


def test_what_is_remembered_is_bounded() -> None:
    clock, post = FakeClock(), Post()
    alerts = Alerts(lambda kind: None, post, clock)
    for number in range(2500):
        alerts("upstream_blocked", f"a{number}", "x")
    assert len(post.sent) == 2500
    alerts("upstream_blocked", "a2499", "x")
    assert len(post.sent) == 2500
