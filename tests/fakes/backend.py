"""The upstream side of the loop without sockets: scripted streams, a client that gives them out, tokens that count."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from auth.errors import CredentialError
from auth.tokens import TokenSource
from auth.types import Caller
from gateway.adapt import Adapted
from gateway.exchange import Exchange
from gateway.types import Dialect, RelayRequest
from store.records import Account, Credential, Limits, Secret
from tests.fakes.records import make_credential
from tests.fakes.routing import MODEL
from upstream.client import CodexClient
from upstream.errors import UpstreamError
from upstream.response import UpstreamResponse
from upstream.types import RateLimitWindow, RawHeaders, UpstreamRequest

Step = bytes | None | UpstreamError | asyncio.Event
"""What ``next_block`` does: a block, None (nothing came in time), an error, or waiting for the event."""


def event(kind: str, **members: object) -> bytes:
    """One event in the backend's plain form; every value of ``members`` must be JSON already as its str()."""
    rest = "".join(f',"{name}":{value}' for name, value in members.items())
    return f'event: {kind}\ndata: {{"type":"{kind}"{rest}}}\n\n'.encode()


CREATED = event("response.created", sequence_number=0)
DELTA = event("response.output_text.delta", sequence_number=1, delta='"hello"')
COMPLETED = event(
    "response.completed",
    sequence_number=2,
    response='{"status":"completed","usage":{"input_tokens":7,"output_tokens":3}}',
)


class FakeResponse:
    """Gives out ``steps`` one by one, then b"" for good. ``waits`` are the times it was asked to wait."""

    def __init__(self, *steps: Step, headers: RawHeaders | None = None, window: float | None = None) -> None:
        self.steps = deque(steps)
        self.status = 200
        self.headers: RawHeaders = headers or []
        self.windows: list[RateLimitWindow] = []
        self.window_fields: tuple[bytes, ...] = ()
        if window is not None:
            self.windows = [RateLimitWindow("primary", window, 300, None)]
            self.window_fields = (str(window).encode(),)
        self.waits: list[float | None] = []
        self.asked = asyncio.Event()
        self.closes = 0
        self.ending = False

    @property
    def closed(self) -> bool:
        return self.closes > 0

    async def next_block(self, wait_s: float | None = None) -> bytes | None:
        self.waits.append(wait_s)
        if not self.steps:
            return b""
        step = self.steps.popleft()
        if isinstance(step, asyncio.Event):
            assert not self.ending, "waited although the end was expected"
            self.asked.set()
            await step.wait()
            return await self.next_block(wait_s)
        if isinstance(step, UpstreamError):
            raise step
        return step

    def forget_head(self) -> None:
        self.headers = []

    def expect_end(self) -> None:
        self.ending = True

    def close(self) -> None:
        self.closes += 1

    def real(self) -> UpstreamResponse:
        return cast("UpstreamResponse", self)


@dataclass
class Sent:
    """One call that went up."""

    account_id: str
    token: str
    request: UpstreamRequest


@dataclass
class FakeCodex:
    """``answers`` in order: a response, an error, or an event to hang on. ``by_account`` goes first."""

    answers: deque[FakeResponse | UpstreamError | asyncio.Event] = field(default_factory=deque)
    by_account: dict[str, Callable[[], FakeResponse | UpstreamError]] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, request: UpstreamRequest, account: Account, credential: Credential) -> UpstreamResponse:
        self.sent.append(Sent(account.id, credential.access_token.reveal(), request))
        made = self.by_account.get(account.id)
        answer = made() if made is not None else self.answers.popleft()
        if isinstance(answer, asyncio.Event):
            self.asked.set()
            await answer.wait()
            answer = self.answers.popleft()
        if isinstance(answer, UpstreamError):
            raise answer
        assert isinstance(answer, FakeResponse)
        return answer.real()

    def real(self) -> CodexClient:
        return cast("CodexClient", self)


@dataclass
class FakeTokens:
    """A token per account that counts its renewals; ``broken`` accounts have none. Two gates hold calls up."""

    broken: dict[str, CredentialError] = field(default_factory=dict)
    unrenewable: dict[str, CredentialError] = field(default_factory=dict)
    condemned: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    condemning: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def _credential(self, account_id: str) -> Credential:
        times = self.renewed.count(account_id)
        return make_credential(account_id, access_token=Secret(f"{account_id}-token-{times}"))

    async def _pass(self) -> None:
        if self.gate is not None:
            self.asked.set()
            await self.gate.wait()

    async def get(self, account: Account) -> Credential:
        await self._pass()
        if (error := self.broken.get(account.id)) is not None:
            raise error
        return self._credential(account.id)

    async def renew(self, account: Account, rejected: Credential) -> Credential:
        await self._pass()
        assert rejected.account_id == account.id
        if (error := self.unrenewable.get(account.id)) is not None:
            raise error
        self.renewed.append(account.id)
        return self._credential(account.id)

    async def condemn(self, account: Account, reason: str) -> None:
        assert reason
        self.condemned.append(account.id)
        if self.condemning is not None:
            self.asked.set()
            await self.condemning.wait()

    def real(self) -> TokenSource:
        return cast("TokenSource", self)


def make_caller(tenant: str = "t1", key: str = "k1", **changes: object) -> Caller:
    fields: dict[str, object] = {
        "scopes": frozenset({"relay"}),
        "models": (),
        "pools": (),
        "key_limits": Limits(),
        "tenant_limits": Limits(),
    }
    return Caller(tenant, tenant, key, **{**fields, **changes})  # type: ignore[arg-type]  # varied by keyword


def make_exchange(**changes: object) -> Exchange:
    made = Exchange("req_1", "POST", "/v1/responses", 1000.0, route="responses", caller=make_caller())
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def make_request(
    *,
    owners: Sequence[bytes] = (),
    affinity: bytes | None = None,
    headers: RawHeaders | None = None,
    adapted: Adapted | None = None,
    dialect: Dialect = Dialect.SDK,
    deadline_s: float = 5000.0,
    caller: Caller | None = None,
    stream: bool = True,
) -> RelayRequest:
    return RelayRequest(
        id="req_1",
        caller=caller or make_caller(),
        model=MODEL,
        requested_model=MODEL,
        adapted=adapted or Adapted(MODEL, MODEL, stream, b'{"model":"%b","input":' % MODEL.encode(), b"[]"),
        headers=headers or [],
        affinity=affinity,
        owners=tuple(owners),
        stream=stream,
        dialect=dialect,
        deadline_s=deadline_s,
    )
