"""What the upstream's statuses do: to the client's answer, to the accounts, to the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import ended, stage, tried

HEALTHY = ["ok", "ok"]
THREE = ["ok", "ok", "ok"]
NO_MODEL = "The 'gpt-5.5' model is not supported when using Codex with a ChatGPT account."


@pytest.mark.fault("B22")
async def test_a_page_of_the_edge_is_a_502_that_opens_the_route_and_blames_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=FakeClock(), accounts=3) as scene:
        upstream.default = statuses.cloudflare()
        for attempts, so_far in ((2, 2), (2, 4), (1, 5)):
            answer = await scene.relay()
            await scene.prove(
                answer,
                status=502,
                code="upstream_blocked",
                states=THREE,
                strikes=[0, 0, 0],
                attempts=attempts,
                metric=tried("upstream_blocked", so_far),
            )
        assert scene.route == "open"
        assert (await scene.relay()).attempts == 0
        assert upstream.requests == 5
        alerts = [line for line in capsys.readouterr().out.splitlines() if "alert" in line]
        assert len(alerts) == 5
        assert all("upstream_blocked" in line for line in alerts)


@pytest.mark.fault("B23")
@pytest.mark.parametrize(
    "mode",
    [
        statuses.forbidden(),
        statuses.forbidden(None),
        statuses.payment_required("deactivated_workspace"),
        statuses.unauthorized("account_deactivated"),
    ],
    ids=str,
)
async def test_an_account_that_is_refused_twice_is_blocked_and_the_other_serves(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.per_account["acct-0"] = mode
        while upstream.requests_by_account["acct-0"] < 2:
            assert scene.state(0) == "ok"
            answer = await scene.relay()
            assert (answer.status, scene.number_of(answer)) == (200, 1)
        await scene.prove(answer, status=200, code=None, states=["open", "ok"], attempts=2, metric=tried("blocked", 2))
        assert scene.causes(0) == {"blocked"}
        assert [(await scene.relay()).attempts for _ in range(3)] == [1, 1, 1]


@pytest.mark.fault("B23")
async def test_when_every_account_is_refused_the_client_gets_no_403(tmp_path: Path) -> None:
    """A 403 would be about the client's key, and a Codex CLI would throw its own login away."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = statuses.forbidden()
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=503,
            code="no_accounts",
            states=HEALTHY,
            strikes=[1, 1],
            attempts=2,
            metric=tried("blocked", 2),
        )


@pytest.mark.fault("B24")
@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        (statuses.server_error(500), "server_error"),
        (statuses.server_error(502), "server_error"),
        (statuses.status(500, b"<html>oops</html>", content_type="text/html"), "server_error"),
        (statuses.overloaded(), "overloaded"),
        (statuses.overloaded("slow_down"), "overloaded"),
        (statuses.overloaded("overloaded_error", number=529), "overloaded"),
    ],
    ids=str,
)
async def test_one_failure_of_the_server_is_another_accounts_stream(tmp_path: Path, mode: Mode, outcome: str) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode)
        answer = await scene.relay()
        await scene.prove(
            answer, status=200, code=None, states=HEALTHY, strikes=[0, 1], attempts=2, metric=tried(outcome, 1)
        )
        assert scene.strikes(scene.number_of(answer)) == 0


@pytest.mark.fault("B24")
async def test_strikes_in_a_row_open_the_breaker_of_that_account_alone(tmp_path: Path) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, router={"breaker_failures": 3}) as scene,
    ):
        upstream.per_account["acct-0"] = statuses.server_error()
        while upstream.requests_by_account["acct-0"] < 3:
            answer = await scene.relay()
            assert (answer.status, scene.number_of(answer)) == (200, 1)
        await scene.prove(answer, status=200, code=None, states=["open", "ok"], metric=tried("server_error", 3))
        assert scene.causes(0) == {"broken"}
        assert [(await scene.relay()).attempts for _ in range(3)] == [1, 1, 1]


@pytest.mark.fault("B26")
@pytest.mark.parametrize(
    ("mode", "status", "code", "param", "words"),
    [
        (statuses.refused(400), 400, "invalid_request", None, "Unsupported parameter: temperature"),
        (statuses.refused(404, "Not Found"), 404, "invalid_request", None, "Not Found"),
        (statuses.refused(413, "too large"), 413, "invalid_request", None, "too large"),
        (statuses.early(413), 413, "invalid_request", None, "too large"),
        (statuses.refused(422, "not valid"), 422, "invalid_request", None, "not valid"),
        (statuses.refused_by(), 400, "context_length_exceeded", "input", "context_length_exceeded, says the backend"),
        (statuses.status(400, b"<html>no</html>"), 400, "invalid_request", None, "did not say why"),
    ],
    ids=str,
)
async def test_a_complaint_about_the_request_comes_in_our_shape_and_is_not_tried_again(
    tmp_path: Path, mode: Mode, status: int, code: str, param: str | None, words: str
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=status,
            code=code,
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            metric=tried("request", 1),
        )
        assert answer.error["param"] == param
        assert words in answer.error["message"]
        assert answer.error["type"] == "invalid_request_error"
        assert upstream.requests == 1


@pytest.mark.fault("B27")
@pytest.mark.parametrize("mode", [statuses.html_200(), statuses.json_200()], ids=str)
async def test_a_200_that_is_no_stream_is_a_502(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=3) as scene:
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=502,
            code="upstream_error",
            states=THREE,
            strikes=[0, 0, 0],
            attempts=2,
            metric=tried("protocol_error", 2),
        )


@pytest.mark.fault("B28")
@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_a_redirect_is_never_followed(tmp_path: Path, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=3) as scene:
        upstream.default = statuses.redirect(code)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=502,
            code="upstream_error",
            states=THREE,
            strikes=[0, 0, 0],
            attempts=2,
            metric=tried("redirect", 2),
        )
        upstream.routes["/backend-api/codex/models"] = statuses.redirect(code)
        assert (await scene.client.get("/v1/models")).status_code == 200
        assert "location" not in answer.headers
        assert upstream.canary_hits == 0
        assert "alert" in capsys.readouterr().out


@pytest.mark.fault("B29")
@pytest.mark.parametrize(
    "mode",
    [
        statuses.payment_required("plan_ended"),
        statuses.status(410, {"detail": "The requested model has been retired."}),
        statuses.refused(400, NO_MODEL),
        statuses.unauthorized("model_not_available"),
    ],
    ids=str,
)
async def test_a_model_that_one_plan_lost_rests_there_for_that_model_alone(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode, account="acct-0")
        while not upstream.requests_by_account["acct-0"]:
            answer = await scene.relay()
        await scene.prove(
            answer, status=200, code=None, states=HEALTHY, strikes=[0, 0], attempts=2, metric=tried("model", 1)
        )
        assert scene.number_of(answer) == 1
        assert scene.causes(0) == {"model"}
        assert {scene.number_of(await scene.relay()) for _ in range(3)} == {1}
        other = [await scene.relay({"model": "gpt-5.1-codex"}) for _ in range(4)]
        assert {scene.number_of(one) for one in other} == {0, 1}


@pytest.mark.fault("B29")
async def test_a_model_that_every_plan_lost_is_a_400(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = statuses.refused(400, NO_MODEL)
        answer = await scene.relay()
        await scene.prove(
            answer, status=400, code="model_not_found", states=HEALTHY, attempts=2, metric=tried("model", 2)
        )
        upstream.default = modes.good()
        other = await scene.relay({"model": "gpt-5.1-codex"})
        await scene.prove(other, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))
