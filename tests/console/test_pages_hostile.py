"""Texts that somebody else chose are shown and do nothing; the policy holds; the scripts agree with the server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from playwright.async_api import expect

from auth.roles import PERMISSIONS
from gateway.admin.routes import ROUTES
from gateway.errors import CODES
from tests.console.conftest import Stage
from tests.console.fake_api import FakeApi, Refusal
from tests.console.fake_records import account, audit_records, block, key, login, person, tenant
from tests.console.fake_routes import URI
from tests.console.payloads import PAYLOADS

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]
STRANGERS = (
    "script:not([src^='/console/static/']), iframe, object, embed, style, base, video, math, link[href*='elsewhere']"
)


def hostile() -> FakeApi:
    """Every payload in every place where a text of somebody else can stand."""
    api = FakeApi(accounts=[], logins=[], tenants=[], keys=[], admins=[], audit=audit_records(len(PAYLOADS)))
    for n, text in enumerate(PAYLOADS):
        bad = {"email": text, "plan": text, "pool": text, "reasons": [text], "blocks": [block(text, text, 600, text)]}
        windows = [{"name": text, "used_percent": 50, "window_minutes": None, "resets_at_s": None, "seen_at_s": 1.0}]
        api.accounts.append(account(f"acc_{n}", text, state=text, windows=windows, **bad))
        one = login(f"login_{n}", ("device", "callback")[n % 2], text, text, text)
        one.update(requested_by=text, user_code=text, verification_url=text, authorize_url=text)
        if n % 3 == 0:
            one.update(state="failed", failure={"code": text, "message": text})
        api.logins.append(one)
        api.tenants.append(tenant(f"ten_{n}", text, [text, "default"]))
        api.keys.append(key(f"key_{n}", f"ten_{n}", text) | {"models": [text], "scopes": [text]})
        api.admins.append(person(f"adm_{n}", text, "auditor"))
        api.audit[n].update(actor=text, action=text, target=text, outcome=text, model=text, detail={text: text})
    api.import_outcomes = [
        {"source": text, "outcome": "refused", "code": text, "message": text, "account_id": None, "label": text,
         "warnings": [text]}
        for text in PAYLOADS
    ]  # fmt: skip
    return api


async def unharmed(stage: Stage) -> None:
    assert await stage.page.locator(STRANGERS).count() == 0
    links = await stage.page.eval_on_selector_all("a", "all => all.map(a => a.protocol)")
    assert set(links) <= {"http:", "https:", ":"}
    assert await stage.page.locator("[onerror], [onload], [onfocus], [onmouseover], [ontoggle]").count() == 0


async def test_there_are_enough_of_them() -> None:
    assert len(set(PAYLOADS)) >= 30


@pytest.mark.parametrize(
    "path", ["", "/accounts", "/accounts/add", "/tenants", "/keys", "/admins", "/audit", "/profile"]
)
async def test_hostile_texts_are_inert_on_every_page(staged: Staged, path: str) -> None:
    async with staged(hostile()) as stage:
        page = await stage.sign_in(path)
        await expect(page.locator(".loading")).to_have_count(0)
        await page.wait_for_timeout(300)
        await unharmed(stage)
        if path == "/accounts":
            await expect(page.get_by_role("heading", name="<script>alert(1)</script>", exact=True)).to_be_visible()
            # what cannot be seen, or would turn the text round, is shown as a mark
            await expect(page.get_by_role("heading", name="\ufffdgpj.exe\ufffd admin")).to_be_visible()
        stage.browser.check()


async def test_hostile_logins_and_outcomes_are_inert(staged: Staged) -> None:
    async with staged(hostile()) as stage:
        page = await stage.sign_in()
        for n in range(len(PAYLOADS)):
            await page.evaluate(f"history.pushState(null, '', '/console/accounts/add?login=login_{n}')")
            await page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
            await expect(page.locator(".login")).to_be_visible()
            await unharmed(stage)
        await stage.open("/accounts/add?way=file")
        await page.get_by_label("Or paste").fill("{}")
        await page.get_by_role("button", name="Bring in").click()
        await expect(page.get_by_role("region", name="Outcome").get_by_role("listitem")).to_have_count(len(PAYLOADS))
        await unharmed(stage)
        stage.browser.check()


async def test_hostile_failures_are_inert(staged: Staged) -> None:
    async with staged(hostile()) as stage:
        page = await stage.sign_in()
        for text in PAYLOADS:
            stage.api.fail_next["/overview"] = Refusal(502, text, text, text)
            await page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
            await expect(page.get_by_role("alert")).to_be_visible()
            await unharmed(stage)
        stage.browser.check()


async def test_the_policy_stops_what_a_script_would_try(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in()
        tried: dict[str, str] = {
            "markup": "document.body.innerHTML = '<b>x</b>'",
            "code": "new Function('return 1')()",
            "a script from text": "document.createElement('script').text = 'alert(1)'",
            "elsewhere": "await fetch('https://elsewhere.example/')",
        }
        for name, script in tried.items():
            # after a turn of the loop: what runs in the debugger's own call is let off the policy
            whole = f"""async () => {{ await new Promise((done) => setTimeout(done, 10));
                try {{ {script}; return ""; }} catch (error) {{ return error.name; }} }}"""
            assert await page.evaluate(whole) in {"TypeError", "EvalError"}, name
        assert stage.browser.foreign == []


async def test_the_scripts_agree_with_the_server(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.open("/sign-in")
        found = await page.evaluate("import('/console/static/words.js').then(words => words.PERMISSIONS)")
        assert {role: set(may) for role, may in found.items()} == {
            role.value: {one.value for one in may} for role, may in PERMISSIONS.items()
        }
        script = """codes => import('/console/static/words.js').then((words) =>
            codes.filter((code) => words.explain({ code, message: '' }).includes('It failed')))"""
        anywhere = {"not_signed_in", "forbidden", "csrf_failed", "https_required", "invalid_request", "invalid_json",
                    "not_found", "conflict", "body_too_large", "request_timeout", "method_not_allowed", "overloaded",
                    "draining", "store_unavailable", "internal_error"}  # fmt: skip
        codes = anywhere | {code for route in ROUTES for code in route.errors}
        assert codes <= set(CODES)
        assert await page.evaluate(script, sorted(codes)) == []
        # the picture was compared with that of another encoder when this was written
        rows = await page.evaluate("t => import('/console/static/qr.js').then(qr => qr.modules(t))", URI)
        drawn = "\n".join("".join("#" if dark else "." for dark in row) for row in rows)
        assert len(rows) == 49
        assert hashlib.sha256(drawn.encode()).hexdigest() == QR_DIGEST
        assert await page.evaluate("import('/console/static/qr.js').then(qr => qr.modules('x'.repeat(214)))") is None


QR_DIGEST = "80b802399251a05af5027dcdb715dd3b6fb75b85844d3cf3f43eb7f2134e5138"


async def test_pasted_documents_are_told_apart(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.open("/sign-in")
        cases = {
            "": 0, '{"a": 1}': 1, '[{"a": 1}, {"b": 2}]': 2, '{"a": "}{"} {"b": "\\"}"}': 2, "{} {} , {}": 3,
            "rubbish": 1,
            "[]": 1, "{} rubbish": 1, '{"a": ': 1, "}{": 1, '{"a"} {"b": 1}': 1,
        }  # fmt: skip
        found = await page.evaluate(
            "all => import('/console/static/documents.js').then(d => all.map(one => d.split(one).length))", list(cases)
        )
        assert found == list(cases.values())
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
