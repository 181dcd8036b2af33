"""The authority of one process: it vouches for its hosts, for nothing else, and leaves no key behind."""

from __future__ import annotations

import os
import ssl

import pytest
from cryptography import x509

from ops.codex_authority import new_authority
from tests.fakes.clock import FakeClock

NOW_S = FakeClock().now_s()
HOSTS = ("chatgpt.com", "auth.openai.com")


def shake(server: ssl.SSLContext, trusted_pem: bytes, host: str) -> None:
    """A whole TLS handshake in memory. Raises what the client raises."""
    client = ssl.create_default_context(cadata=trusted_pem.decode())
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up, server_hostname=host)
    other = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.version() in {"TLSv1.3", "TLSv1.2"}


def now_authority() -> tuple[bytes, ssl.SSLContext]:
    import time

    made = new_authority(HOSTS, time.time())
    return made.certificate_pem, made.context


@pytest.mark.parametrize("host", HOSTS)
def test_it_vouches_for_its_hosts(host: str) -> None:
    pem, context = now_authority()
    shake(context, pem, host)


def test_it_vouches_for_nothing_else() -> None:
    pem, context = now_authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, pem, "example.com")
    other, _ = now_authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, other, HOSTS[0])


def test_the_certificate_says_what_it_may() -> None:
    certificate = x509.load_pem_x509_certificate(new_authority(HOSTS, NOW_S).certificate_pem)
    bounds = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert bounds.critical
    assert [one.value for one in bounds.value.permitted_subtrees or ()] == list(HOSTS)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    assert certificate.not_valid_before_utc.timestamp() == pytest.approx(NOW_S - 3600, abs=1)
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 90


def test_no_key_is_in_what_is_handed_out_and_no_file_stays_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    made = new_authority(HOSTS, NOW_S)
    assert b"PRIVATE" not in made.certificate_pem
    assert set(os.listdir("/proc/self/fd")) <= before
