"""What is read of a token, and when it is taken to end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.jwt import FALLBACK_LIFE_S, Claims, NotAJwt, claims_or_none, fresh_expiry_s, read_claims, stored_expiry_s
from tests.fakes.logins import access_jwt, id_jwt, jwt

NOW_S = 1_795_000_000.0


def test_the_claims_of_both_tokens_are_read_where_the_cli_reads_them() -> None:
    access = read_claims(access_jwt("chatgpt-1", NOW_S, 60, scp=["openid", "email"]))
    assert (access.account_id, access.expires_at_s, access.issued_at_s) == ("chatgpt-1", NOW_S + 60, NOW_S)
    assert access.scopes == {"openid", "email"}
    identity = read_claims(id_jwt("chatgpt-1", "a@example.org"))
    assert (identity.email, identity.plan) == ("a@example.org", "plus")
    profile = jwt(**{"https://api.openai.com/profile": {"email": "b@example.org"}, "scope": "a b"})
    assert read_claims(profile) == Claims(email="b@example.org", scopes=frozenset({"a", "b"}))


@given(st.text(max_size=60) | st.sampled_from(["a.b.c", "a..c", "x.bnVsbA.y", "." * 9, "e30.e3.e30"]))
def test_whatever_is_no_jwt_is_refused_and_never_shown(text: str) -> None:
    assert claims_or_none(text) is None
    with pytest.raises(NotAJwt, match=r"^not a JWT"):
        read_claims(text)


@given(
    st.dictionaries(
        st.sampled_from(["exp", "iat", "email", "scp", "scope", "https://api.openai.com/auth"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
        ),
    )
)
def test_a_claim_of_the_wrong_type_is_an_absent_claim(claims: dict[str, object]) -> None:
    found = read_claims(jwt(**claims))
    assert stored_expiry_s(found, NOW_S) > 0
    assert fresh_expiry_s(found, NOW_S) > NOW_S


@pytest.mark.fault("B40")
@pytest.mark.parametrize("expires", [None, 0, -5, 1, 10**30, NOW_S + 10_000 * 86_400, True, "soon", float("inf")])
def test_an_absurd_expiry_falls_back_to_eight_days(expires: object) -> None:
    claims = read_claims(jwt(exp=expires))
    assert stored_expiry_s(claims, NOW_S) == NOW_S + FALLBACK_LIFE_S


@pytest.mark.fault("B40")
def test_a_new_token_that_looks_expired_lives_its_life_from_now() -> None:
    claims = read_claims(access_jwt("c", NOW_S - 7200, 3600))
    assert fresh_expiry_s(claims, NOW_S) == NOW_S + 3600
    assert stored_expiry_s(claims, NOW_S) == NOW_S - 3600
