"""The address a browser login ends at: which is taken, which is refused, and by what name."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.callback import REDIRECT_URI, SCOPE, Challenge, authorize_url, new_challenge, read_callback
from auth.logins import LoginInvalid
from store.records import Secret

STATE = Secret("s" * 43)


def test_the_authorize_address_is_the_one_that_the_cli_opens() -> None:
    """Compared with what the Codex CLI 0.169 printed, but for its random values."""
    url = authorize_url("https://auth.openai.com/", "app_EMoamEEZ73f0CkXaXp7hrann", Challenge(STATE, Secret("v")))
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"v").digest()).rstrip(b"=").decode()
    assert url == (
        "https://auth.openai.com/oauth/authorize?response_type=code&client_id=app_EMoamEEZ73f0CkXaXp7hrann"
        "&redirect_uri=http%3A%2F%2F127.0.0.1%3A1455%2Fauth%2Fcallback"
        f"&code_challenge={digest}&code_challenge_method=S256&state={STATE.reveal()}"
        "&scope=openid+profile+email+offline_access+api.connectors.read+api.connectors.invoke"
        "&id_token_add_organizations=true&codex_cli_simplified_flow=true&originator=codex_cli_rs"
    )
    assert parse_qs(urlsplit(url).query)["scope"] == [SCOPE]


def test_the_secrets_are_new_every_time() -> None:
    made = [new_challenge() for _ in range(50)]
    assert len({one.state.reveal() for one in made} | {one.code_verifier.reveal() for one in made}) == 100
    assert {len(one.state.reveal()) for one in made} == {43}
    assert {len(one.code_verifier.reveal()) for one in made} == {86}


QUERY = f"code=ac_1&scope=openid+email&state={STATE.reveal()}"


@pytest.mark.parametrize(
    "pasted",
    [
        f"{REDIRECT_URI}?{QUERY}",
        f"http://localhost:1455/auth/callback?{QUERY}",
        f"  {REDIRECT_URI}?{QUERY}\n",
        f"{REDIRECT_URI}?{QUERY}#",
        QUERY,
        f"?{QUERY}",
        f"/auth/callback?{QUERY}",
    ],
)
def test_the_full_address_or_its_query_is_taken(pasted: str) -> None:
    callback = read_callback(pasted, STATE)
    assert callback.code == Secret("ac_1")
    assert "ac_1" not in repr(callback)


OTHER = "o" * 43


@pytest.mark.parametrize(
    ("pasted", "code"),
    [
        ("", "callback_unreadable"),
        ("hello world", "callback_unreadable"),
        ("ac_1", "callback_unreadable"),
        ("x" * 9000, "callback_unreadable"),
        (f"{REDIRECT_URI}?code=a\x00b&state={STATE.reveal()}", "callback_unreadable"),
        (f"{REDIRECT_URI}?code=a%00b&state={STATE.reveal()}", "callback_unreadable"),
        (f"{REDIRECT_URI}?{QUERY}&state={STATE.reveal()}", "callback_unreadable"),
        (f"{REDIRECT_URI}?{QUERY}&code=ac_2", "callback_unreadable"),
        (f"{REDIRECT_URI}?code=%ff&state={STATE.reveal()}", "callback_unreadable"),
        (REDIRECT_URI, "callback_unreadable"),
        (f"{REDIRECT_URI}?code=ac_1", "callback_incomplete"),
        (f"{REDIRECT_URI}?code=ac_1&state=", "callback_incomplete"),
        (f"{REDIRECT_URI}?state={STATE.reveal()}", "callback_incomplete"),
        (f"{REDIRECT_URI}?code=ac_1&state={OTHER}", "callback_of_another_login"),
        (f"{REDIRECT_URI}?code=ac_1&state={STATE.reveal()}x", "callback_of_another_login"),
        (f"{REDIRECT_URI}?code=ac_1&state=%C3%A4", "callback_of_another_login"),
        (f"{REDIRECT_URI}?error=access_denied&state={OTHER}", "callback_of_another_login"),
        (f"https://127.0.0.1:1455/auth/callback?{QUERY}", "callback_of_another_page"),
        (f"http://127.0.0.1:1455/other?{QUERY}", "callback_of_another_page"),
        (f"http://127.0.0.1:1456/auth/callback?{QUERY}", "callback_of_another_page"),
        (f"http://127.0.0.1:port/auth/callback?{QUERY}", "callback_of_another_page"),
        (f"http://evil.example:1455/auth/callback?{QUERY}", "callback_of_another_page"),
        (f"http://127.0.0.1:1455@evil.example/auth/callback?{QUERY}", "callback_of_another_page"),
        (f"http://u@127.0.0.1:1455/auth/callback?{QUERY}", "callback_of_another_page"),
        ("https://auth.openai.com/oauth/authorize?state=x", "callback_of_another_page"),
        ("javascript://127.0.0.1:1455/auth/callback?" + QUERY, "callback_of_another_page"),
    ],
)
def test_every_other_address_is_refused_by_name_and_never_repeated(pasted: str, code: str) -> None:
    with pytest.raises(LoginInvalid) as caught:
        read_callback(pasted, STATE)
    assert caught.value.code == code
    assert "ac_1" not in str(caught.value)
    assert STATE.reveal() not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "shown"), [("access_denied", "access_denied"), ("<b>", "unknown_error"), ("E" * 9, "unknown_error")]
)
def test_the_issuers_refusal_is_read_with_its_state(word: str, shown: str) -> None:
    callback = read_callback(f"{REDIRECT_URI}?error={word}&state={STATE.reveal()}", STATE)
    assert (callback.code, callback.error) == (None, shown)


@given(st.text(max_size=200))
def test_no_text_breaks_it_and_none_is_believed_without_the_state(text: str) -> None:
    with pytest.raises(LoginInvalid):
        read_callback(text, STATE)
    with pytest.raises(LoginInvalid):
        read_callback(f"{REDIRECT_URI}?code=ac_1&state={text}", STATE)
