"""What counts as an auth.json, and how files are opened."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.authfile import MAX_FILE_BYTES, Source, parse_login, read_sources
from auth.errors import ImportRefused
from tests.fakes.logins import access_jwt, auth_json, jwt

NOW_S = 1_795_000_000.0


def read(*paths: object, stdin: bytes = b"") -> list[Source]:
    return read_sources([str(path) for path in paths], io.BytesIO(stdin))


def code_of(document: object) -> str:
    with pytest.raises(ImportRefused) as refused:
        parse_login(json.dumps(document).encode(), NOW_S)
    assert str(refused.value)
    return refused.value.code


def with_tokens(**tokens: Any) -> dict[str, Any]:
    document = auth_json("c-1", NOW_S)
    document["tokens"].update(tokens)
    return document


def test_a_login_of_the_cli_is_read() -> None:
    login = parse_login(json.dumps(auth_json("c-1", NOW_S, age_s=10)).encode(), NOW_S)
    assert (login.chatgpt_account_id, login.email, login.plan) == ("c-1", "user@example.org", "plus")
    assert login.refreshed_at_s == pytest.approx(NOW_S - 10)
    assert "rt_" not in repr(login)


def test_nanoseconds_missing_times_and_times_to_come_are_understood() -> None:
    exact = parse_login(auth_json("c-1", NOW_S, last_refresh="2026-11-01T10:10:42.981652974Z"), NOW_S)
    assert exact.refreshed_at_s == pytest.approx(1793527842.98, abs=0.1)
    assert parse_login(auth_json("c-1", NOW_S - 50, last_refresh=None), NOW_S).refreshed_at_s == NOW_S - 50
    assert parse_login(auth_json("c-1", NOW_S, last_refresh="2999-01-01T00:00:00Z"), NOW_S).refreshed_at_s == NOW_S
    assert parse_login(auth_json("c-1", NOW_S, last_refresh="yesterday"), NOW_S).refreshed_at_s == NOW_S


def test_files_of_older_clis_have_no_mode() -> None:
    document = auth_json("c-1", NOW_S)
    del document["auth_mode"]
    assert parse_login(document, NOW_S).chatgpt_account_id == "c-1"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-x"}, "api_key"),
        ({"OPENAI_API_KEY": "sk-x"}, "api_key"),
        ({"auth_mode": "agent_identity", "agent_identity": "x"}, "agent_identity"),
        ({"agent_identity": {"account_id": "x"}}, "agent_identity"),
        ({"personal_access_token": "at-x"}, "personal_access_token"),
        ({"auth_mode": "personalAccessToken"}, "personal_access_token"),
        ({"auth_mode": "chatgptAuthTokens", "tokens": {}}, "external_tokens"),
        ({"auth_mode": "bedrock"}, "unknown_auth_mode"),
        ({"auth_mode": 7}, "unknown_auth_mode"),
        ({}, "no_tokens"),
        ({"auth_mode": "chatgpt"}, "no_tokens"),
        ({"auth_mode": "chatgpt", "tokens": "x"}, "no_tokens"),
        (with_tokens(access_token=None), "no_tokens"),
        (with_tokens(access_token="opaque"), "bad_token"),
        (with_tokens(refresh_token="a b"), "bad_token"),
        (with_tokens(refresh_token=["x"]), "bad_token"),
        (with_tokens(refresh_token="x\r\ny"), "bad_token"),
        (with_tokens(account_id="c-2"), "account_mismatch"),
        (with_tokens(access_token=access_jwt("c-2", NOW_S)), "account_mismatch"),
        (with_tokens(account_id=None, id_token=None, access_token=jwt(exp=NOW_S + 9)), "account_id_missing"),
        ([], "not_an_object"),
        ("text", "not_an_object"),
    ],
)
def test_everything_else_is_refused_by_name(document: object, code: str) -> None:
    assert code_of(document) == code


@pytest.mark.parametrize(
    ("data", "code"), [(b"", "empty"), (b" \n", "empty"), (b"{", "not_json"), (b"\xff", "not_json")]
)
def test_what_is_no_json_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        parse_login(data, NOW_S)
    assert refused.value.code == code


MEMBERS = st.sampled_from(["auth_mode", "tokens", "access_token", "account_id", "last_refresh"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    )
)
def test_no_document_breaks_the_reader(document: Any) -> None:
    with pytest.raises(ImportRefused):
        parse_login(json.dumps(document).encode(), NOW_S)


@pytest.mark.fault("C37")
def test_a_symbolic_link_is_not_followed_and_a_pipe_not_waited_for(tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text("{}")
    link = tmp_path / "link.json"
    link.symlink_to(real)
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    found = {Path(source.name).name: source for source in read(tmp_path)}
    assert found["real.json"].data == b"{}"
    for name, code in (("link.json", "symlink"), ("pipe.json", "not_a_file")):
        refused = found[name].refused
        assert refused is not None
        assert refused.code == code
    folder = tmp_path / "folder"
    folder.symlink_to(tmp_path)
    [linked] = read(folder)
    assert linked.refused is not None
    assert linked.refused.code == "symlink"


@pytest.mark.fault("C37")
def test_a_file_that_others_can_read_is_taken_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text("{}")
    path.chmod(0o644)
    [source] = read(path)
    assert source.refused is None
    assert "0644" in source.warnings[0]
    path.chmod(0o600)
    assert read(path)[0].warnings == ()


def test_size_absence_and_empty_folders_are_told(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    empty = tmp_path / "empty"
    empty.mkdir()
    codes = [source.refused.code for source in read(large, tmp_path / "none.json", empty) if source.refused]
    assert codes == ["too_large", "unreadable", "empty_folder"]
    assert read("-", stdin=b" " * (MAX_FILE_BYTES + 1))[0].refused is not None


def test_standard_input_is_a_document_like_any_other() -> None:
    assert read("-", stdin=b"{}") == [Source("standard input", b"{}")]
