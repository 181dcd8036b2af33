"""The real clients against the simulator itself: whatever they accept here, they accept from the backend's shape."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem

from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.real.conftest import CodexCli

pytestmark = [pytest.mark.slow, pytest.mark.real]

# With plain http the CLI wants an https origin named, and uses its own base URL when that origin is another one.
FOR_CLI = SimulatorConfig(workspace_backend_origin="https://chatgpt.com")


@pytest.fixture
async def sim() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(FOR_CLI) as running:
        yield running


def sdk(sim: RunningSimulator, auth: dict[str, Any]) -> openai.AsyncOpenAI:
    tokens = auth["tokens"]
    return openai.AsyncOpenAI(
        api_key=tokens["access_token"],
        base_url=sim.base_url,
        default_headers={"chatgpt-account-id": tokens["account_id"]},
        max_retries=0,
    )


def chatgpt_mode(sim: RunningSimulator, model: str = "gpt-5.5", more: str = "") -> str:
    return (
        f'model = "{model}"\n'
        f'chatgpt_base_url = "http://localhost:{sim.port}/backend-api"\n'
        f'openai_base_url = "http://127.0.0.1:{sim.port}/backend-api/codex"\n{more}'
    )


def asked(text: str) -> dict[str, Any]:
    return {"model": "gpt-5.5", "instructions": "", "store": False, "input": [{"role": "user", "content": text}]}


async def test_sdk_stream_helper_returns_the_final_response(sim: RunningSimulator) -> None:
    """``responses.stream()`` accepts every event, private ones included, and ends with text and usage."""
    async with (
        sdk(sim, sim.state.new_account()) as client,
        client.responses.stream(
            **asked("sim:reasoning,noise,events=5"), include=["reasoning.encrypted_content"]
        ) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds.count("response.output_text.delta") == 5
    assert final.output_text == "The simulated model answers with "
    assert isinstance(final.output[0], ResponseReasoningItem)
    assert final.output[0].encrypted_content is not None
    assert final.usage is not None
    assert final.usage.total_tokens == final.usage.input_tokens + final.usage.output_tokens


async def test_sdk_events_are_typed_and_numbered_without_gaps(sim: RunningSimulator) -> None:
    """Plain ``create(stream=True)`` yields events whose models validate strictly, numbered from 0."""
    async with sdk(sim, sim.state.new_account()) as client:
        stream = await client.responses.create(**asked('sim:tool=get_weather city="New York"'), stream=True)
        events = [event async for event in stream]
    public = [event for event in events if event.type.startswith("response.")]
    assert [event.sequence_number for event in public] == list(range(len(public)))
    for event in public:
        type(event).model_validate(event.to_dict(), strict=False)
    assert public[-1].type == "response.completed"
    call = public[-1].response.output[0]
    assert isinstance(call, ResponseFunctionToolCall)
    assert json.loads(call.arguments) == {"city": "New York"}


async def test_sdk_without_stream_is_refused_as_the_backend_does(sim: RunningSimulator) -> None:
    async with sdk(sim, sim.state.new_account()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**asked("hi"))
    assert caught.value.response.json() == {"detail": "Stream must be set to true"}


def provider_mode(sim: RunningSimulator, account_id: str, model: str = "gpt-5.5") -> str:
    return (
        f'model = "{model}"\nmodel_provider = "sim"\n[model_providers.sim]\nname = "sim"\n'
        f'base_url = "{sim.base_url}"\nenv_key = "SIM_KEY"\nwire_api = "responses"\nrequest_max_retries = 0\n'
        f'stream_max_retries = 1\nhttp_headers = {{ "chatgpt-account-id" = "{account_id}" }}\n'
    )


async def test_codex_with_a_custom_provider(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """The CLI with a provider block of its own calls the model endpoint only, uncompressed, and shows the text."""
    tokens = sim.state.new_account()["tokens"]
    codex_cli.configure(provider_mode(sim, tokens["account_id"]))
    run = await codex_cli.exec('sim:text="Hello from the simulator."', env={"SIM_KEY": tokens["access_token"]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.last_message() == "Hello from the simulator."
    assert {request.path for request in sim.state.requests} == {"/backend-api/codex/responses"}
    assert "content-encoding" not in sim.state.requests[-1].headers


async def test_codex_in_code_mode_edits_a_file_by_javascript(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """Without the backend's catalogue the CLI offers a Lite model ``exec``; the agent speaks JavaScript to it."""
    tokens = sim.state.new_account()["tokens"]
    codex_cli.configure(provider_mode(sim, tokens["account_id"], "gpt-6-sol"))
    run = await codex_cli.exec("sim:edit-file code.txt", env={"SIM_KEY": tokens["access_token"]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert (codex_cli.workdir / "code.txt").read_text() == "made by the simulator\n"
    assert any(item["type"] == "custom_tool_call" for item in sim.state.requests[-1].json["input"])


@pytest.mark.parametrize(
    ("prompt", "posts", "words"),
    [
        ("sim:fail=server_is_overloaded", 1, "at capacity"),
        ("sim:fail=context_length_exceeded,at=2", 1, "context window"),
        ("sim:fail=server_error,message=broken", 2, "broken"),
        ("sim:incomplete=max_output_tokens,at=1", 1, "max_output_tokens"),
        ("sim:cut=eof,at=2", 2, "stream closed before response.completed"),
        ("sim:cut=mid,at=2", 2, "stream disconnected"),
        ("sim:http=usage_not_included", 1, "upgrade"),
        ("sim:http=cloudflare", 2, "Just a moment"),
        ("sim:http=deactivated_workspace", 2, "deactivated_workspace"),
        ("sim:http=server_error", 2, "high demand"),
        ("sim:http=server_is_overloaded", 1, "at capacity"),
        ("sim:http=insufficient_quota", 1, "Quota exceeded"),
        ("sim:http=html200", 2, "stream closed before response.completed"),
    ],
)
async def test_codex_understands_each_failure_as_it_does_the_backends(
    sim: RunningSimulator, codex_cli: CodexCli, prompt: str, posts: int, words: str
) -> None:
    """The turn fails with the CLI's own words for that failure, after the retries that it grants it."""
    tokens = sim.state.new_account()["tokens"]
    codex_cli.configure(provider_mode(sim, tokens["account_id"]))
    run = await codex_cli.exec(prompt, env={"SIM_KEY": tokens["access_token"]})
    assert run.returncode == 1
    (failed,) = run.of_type("turn.failed")
    assert words.lower() in failed["error"]["message"].lower()
    assert sim.state.counts["responses"] == posts


async def test_codex_retries_a_cut_stream_and_succeeds(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    tokens = sim.state.new_account()["tokens"]
    sim.state.script(tokens["account_id"], ["cut=rst,at=1", "text=whole"])
    codex_cli.configure(provider_mode(sim, tokens["account_id"]))
    run = await codex_cli.exec("hi", env={"SIM_KEY": tokens["access_token"]})
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.last_message() == "whole"
    assert sim.state.counts["responses"] == 2


@pytest.mark.parametrize("model", ["gpt-5.5", "gpt-6-sol"])
async def test_codex_signed_in_edits_a_file_in_a_tool_loop(
    sim: RunningSimulator, codex_cli: CodexCli, model: str
) -> None:
    """ChatGPT sign-in: routing check, 426 fallback, zstd bodies, sealed reasoning and turn state echoed, file made.

    With a classic model by a plain function, with a Lite model by a function in a namespace.
    """
    auth = sim.state.new_account()
    codex_cli.sign_in(auth)
    codex_cli.configure(chatgpt_mode(sim, model))
    run = await codex_cli.exec("Please do it. sim:edit-file hello.txt")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (codex_cli.workdir / "hello.txt").read_text() == "made by the simulator\n"
    commands = run.items("command_execution")
    assert [command["exit_code"] for command in commands] == [0, 0]
    assert "made by the simulator" in commands[1]["aggregated_output"]
    assert "hello.txt" in run.last_message()
    counts = sim.state.counts
    assert counts["accounts_check"] >= 1
    assert counts["upgrades_refused"] >= 1
    posts = [request for request in sim.state.requests_to("/codex/responses") if request.method == "POST"]
    assert len(posts) == 3
    assert {request.headers["content-encoding"] for request in posts} == {"zstd"}
    assert "x-codex-turn-state" not in posts[0].headers
    assert posts[1].headers["x-codex-turn-state"] == posts[2].headers["x-codex-turn-state"]
    sealed = [i["encrypted_content"] for i in posts[2].json["input"] if i["type"] == "reasoning"]
    assert len(sealed) == 2
    assert all(sealed)
    assert not sim.state.accounts[auth["tokens"]["account_id"]].counts["foreign_content"]


async def test_codex_refreshes_an_expired_token_once(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """An auth.json with a dead access token: the CLI exchanges the refresh token once and stores the rotated one."""
    auth = sim.state.new_account(access_token_lifetime_s=-60)
    codex_cli.sign_in(auth)
    codex_cli.configure(chatgpt_mode(sim))
    run = await codex_cli.exec("hi", env={"CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{sim.url}/oauth/token"})
    assert run.returncode == 0, run.stdout + run.stderr
    first = sim.state.refresh_tokens[auth["tokens"]["refresh_token"]]
    assert (first.exchanges, first.rotations, first.state) == (1, 1, "used")
    account_id = auth["tokens"]["account_id"]
    assert codex_cli.auth()["tokens"]["refresh_token"] == sim.state.accounts[account_id].refresh_token
    assert sim.state.counts["reuses"] == 0


async def test_codex_recovers_from_a_401_by_refreshing(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """A token that the backend stopped taking leads to one refresh and a turn that succeeds."""
    auth = sim.state.new_account()
    codex_cli.sign_in(auth)
    codex_cli.configure(chatgpt_mode(sim))
    sim.state.refuse_access(auth["tokens"]["account_id"])
    run = await codex_cli.exec("hi", env={"CODEX_REFRESH_TOKEN_URL_OVERRIDE": f"{sim.url}/oauth/token"})
    assert run.returncode == 0, run.stdout + run.stderr
    assert sim.state.counts["rotations"] == 1


async def test_codex_compacts_with_a_trigger_item(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """A turn whose usage fills the window is followed by a compaction call; its sealed item is sent on afterwards."""
    codex_cli.sign_in(sim.state.new_account())
    codex_cli.configure(
        chatgpt_mode(sim, more="model_context_window = 20000\nmodel_auto_compact_token_limit = 15000\n")
    )
    run = await codex_cli.exec('sim:input_tokens=19000 sim:tool=exec_command cmd="true"')
    assert run.returncode == 0, run.stdout + run.stderr
    inputs = [r.json["input"] for r in sim.state.requests_to("/codex/responses") if r.method == "POST"]
    kinds = [[item["type"] for item in one] for one in inputs]
    assert any(one[-1] == "compaction_trigger" for one in kinds)
    assert any("compaction" in one for one in kinds)


async def test_codex_shows_the_usage_limit(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """429 ``usage_limit_reached`` in the simulator's shape is what the CLI calls a usage limit: one POST, no retry."""
    auth = sim.state.new_account()
    codex_cli.sign_in(auth)
    codex_cli.configure(chatgpt_mode(sim))
    sim.state.exhaust(auth["tokens"]["account_id"])
    run = await codex_cli.exec("hi")
    assert run.returncode == 1
    assert "usage limit" in run.stdout
    posts = [request for request in sim.state.requests_to("/codex/responses") if request.method == "POST"]
    assert len(posts) == 1


async def test_codex_takes_the_catalogue_and_the_token_of_the_issuer(
    sim: RunningSimulator, codex_cli: CodexCli
) -> None:
    """A personal access token works by whoami, and the simulated model list is accepted without a warning."""
    account_id = sim.state.new_account()["tokens"]["account_id"]
    codex_cli.configure(chatgpt_mode(sim))
    run = await codex_cli.exec(
        "hi",
        env={
            "CODEX_ACCESS_TOKEN": sim.state.new_pat(account_id),
            "CODEX_AUTHAPI_BASE_URL": f"{sim.url}/api/accounts",
        },
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.items("error") == []
    cached = json.loads((codex_cli.home / "models_cache.json").read_text())["models"]
    assert [entry["slug"] for entry in cached] == [entry["slug"] for entry in sim.state.config.models]


async def test_codex_signed_in_with_a_provider_of_its_own(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """``requires_openai_auth``: bearer and account header, no upgrade, no compression, the catalogue from there."""
    auth = sim.state.new_account()
    codex_cli.sign_in(auth)
    codex_cli.configure(
        f'model = "gpt-5.5"\nmodel_provider = "sim"\nchatgpt_base_url = "http://localhost:{sim.port}/backend-api"\n'
        f'[model_providers.sim]\nname = "sim"\nbase_url = "{sim.base_url}"\nwire_api = "responses"\n'
        "requires_openai_auth = true\nsupports_websockets = false\n"
    )
    run = await codex_cli.exec("sim:text=signed")
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.last_message() == "signed"
    (post,) = sim.state.requests_to("/codex/responses")
    assert post.account_id == auth["tokens"]["account_id"]
    assert "content-encoding" not in post.headers
    assert sim.state.counts["models"] >= 1
    assert sim.state.counts["accounts_check"] >= 1


async def test_codex_logs_in_by_device_code(sim: RunningSimulator, codex_cli: CodexCli) -> None:
    """``codex login --device-auth`` against the simulated issuer ends with tokens that the backend takes."""
    import asyncio

    from ops.simulator import approve

    account_id = sim.state.new_account()["tokens"]["account_id"]
    login = asyncio.create_task(codex_cli.run("login", "--device-auth", "--experimental_issuer", sim.url, timeout_s=50))
    await sim.state.until(lambda: sim.state.counts["device_logins"] == 1, timeout_s=30)
    (waiting,) = sim.state.device_logins.values()
    approve(sim.state, waiting.user_code, account_id)
    run = await login
    assert run.returncode == 0, run.stdout + run.stderr
    assert sim.state.access_refusal(codex_cli.auth()["tokens"]["access_token"]) is None


async def test_our_authorize_address_is_the_one_that_codex_opens(codex_cli: CodexCli) -> None:
    """What ``codex login`` prints, but for its random values and the order of members."""
    import asyncio
    from urllib.parse import parse_qs, urlsplit

    from auth.callback import authorize_url, new_challenge

    process = await asyncio.create_subprocess_exec(
        *(str(codex_cli.binary), "login"),
        env={"PATH": os.environ["PATH"], "CODEX_HOME": str(codex_cli.home), "HTTPS_PROXY": "http://127.0.0.1:9"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    shown: list[str] = []
    try:
        async with asyncio.timeout(40):
            async for line in process.stdout:
                shown.append(line.decode().strip())
                if "/oauth/authorize?" in shown[-1]:
                    break
    finally:
        # the script starts the binary as a child of its own, which would go on listening
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
    if not shown or "/oauth/authorize?" not in shown[-1]:
        pytest.skip(f"codex login did not print its address; is port 1455 taken? it said: {shown[-3:]}")
    theirs = urlsplit(shown[-1])
    ours = urlsplit(authorize_url("https://auth.openai.com", "app_EMoamEEZ73f0CkXaXp7hrann", new_challenge()))
    assert (ours.scheme, ours.netloc, ours.path) == (theirs.scheme, theirs.netloc, theirs.path)
    mine, its = parse_qs(ours.query), parse_qs(theirs.query)
    assert list(mine) == list(its)
    for random_one in ("state", "code_challenge"):
        assert len(mine.pop(random_one)[0]) == len(its.pop(random_one)[0]) == 43
    assert mine == its
