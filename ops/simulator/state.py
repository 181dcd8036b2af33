"""Everything that the simulated backend remembers, and the handles by which a test pulls its strings.

All mutable state of one simulator is in one ``Simulator``: accounts, tokens, scripts, gates, counters and the ring
of recorded requests. It belongs to one event loop; its methods are plain calls that take effect at once. ``until``
waits for something to become true without polling: every change of a counter wakes it.

Knows nothing of HTTP beyond the recorded requests. Time and randomness come in: same seed, same ids.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ops.clock import Clock
from ops.simulator.accounts import AccessToken, Account, RefreshToken, Sealer, Window, b64url, forge_jwt
from ops.simulator.config import SimulatorConfig
from ops.simulator.script import Fail, Item, Plan, RefreshItem, apply_script_line


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request as it came; ``body`` is decoded, ``json`` is None when it is not JSON. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    json: Any
    account_id: str | None
    at_s: float


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """An authorization code; it works once, with the verifier of ``challenge`` and the same ``redirect_uri``."""

    account_id: str
    challenge: str
    redirect_uri: str
    expires_at_s: float


@dataclass(slots=True)
class DeviceLogin:
    """One device-code login; ``account_id`` is set when the user approved."""

    device_auth_id: str
    user_code: str
    expires_at_s: float
    account_id: str | None = None
    denied: bool = False
    polls: int = 0


class Simulator:
    """The state of one simulated backend and issuer."""

    def __init__(self, config: SimulatorConfig, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.random = random.Random(config.seed)
        self.sealer = Sealer(self.random.randbytes(32))
        self._waiters: list[asyncio.Future[None]] = []
        self._clear()

    def _clear(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.device_logins: dict[str, DeviceLogin] = {}
        self.device_script: deque[Fail] = deque()
        self.codes: dict[str, IssuedCode] = {}
        self.logins = 0
        self.mode: Item | None = None
        self.oauth_script: deque[RefreshItem] = deque()
        self.oauth_mode: RefreshItem | None = None
        self.models_script: deque[Fail] = deque()
        self.usage_script: deque[Fail] = deque()
        self.gates: dict[str, asyncio.Event] = {}
        self.counts: Counter[str] = Counter()
        self.requests: deque[Recorded] = deque(maxlen=self.config.keep_requests)
        self.streams = 0
        self.most_streams = 0
        self.refreshing = 0
        self.most_refreshing = 0

    # -- accounts and tokens

    def new_account(
        self,
        *,
        account_id: str | None = None,
        email: str | None = None,
        plan: str = "pro",
        models: Iterable[str] | None = None,
        access_token_lifetime_s: float | None = None,
        workspace_backend_origin: str | None = None,
        fedramp: bool = False,
    ) -> dict[str, Any]:
        """A new account with fresh tokens; the content of its auth.json.

        ``access_token_lifetime_s`` may be negative: the token is already dead. Raises ValueError for an id that is
        taken.
        """
        number = len(self.accounts) + 1
        account_id = account_id or str(self._uuid())
        if account_id in self.accounts:
            raise ValueError(f"account {account_id} exists")
        now_s = self.clock.now_s()
        config = self.config
        account = Account(
            id=account_id,
            user_id=f"user-{self._token(15)}",
            email=email or f"user{number}@example.com",
            plan=plan,
            primary=Window(300, now_s + 300 * 60),
            secondary=Window(10_080, now_s + 10_080 * 60),
            access_token_lifetime_s=(
                config.access_token_lifetime_s if access_token_lifetime_s is None else access_token_lifetime_s
            ),
            workspace_backend_origin=workspace_backend_origin or config.workspace_backend_origin,
            account_routing_override=config.account_routing_override,
            models=None if models is None else tuple(models),
            fedramp=fedramp,
        )
        self.accounts[account_id] = account
        self.issue_tokens(account)
        # A lifetime given by the caller is that of the first token: what a refresh hands out must be usable.
        if account.access_token_lifetime_s <= 0:
            account.access_token_lifetime_s = config.access_token_lifetime_s
        return self.auth_json(account_id)

    def auth_json(self, account_id: str) -> dict[str, Any]:
        """auth.json with the newest tokens of the account."""
        return self.accounts[account_id].auth_json(self.config.issuer, self.config.client_id)

    def issue_tokens(
        self, account: Account, *, claim_account_id: str | None = None, login: int | None = None
    ) -> dict[str, str]:
        """A new set of tokens; the older access tokens stay valid, the older refresh tokens keep their state.

        ``login`` None: a new sign-in.
        """
        now_s = self.clock.now_s()
        claims = account.claims()
        if claim_account_id is not None:
            claims["chatgpt_account_id"] = claim_account_id
        shared = {"iss": self.config.issuer, "iat": int(now_s), "sub": f"auth0|{account.user_id}"}
        auth = {"https://api.openai.com/auth": claims, "https://api.openai.com/profile": {"email": account.email}}
        expires_at_s = now_s + account.access_token_lifetime_s
        account.access_token = forge_jwt(
            {**shared, **auth, "aud": ["https://api.openai.com/v1"], "exp": int(expires_at_s), "jti": self._token(20)},
            self.random.randbytes(64),
        )
        account.id_token = forge_jwt(
            {
                **shared,
                **auth,
                "aud": [self.config.client_id],
                "email": account.email,
                "email_verified": True,
                "exp": int(now_s + self.config.id_token_lifetime_s),
                "jti": self._token(20),
            },
            self.random.randbytes(64),
        )
        account.refresh_token = f"rt_{self._token(48)}"
        account.last_refresh_s = now_s
        if login is None:
            login = self.logins = self.logins + 1
        self.access_tokens[account.access_token] = AccessToken(account.id, expires_at_s, login=login)
        self.refresh_tokens[account.refresh_token] = RefreshToken(
            account.id, len(self.refresh_tokens) + 1, now_s + self.config.refresh_token_lifetime_s, login=login
        )
        return {
            "id_token": account.id_token,
            "access_token": account.access_token,
            "refresh_token": account.refresh_token,
        }

    def new_pat(self, account_id: str) -> str:
        """A personal access token (``at-...``) of the account; it does not expire."""
        token = f"at-{self._token(32)}"
        self.access_tokens[token] = AccessToken(self.accounts[account_id].id, float("inf"))
        return token

    def access_refusal(self, token: str) -> str | None:
        """None for a good token, else the name of the failure."""
        known = self.access_tokens.get(token)
        if known is None:
            return "token_invalidated"
        if known.refusal is not None:
            return known.refusal
        return "token_expired" if self.clock.now_s() >= known.expires_at_s else None

    def refuse_access(self, account_id: str, code: str = "token_invalidated") -> None:
        """Every access token of the account is answered with 401 ``code`` from now on; a refresh helps."""
        for token in self.access_tokens.values():
            if token.account_id == account_id:
                token.refusal = code

    def expire_access(self, account_id: str | None = None) -> None:
        """Access tokens are over on the backend's side, whatever their ``exp`` says. None: of all accounts."""
        for id_ in [account_id] if account_id is not None else list(self.accounts):
            self.refuse_access(id_, "token_expired")

    def end_login(self, login: int) -> None:
        """Every token of one sign-in is refused from now on; other sign-ins of the same account go on."""
        for refresh in self.refresh_tokens.values():
            if refresh.login == login:
                refresh.state = "invalidated"
        for access in self.access_tokens.values():
            if access.login == login:
                access.refusal = "token_revoked"

    def end_refresh(self, account_id: str, state: str = "invalidated") -> None:
        """The account's live refresh token becomes ``expired``, ``invalidated`` or ``used``."""
        self.refresh_tokens[self.accounts[account_id].refresh_token].state = state

    def exhaust(self, account_id: str, resets_in_s: float = 3_600.0) -> None:
        """The primary window is full until then: 429 ``usage_limit_reached``, on every endpoint that shows limits."""
        window = self.accounts[account_id].primary
        window.used_percent = 100.0
        window.reset_at_s = self.clock.now_s() + resets_in_s

    # -- scripts

    def script(self, account_id: str, items: Iterable[Item]) -> None:
        """The next model requests of the account are answered by these, one each; then its mode again."""
        checked = [self._checked(item) for item in items]
        self.accounts[account_id].script.extend(checked)

    def set_mode(self, account_id: str | None, item: Item | None) -> None:
        """Every model request of the account (None: of every account without a mode) until it is set to None."""
        checked = None if item is None else self._checked(item)
        if account_id is None:
            self.mode = checked
        else:
            self.accounts[account_id].mode = checked

    def script_oauth(self, items: Iterable[RefreshItem], account_id: str | None = None) -> None:
        """The next token exchanges (of the account) go like this."""
        (self.oauth_script if account_id is None else self.accounts[account_id].oauth_script).extend(items)

    def set_oauth_mode(self, item: RefreshItem | None, account_id: str | None = None) -> None:
        if account_id is None:
            self.oauth_mode = item
        else:
            self.accounts[account_id].oauth_mode = item

    def next_item(self, account: Account) -> Item | None:
        if account.script:
            return account.script.popleft()
        return account.mode if account.mode is not None else self.mode

    def next_refresh(self, account: Account | None) -> RefreshItem | None:
        if account is not None and account.oauth_script:
            return account.oauth_script.popleft()
        if self.oauth_script:
            return self.oauth_script.popleft()
        if account is not None and account.oauth_mode is not None:
            return account.oauth_mode
        return self.oauth_mode

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def open_gate(self, name: str) -> None:
        """Everything that waits at the gate, or comes to it later, goes on."""
        self.gate(name).set()

    # -- counting

    def count(self, name: str, account: Account | None = None, amount: int = 1) -> None:
        self.counts[name] += amount
        if account is not None:
            account.counts[name] += amount
        self.changed()

    def stream_opened(self, account: Account) -> None:
        self.streams += 1
        account.streams += 1
        self.most_streams = max(self.most_streams, self.streams)
        account.most_streams = max(account.most_streams, account.streams)
        self.count("streams", account)

    def stream_closed(self, account: Account) -> None:
        # reset() may have forgotten the stream in between.
        self.streams = max(0, self.streams - 1)
        account.streams -= 1
        self.changed()

    def record(self, request: Recorded) -> None:
        self.requests.append(request)
        self.changed()

    def requests_to(self, path: str) -> list[Recorded]:
        """Recorded requests whose path ends so, oldest first."""
        return [request for request in self.requests if request.path.endswith(path)]

    def changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Return when ``condition`` holds; it is judged again at every change of a counter, a stream or a request.

        Raises TimeoutError (real seconds) when it does not come true.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def counters(self) -> dict[str, Any]:
        """A JSON picture: totals, per account, and per refresh token by its number (never the token)."""
        return {
            "totals": dict(self.counts),
            "streams": self.streams,
            "most_streams": self.most_streams,
            "refreshing": self.refreshing,
            "most_refreshing": self.most_refreshing,
            "accounts": {
                account.id: {
                    **account.counts,
                    "open_streams": account.streams,
                    "most_streams": account.most_streams,
                }
                for account in self.accounts.values()
            },
            "refresh_tokens": [
                {
                    "number": token.number,
                    "account_id": token.account_id,
                    "state": token.state,
                    "exchanges": token.exchanges,
                    "rotations": token.rotations,
                }
                for token in self.refresh_tokens.values()
            ],
        }

    def reset(self) -> None:
        """Forget accounts, tokens, scripts, counters and requests. Gates open; streams that run go on."""
        for gate in self.gates.values():
            gate.set()
        self._clear()
        self.changed()

    # -- randomness

    def _token(self, size_bytes: int) -> str:
        return b64url(self.random.randbytes(size_bytes))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{self.random.getrandbits(128):032x}"

    def _uuid(self) -> str:
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def _checked(self, item: Item) -> Item:
        if isinstance(item, str):
            apply_script_line(Plan(), item)
        return item
