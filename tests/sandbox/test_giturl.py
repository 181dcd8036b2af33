"""Addresses of repositories: what git could take for something else never reaches it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.addresses import networks
from sandbox.giturl import BadSource, check_ref, checked_git, host_of, is_sha
from sandbox.types import GitSource
from store.records import Secret


async def public(host: str, port: int) -> Sequence[str]:
    return ["93.184.215.14"]


async def inside(host: str, port: int) -> Sequence[str]:
    return ["93.184.215.14", "10.0.0.7"]


HOSTILE = (
    "http://git.test/a/b", "git://git.test/a/b", "ssh://git@git.test/a/b", "git@git.test:a/b", "file:///etc/passwd",
    "/etc/passwd", "../up", "ext::sh -c touch% /tmp/x", "ext::https://git.test/a", "-oProxyCommand=x",
    "--upload-pack=touch /tmp/x", "https://-git.test/a", "https://git.test/-a", "https://user@git.test/a",
    "https://user:pass@git.test/a", "https://git.test@evil.test/a", "https://git.test\\@evil.test/a",
    "https://git.test/a?x=1", "https://git.test/a#main", "https://git.test/a b", "https://git.test/a\nb",
    "https://git.test/a\r", "https://git.test/a\0b", "https://git.test/../a", "https://git.test/a/./b",
    "https://git.test//a", "https://git.test/%2e%2e/a", "https://git.test", "https://git.test/", "https://:443/a",
    "https://git.test:22/a", "https://git.test:0443x/a", "https://git.test:65536/a", "https://git.test:80/a",
    "https://b\u00fccher.test/a", "https://git.test/\u00fc", "https://127.0.0.1/a", "https://[::1]/a",
    "https://169.254.169.254/latest", "https://0x7f.1/a", "https://2130706433/a", "https://017700000001/a",
    "https://localhost:3000/a", "https://[::ffff:10.0.0.1]/a", "HTTPS://git.test/a", "https:git.test/a",
    "https:///git.test/a", " https://git.test/a", "https://git.test/" + "a" * 1100, "https://git.test/a;b",
    "https://git.test/$(x)", "https://git.test/`x`", "https://git_test/a", "https://git..test/a", "",
)  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_hostile_address_is_refused(url: str) -> None:
    with pytest.raises(BadSource) as caught:
        await checked_git(url, "main", public)
    assert caught.value.field == "url"


@pytest.mark.parametrize(
    ("url", "given_on"),
    [
        ("https://git.test/team/project", "https://git.test/team/project"),
        ("https://Git.Test/Team/project.git", "https://git.test/Team/project.git"),
        ("https://git.test:443/a/b/c/d/", "https://git.test/a/b/c/d/"),
        ("https://git.test:8443/~me/x_y-z.git", "https://git.test:8443/~me/x_y-z.git"),
    ],
)
async def test_a_good_address_is_given_on(url: str, given_on: str) -> None:
    token = Secret("ghp_secret")
    assert await checked_git(url, None, public, token=token) == GitSource(given_on, None, token)
    assert host_of(given_on) == "git.test"


async def test_one_private_address_is_enough_unless_the_operator_named_it() -> None:
    with pytest.raises(BadSource, match="private or special"):
        await checked_git("https://git.test/a", None, inside)
    assert await checked_git("https://git.test/a", None, inside, private=networks(["10.0.0.0/8"]))


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "\u00fc", "x" * 513])
async def test_a_token_is_plain(token: str) -> None:
    with pytest.raises(BadSource) as caught:
        await checked_git("https://git.test/a", None, public, token=Secret(token))
    assert caught.value.field == "token"
    assert not token or token not in str(caught.value)


BAD_REFS = (
    "-x", "--upload-pack=x", "", "a..b", "a b", "a\nb", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "@{u}", "a//b",
    "/a", "a/", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a/-b", "x" * 201, "\u00e4", "a\0b", "main\n", "$(x)", "a;b",
)  # fmt: skip


@pytest.mark.parametrize("ref", BAD_REFS)
async def test_a_hostile_ref_is_refused(ref: str) -> None:
    with pytest.raises(BadSource) as caught:
        await checked_git("https://git.test/a", ref, public)
    assert caught.value.field == "ref"


@pytest.mark.parametrize("ref", ["main", "v1.2.3", "feature/x_y-z", "refs/heads/main", "a" * 40, "1.0"])
def test_a_good_ref_is_taken(ref: str) -> None:
    check_ref(ref)


def test_a_sha_is_told_from_a_name() -> None:
    assert is_sha("0123456789abcdef" * 2 + "01234567")
    assert is_sha("a" * 64)
    assert not any(is_sha(ref) for ref in (None, "main", "a" * 39, "A" * 40, "g" * 40))


@given(st.text(max_size=60))
def test_no_ref_that_is_taken_is_an_option_or_more_than_one_word(ref: str) -> None:
    try:
        check_ref(ref)
    except BadSource:
        return
    assert ref.split() == [ref]
    assert not ref.startswith("-")
    assert ".." not in ref
