"""Who vouches, inside one process, that loopback is chatgpt.com: a certificate authority that lives as long as it.

Rules that hold:

* the authority's key signs one certificate and is forgotten; neither it nor the certificate's key ever reaches a disk;
* the authority may vouch for the named hosts and for nothing else (a critical name constraint), and can make no
  authority below itself;
* it is trusted only by a process that is handed its certificate. No store of the machine learns of it.

Python's ``ssl`` takes a key from a file alone: the file is an anonymous one in memory, gone when it has been read.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS: Final = 90
"""A session that is longer than this must be begun anew."""
_SKEW: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """``certificate_pem``: what the child must trust. ``context``: TLS of a server that answers for the hosts."""

    certificate_pem: bytes
    context: ssl.SSLContext


def new_authority(hosts: Sequence[str], now_s: float) -> Authority:
    """A fresh authority and a certificate of it for ``hosts``, good from an hour before ``now_s`` for 90 days."""
    start = datetime.datetime.fromtimestamp(now_s, datetime.UTC) - _SKEW
    end = start + datetime.timedelta(days=DAYS)
    names = [x509.DNSName(host) for host in hosts]
    signer, holder = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("codex-relay, for one process")
    authority = (
        _builder(issuer, issuer, signer.public_key(), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(signer, hashes.SHA256())
    )
    certificate = (
        _builder(_name(hosts[0]), issuer, holder.public_key(), start, end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pair = holder.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Authority(authority.public_bytes(Encoding.PEM), _context(certificate.public_bytes(Encoding.PEM) + pair))


def _context(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with os.fdopen(os.memfd_create("certificate", os.MFD_CLOEXEC), "wb") as memory:
        memory.write(pem)
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}")
    return context


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
