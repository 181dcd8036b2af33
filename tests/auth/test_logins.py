"""A login's record: nothing secret in what is seen, nothing lost in what is kept."""

from __future__ import annotations

from dataclasses import replace

from auth.logins import (
    Failure,
    Login,
    LoginKind,
    LoginRecord,
    LoginState,
    LoginUnknown,
    Stage,
    failed,
    from_document,
    to_document,
)
from store.records import Secret

LOGIN = Login(
    id="login_1",
    kind=LoginKind.DEVICE,
    state=LoginState.PENDING,
    requested_by="admin:ann",
    pool="team",
    label="mine",
    expect="owner@example.org",
    created_at_s=1.0,
    expires_at_s=901.0,
    user_code="ABCD-EFGHI",
    verification_url="https://issuer.example/codex/device",
    authorize_url="https://issuer.example/oauth/authorize?state=the-state",
)
RECORD = LoginRecord(
    LOGIN,
    Stage.LANDING,
    "session-1",
    next_poll_at_s=6.0,
    interval_s=7.0,
    failures=2,
    device_auth_id=Secret("the-device"),
    code_verifier=Secret("the-verifier"),
    state=Secret("the-state"),
    tokens=Secret("the-tokens"),
)


def test_what_is_kept_comes_back_as_it_was() -> None:
    ended = failed(RECORD, LoginState.FAILED, "denied", "nobody wanted it")
    done = RECORD.ended(LoginState.DONE, account_id="acc_1", account_label="mine")
    for record in (RECORD, ended, done):
        document = to_document(record, 5.0)
        assert (document.kind, document.id, document.expires_at_s) == ("login", "login_1", 5.0)
        assert from_document(document) == record
        newer = from_document(replace(document, version=9))
        assert newer.login.version == 9


def test_no_repr_shows_a_secret() -> None:
    for secret in ("the-device", "the-verifier", "the-state", "the-tokens"):
        assert secret not in repr(RECORD)
        assert secret not in repr(to_document(RECORD, 5.0))


def test_nothing_secret_is_kept_beyond_the_end() -> None:
    ended = failed(RECORD, LoginState.CANCELLED, "cancelled", "it was cancelled")
    body = to_document(ended, 5.0).body.decode()
    for gone in ("the-device", "the-verifier", "the-state", "the-tokens", "ABCD-EFGHI"):
        assert gone not in body
    assert ended.login.failure == Failure("cancelled", "it was cancelled")
    assert not ended.pending
    assert (ended.login.user_code, ended.login.authorize_url) == (None, None)


def test_what_is_not_there_has_a_code() -> None:
    assert LoginUnknown().code == "not_found"
