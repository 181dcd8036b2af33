"""Single sign-on against a real OpenID provider, with an httpx client that plays the browser."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from auth.admins import AdminDirectory
from auth.errors import OidcRefused, OidcUnavailable
from auth.oidc import CALLBACK_PATH, OidcPolicy, OidcSignIn, new_browser_secret
from auth.oidc_provider import REFETCH_S
from auth.roles import Role
from ops.clock import SystemClock
from store.memory import MemoryStore
from store.records import Secret
from tests.real.conftest import FOLDER, INSTALL, missing

pytestmark = [pytest.mark.slow, pytest.mark.real]

REDIRECT = f"https://relay.example{CALLBACK_PATH}"
CLIENT_SECRET = "a secret: with % and + and & in it, long enough"
PEOPLE = {
    "ann": {"groups": ["chiefs"], "preferred_username": "Ann", "email": "ann@example.org"},
    "bob": {"groups": ["staff", "ops"], "preferred_username": "bob"},
    "eve": {"groups": ["visitors"]},
    "max": {},
}
ROLES = {"chiefs": Role.OWNER, "ops": Role.ADMIN, "staff": Role.MEMBER}


class Ahead(SystemClock):
    """The real clock, whose monotonic side can be put forward."""

    by_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.by_s


@pytest.fixture(scope="module")
def node() -> str:
    """node, with the provider of package-lock.json installed."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        missing(f"Node.js and npm are not installed; with them: {INSTALL}")
    with (FOLDER / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                missing(f"{INSTALL} failed: {done.stderr.strip()[-500:]}")
    assert found is not None
    return found


@asynccontextmanager
async def provider(node: str, *, port: int = 0, in_id_token: bool = False, **client: Any) -> AsyncIterator[str]:
    """The provider's issuer URL while it runs."""
    wanted: dict[str, Any] = {
        "port": port,
        "people": PEOPLE,
        "claimsInIdToken": in_id_token,
        "client": {
            "client_id": "codex-relay",
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            **client,
        },
    }
    wanted["client"] = {name: value for name, value in wanted["client"].items() if value is not None}
    process = await asyncio.create_subprocess_exec(
        node,
        str(FOLDER / "oidc_provider.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(json.dumps(wanted).encode())
        process.stdin.close()
        async with asyncio.timeout(30):
            issuer = (await process.stdout.readline()).decode().strip()
        assert issuer.startswith("http://127.0.0.1:"), (await process.stderr.read()).decode()
        yield issuer
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Visitor:
    """A browser with its own cookies, in front of a gateway that is signed in to by ``oidc``."""

    def __init__(self, oidc: OidcSignIn) -> None:
        self.oidc = oidc
        self.secret = new_browser_secret()

    async def answer(self, *logins: str) -> dict[str, str]:
        """Begins, fills the provider's forms with ``logins`` in turn, and brings back the answer."""
        url = await self.oidc.start("/console/accounts", self.secret)
        left = list(logins)
        async with httpx.AsyncClient(trust_env=False, timeout=20) as browser:
            response = await browser.get(url)
            for _ in range(12):
                if response.is_redirect:
                    target = str(response.url.join(response.headers["location"]))
                    if target.startswith(REDIRECT):
                        return dict(parse_qsl(urlsplit(target).query))
                    response = await browser.get(target)
                    continue
                form = re.search(r'action="([^"]+)"', response.text)
                assert response.status_code == 200, response.text
                assert form is not None, response.text
                login = left.pop(0) if len(left) > 1 else left[0]
                response = await browser.post(str(response.url.join(form[1])), data={"login": login})
        raise AssertionError("the provider never sent the browser back")


@asynccontextmanager
async def gateway(issuer: str, **changes: Any) -> AsyncIterator[tuple[OidcSignIn, AdminDirectory, Ahead]]:
    clock, store = Ahead(), MemoryStore()
    admins = AdminDirectory(store, clock)
    values = {"client_secret": Secret(CLIENT_SECRET), "roles": ROLES, **changes}
    policy = OidcPolicy(issuer, "codex-relay", REDIRECT, **values)
    async with httpx.AsyncClient(trust_env=False) as http:
        yield OidcSignIn(policy, http, store, admins, clock), admins, clock


@pytest.mark.parametrize(
    ("client", "in_id_token", "secret"),
    [
        ({}, False, CLIENT_SECRET),
        ({"id_token_signed_response_alg": "ES256"}, True, CLIENT_SECRET),
        (
            {"token_endpoint_auth_method": "none", "client_secret": None, "id_token_signed_response_alg": "PS256"},
            False,
            None,
        ),
    ],
    ids=["basic RS256 userinfo", "basic ES256 id token", "public PS256 userinfo"],
)
async def test_people_come_in_with_the_role_of_their_groups(
    node: str, client: dict[str, Any], in_id_token: bool, secret: str | None
) -> None:
    async with (
        provider(node, in_id_token=in_id_token, **client) as issuer,
        gateway(issuer, client_secret=None if secret is None else Secret(secret)) as (oidc, admins, _),
    ):
        visitor = Visitor(oidc)
        query = await visitor.answer("ann")
        assert query["iss"] == issuer
        ann, target = await oidc.finish(query, visitor.secret)
        assert (ann.name, ann.role, ann.sso, target) == ("ann", Role.OWNER, True, "/console/accounts")
        with pytest.raises(OidcRefused) as again:
            await oidc.finish(query, visitor.secret)
        assert again.value.code == "state_used"
        bob = Visitor(oidc)
        assert (await oidc.finish(await bob.answer("bob"), bob.secret))[0].role is Role.ADMIN
        assert (await oidc.finish(await bob.answer("bob"), bob.secret))[0].name == "bob"
        for name in ("eve", "max"):
            other = Visitor(oidc)
            with pytest.raises(OidcRefused) as refused:
                await oidc.finish(await other.answer(name), other.secret)
            assert refused.value.code == "no_role"
        assert {one.name for one in await admins.all()} == {"ann", "bob"}


async def test_who_says_no_and_whose_code_was_stolen_stay_out(node: str) -> None:
    async with provider(node) as issuer, gateway(issuer) as (oidc, admins, _):
        visitor, thief = Visitor(oidc), Visitor(oidc)
        with pytest.raises(OidcRefused) as refused:
            await oidc.finish(await visitor.answer("ann", "no"), visitor.secret)
        assert refused.value.code == "provider_refused"
        assert "access_denied" in str(refused.value)
        stolen, own = await visitor.answer("ann"), await thief.answer("eve")
        with pytest.raises(OidcRefused) as refused:
            await oidc.finish(stolen, thief.secret)
        assert refused.value.code == "state_mismatch"
        with pytest.raises(OidcRefused) as refused:
            await oidc.finish({**own, "code": stolen["code"]}, thief.secret)
        assert refused.value.code == "code_refused"
        assert await admins.all() == ()


async def test_a_wrong_secret_is_the_operators_matter(node: str) -> None:
    async with provider(node) as issuer, gateway(issuer, client_secret=Secret("x" * 40)) as (oidc, _, _):
        visitor = Visitor(oidc)
        with pytest.raises(OidcUnavailable, match=r"oidc\.client_secret"):
            await oidc.finish(await visitor.answer("ann"), visitor.secret)


async def test_keys_that_are_rotated_are_found(node: str) -> None:
    async with contextlib.AsyncExitStack() as first:
        issuer = await first.enter_async_context(provider(node))
        async with gateway(issuer) as (oidc, _, clock):
            visitor = Visitor(oidc)
            await oidc.finish(await visitor.answer("ann"), visitor.secret)
            await first.aclose()
            async with provider(node, port=urlsplit(issuer).port or 0):  # the same address, with keys of its own
                with pytest.raises(OidcRefused, match="no usable key"):
                    await oidc.finish(await visitor.answer("ann"), visitor.secret)
                clock.by_s += REFETCH_S
                admin, _ = await oidc.finish(await visitor.answer("ann"), visitor.secret)
                assert admin.role is Role.OWNER
