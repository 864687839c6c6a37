"""Certificates and keys of one test cluster: an authority, server and client certificates.

Everything is EC P-256: a pair takes well under a millisecond, an RSA pair a tenth of a second.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Backdated, so that a clock that is a little behind does not refuse a fresh certificate.
_BACKDATED = timedelta(hours=1)
_VALID = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A private key and the certificate (or, for service accounts, the public key) that fits it."""

    public_pem: bytes
    private_pem: bytes

    def write(self, folder: Path, name: str) -> None:
        """Writes `<name>.crt` and `<name>.key`; the key is for the owner only."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.crt").write_bytes(self.public_pem)
        key = folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(self.private_pem)


class Authority:
    """A certificate authority that exists for one test cluster."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        certificate = _sign(
            _builder(self._name, self._key, issuer=self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True),
            self._key,
        )
        self.pair = _pair(certificate, self._key)

    @property
    def certificate_pem(self) -> bytes:
        """What clients and servers trust."""
        return self.pair.public_pem

    def issue_server(self, name: str, hosts: Sequence[str]) -> KeyPair:
        """Certificate for a server that is reached under these DNS names and addresses."""
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        return self._issue(_subject(name), [ExtendedKeyUsageOID.SERVER_AUTH], names=names)

    def issue_client(self, user: str, *, groups: Sequence[str] = ()) -> KeyPair:
        """Certificate that Kubernetes reads as this user, a member of these groups."""
        return self._issue(_subject(user, groups), [ExtendedKeyUsageOID.CLIENT_AUTH])

    def issue_workload(self, *, trust_domain: str, namespace: str, account: str) -> KeyPair:
        """Certificate of a mesh's workload: its SPIFFE id names its ServiceAccount."""
        uri = f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        return self._issue(_subject(account), usages, names=names)

    def _issue(
        self,
        subject: x509.Name,
        usages: Sequence[x509.ObjectIdentifier],
        *,
        names: x509.SubjectAlternativeName | None = None,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, key, issuer=self._name)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return _pair(_sign(builder, self._key), key)


def service_account_keys() -> KeyPair:
    """Key pair with which the API server signs and checks the tokens of service accounts."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyPair(public_pem=public, private_pem=_private_pem(key))


def _subject(name: str, groups: Sequence[str] = ()) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        public_pem=certificate.public_bytes(serialization.Encoding.PEM),
        private_pem=_private_pem(key),
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
