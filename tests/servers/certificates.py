"""Certificates for tests: an authority of one's own, and what it vouches for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose certificate is ``file``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"{name} of the tests")
        builder = _builder(self._name, self._key).issuer_name(self._name)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        builder = builder.add_extension(_ONLY_SIGNS, critical=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, *hosts: str, name: str = "server") -> Issued:
        """A certificate for host names and addresses, signed by this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _for_hosts(_builder(_named(hosts[0]), key), hosts).issuer_name(self._name)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return _write(self._folder, name, builder.sign(self._key, hashes.SHA256()), key)


def self_signed(folder: Path, *hosts: str, name: str = "self") -> Issued:
    """A certificate that only vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _for_hosts(_builder(_named(hosts[0]), key), hosts).issuer_name(_named(hosts[0]))
    return _write(folder, name, builder.sign(key, hashes.SHA256()), key)


_ONLY_SIGNS = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
    )


def _for_hosts(builder: x509.CertificateBuilder, hosts: tuple[str, ...]) -> x509.CertificateBuilder:
    return builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    issued = Issued(folder / f"{name}.pem", folder / f"{name}.key")
    issued.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    issued.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return issued
