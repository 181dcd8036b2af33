"""Certificates for the misbehaving upstream: one right one and the wrong ones.

Everything is made in memory for one test run and lives for a day; ``ca_pem`` is what a client has to trust.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificate(StrEnum):
    """What the upstream shows in its TLS handshake."""

    RIGHT = "right"
    SELF_SIGNED = "self_signed"
    WRONG_HOST = "wrong_host"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Identity:
    """A server's TLS context and the CA that a client has to trust."""

    context: ssl.SSLContext
    ca_pem: bytes


def make_identity(kind: Certificate = Certificate.RIGHT) -> Identity:
    """For 127.0.0.1 and localhost, except WRONG_HOST."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _sign("faulty test CA", ca_key, None, ca_key, authority=True)
    key = ec.generate_private_key(ec.SECP256R1())
    signer = (None, key) if kind is Certificate.SELF_SIGNED else (ca, ca_key)
    leaf = _sign(
        "localhost",
        key,
        *signer,
        names=["elsewhere.invalid"] if kind is Certificate.WRONG_HOST else ["localhost", "127.0.0.1"],
        days_left=-1 if kind is Certificate.EXPIRED else 1,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder, "chain.pem")
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(chain)
    return Identity(context, ca.public_bytes(serialization.Encoding.PEM))


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    names: list[str] | None = None,
    authority: bool = False,
    days_left: int = 1,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days_left))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        alternatives = [_general(one) for one in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
