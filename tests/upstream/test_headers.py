"""What goes up is built from nothing; what comes down is on a list; no value starts a second field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.records import Secret
from tests.fakes.records import make_account, make_credential
from upstream.errors import FaultKind, UpstreamError
from upstream.headers import HeaderBuilder, encode_fields, safe_response_headers
from upstream.types import Identity, RawHeaders, UpstreamRequest

IDENTITY = Identity("codex_cli_rs", "codex_cli_rs/0.169.0 (Debian 12)", "0.169.0")
ACCOUNT = make_account(chatgpt_account_id="acct-9", routing_override=None, fedramp=False)
CREDENTIAL = make_credential(access_token=Secret("the-token"))


def request(fields: RawHeaders, codex: bool = False) -> UpstreamRequest:
    return UpstreamRequest([b"{}"], fields, codex, "req_1")


def sent(fields: RawHeaders, codex: bool = False) -> dict[bytes, bytes]:
    found = HeaderBuilder(IDENTITY).fields(request(fields, codex), ACCOUNT, CREDENTIAL)
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def test_the_exact_set_for_a_client_that_is_no_codex() -> None:
    """Account, stream, and the configured identity; the client's user-agent stays here."""
    assert sent([(b"user-agent", b"OpenAI/Python"), (b"session-id", b"s1")]) == {
        b"authorization": b"Bearer the-token",
        b"chatgpt-account-id": b"acct-9",
        b"accept": b"text/event-stream",
        b"accept-encoding": b"identity",
        b"content-type": b"application/json",
        b"originator": b"codex_cli_rs",
        b"user-agent": b"codex_cli_rs/0.169.0 (Debian 12)",
        b"version": b"0.169.0",
        b"session-id": b"s1",
        b"x-client-request-id": b"req_1",
    }


def test_a_codex_client_keeps_its_identity_and_its_turn_state() -> None:
    """And what it did not say is filled in."""
    told = [
        (b"user-agent", b"codex_exec/0.170.0"),
        (b"originator", b"codex_exec"),
        (b"x-codex-turn-state", b"sticky"),
        (b"x-client-request-id", b"thread"),
        (b"x-codex-routing-hint", b"model=gpt-5.5"),
    ]
    found = sent(told, codex=True)
    for name, value in told:
        assert found[name] == value
    assert found[b"version"] == b"0.169.0"


@pytest.mark.parametrize("codex", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        b"authorization", b"chatgpt-account-id", b"cookie", b"host", b"connection", b"transfer-encoding", b"te",
        b"content-length", b"upgrade", b"accept-encoding", b"content-encoding", b"x-forwarded-for", b"x-api-key",
        b"openai-organization", b"x-openai-account-routing-override", b"x-openai-fedramp", b"proxy-authorization",
        b"x-oai-attestation", b"accept",
    ],
)  # fmt: skip
def test_nothing_of_the_client_passes_that_is_not_listed(name: bytes, codex: bool) -> None:
    """Credentials, account, routing, framing, hop-by-hop."""
    assert b"evil" not in sent([(name, b"evil")], codex).values()


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b", b"", b"x" * 20_000, b" lead", b"a\x7fb"])
def test_a_value_that_could_start_another_field_is_dropped(value: bytes) -> None:
    """Whoever sent it."""
    for codex in (True, False):
        assert b"x-codex-turn-state" not in sent([(b"x-codex-turn-state", value)], codex)


@given(st.lists(st.tuples(st.sampled_from([b"session-id", b"thread-id", b"x-codex-turn-metadata"]), st.binary())))
def test_the_head_has_as_many_lines_as_fields(told: RawHeaders) -> None:
    """For any bytes in any allowed field: one line each, and both forms agree."""
    builder = HeaderBuilder(IDENTITY)
    wire = builder.wire(request(told), ACCOUNT, CREDENTIAL)
    fields = builder.fields(request(told), ACCOUNT, CREDENTIAL)
    assert sorted(wire.split(b"\r\n")[:-1]) == sorted(encode_fields(fields).split(b"\r\n")[:-1])
    assert wire.count(b"\n") == wire.count(b"\r") == len(fields)


def test_routing_comes_from_the_account() -> None:
    """Override and fedramp flag."""
    account = make_account(routing_override="us_cr", fedramp=True)
    found = dict(HeaderBuilder(IDENTITY).fields(request([]), account, CREDENTIAL))
    assert found[b"x-openai-account-routing-override"] == b"us_cr"
    assert found[b"x-openai-fedramp"] == b"true"


def test_a_renewed_token_or_account_is_used_at_once() -> None:
    """The prepared part follows what it was made from."""
    builder = HeaderBuilder(IDENTITY)
    builder.wire(request([]), ACCOUNT, CREDENTIAL)
    renewed = make_credential(access_token=Secret("newer"))
    assert b"Bearer newer\r\n" in builder.wire(request([]), ACCOUNT, renewed)
    moved = make_account(chatgpt_account_id="acct-10")
    assert b"acct-10" in builder.wire(request([]), moved, renewed)


@pytest.mark.parametrize("token", ["a\r\nx: y", "", "a\0"])
def test_a_token_that_is_no_header_value_is_never_sent(token: str) -> None:
    """It is the credential's fault, and nothing was sent."""
    with pytest.raises(UpstreamError) as caught:
        HeaderBuilder(IDENTITY).wire(request([]), ACCOUNT, make_credential(access_token=Secret(token)))
    assert caught.value.kind is FaultKind.AUTH
    assert not caught.value.sent


def test_an_identity_that_is_no_header_value_is_refused_at_the_start() -> None:
    """Not at the first request."""
    with pytest.raises(ValueError, match="user-agent"):
        HeaderBuilder(Identity("a", "b\r\nc: d", "1"))


@pytest.mark.fault("B11")
def test_only_listed_fields_come_down() -> None:
    """And none with a broken value."""
    upstream = [
        (b"content-type", b"text/event-stream"),
        (b"set-cookie", b"a=b"),
        (b"server", b"cloudflare"),
        (b"x-request-id", b"theirs"),
        (b"retry-after", b"3"),
        (b"x-codex-turn-state", b"sticky"),
        (b"x-codex-primary-used-percent", b"5"),
        (b"x-codex-evil", b"a\rb"),
        (b"x-codex-\xff", b"a"),
        (b"x-models-etag", b'"e"'),
        (b"openai-model", b"gpt"),
        (b"x-reasoning-included", b"true"),
    ]
    assert safe_response_headers(upstream) == [
        upstream[4], upstream[5], upstream[6], upstream[9], upstream[10], upstream[11],
    ]  # fmt: skip
