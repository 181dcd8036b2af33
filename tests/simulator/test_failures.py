"""Every named failure, over the wire."""

from __future__ import annotations

import pytest

from ops.simulator.failures import NAMES
from tests.simulator.conftest import Peer


@pytest.mark.parametrize("name", sorted(NAMES))
async def test_each_named_failure_is_answered_before_any_stream(peer: Peer, name: str) -> None:
    answer = await peer.ask(f"sim:http={name}")
    assert "text/event-stream" not in answer.headers.get("content-type", "")
    assert answer.headers["x-request-id"].startswith("req_")
    assert peer.counts()[f"status_{answer.status_code}"] == 1


async def test_usage_limit_carries_its_reset_or_none(peer: Peer) -> None:
    timed = await peer.ask("sim:http=usage_limit_reached,resets_in_s=60")
    error = timed.json()["error"]
    assert (timed.status_code, error["type"], error["plan_type"]) == (429, "usage_limit_reached", "pro")
    assert error["resets_in_seconds"] == 60
    assert timed.headers["x-codex-primary-used-percent"] == "100"
    bare = (await peer.ask("sim:http=usage_limit_reached,resets_in_s=0")).json()["error"]
    assert "resets_at" not in bare


async def test_retry_after_and_location_are_added(peer: Peer) -> None:
    limited = await peer.ask("sim:http=rate_limit_exceeded,retry_after_s=7")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert "try again in 7s" in limited.json()["error"]["message"]
    assert (await peer.ask("sim:http=503,retry_after_s=3")).headers["retry-after"] == "3"
    moved = await peer.ask("sim:http=307,location=http://127.0.0.1:1/x")
    assert (moved.status_code, moved.headers["location"]) == (307, "http://127.0.0.1:1/x")


async def test_cloudflare_is_html_with_its_marks(peer: Peer) -> None:
    answer = await peer.ask("sim:http=cloudflare")
    assert (answer.status_code, answer.headers["cf-mitigated"]) == (403, "challenge")
    assert "Just a moment" in answer.text
    assert answer.headers["content-type"].startswith("text/html")


async def test_an_unknown_name_is_said(peer: Peer) -> None:
    answer = await peer.ask("sim:http=no_such_failure")
    assert answer.status_code == 400
    assert "no_such_failure" in answer.json()["detail"]
