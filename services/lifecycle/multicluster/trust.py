"""Certificates of a mesh of several clusters: one root, and an intermediate for each cluster.

istiod signs workloads' certificates with what the Secret `cacerts` of its namespace holds. Each
cluster's intermediate has a key of its own, made where it is written: it travels nowhere.
https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from services.chassis.errors import OptionsMalformed

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

# What makes and reads certificates loads cryptography, which no other operation needs.

SECRET = "cacerts"
_CERTIFICATE, _KEY, _ROOT, _CHAIN = "ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"
_ROOT_LASTS = timedelta(days=3650)
_INTERMEDIATE_LASTS = timedelta(days=730)
_RENEWED_BEFORE = _INTERMEDIATE_LASTS / 3
"""An intermediate that ends sooner is made anew by the next operation."""
_CLOCKS_DIFFER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Root:
    """A root that signs; `repr` shows no key."""

    certificate_pem: str
    key_pem: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate_pem)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a cluster's `cacerts` says."""

    root: str
    """Fingerprint of its root."""
    intermediate: str
    """Fingerprint of what istiod signs with."""
    is_fresh: bool
    """Whether it need not be renewed, and its root has signed it."""


def make_root(mesh: str) -> Root:
    """A new root for a mesh, for ten years."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Root CA of {mesh}")
    builder = _builder(name, name, key.public_key(), lasts=_ROOT_LASTS, path_length=None)
    return Root(_certificate_text(builder.sign(key, _digest())), _key_text(key))


def read_root(certificate: str, key: str) -> Root:
    """A root as a user gives it; raises `OptionsMalformed` for one that cannot sign."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        found = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        raise _unusable("certificate is not PEM") from None
    if len(found) != 1:
        raise _unusable("certificate holds more than the root alone")
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise _unusable("key is encrypted") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable("key is not PEM of a private key") from None
    [root] = found
    if private.public_key() != root.public_key():
        raise _unusable("key is not that of the certificate")
    try:
        is_authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise _unusable("certificate is no authority's (CA:TRUE)")
    if not _is_issued_by(root, root):
        raise _unusable("certificate is no root: another one has signed it")
    if root.not_valid_after_utc < datetime.now(timezone.utc) + _RENEWED_BEFORE:
        raise _unusable("certificate ends before the intermediates would")
    return Root(_certificate_text(root), _key_text(_issuing(private)))


def make_intermediate(root: Root, *, cluster: str, namespace: str) -> dict[str, str]:
    """The files of `cacerts` for a cluster, with a key of its own, for two years."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    [issuer] = x509.load_pem_x509_certificates(root.certificate_pem.encode())
    signing = _issuing(load_pem_private_key(root.key_pem.encode(), password=None))
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(
        _name("Intermediate CA", locality=cluster),
        issuer.subject,
        key.public_key(),
        lasts=min(_INTERMEDIATE_LASTS, issuer.not_valid_after_utc - datetime.now(timezone.utc)),
        path_length=0,
    ).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(f"istiod.{namespace}.svc")]), critical=False
    )
    digest = None if _is_edwards(signing) else _digest()
    own = _certificate_text(builder.sign(signing, digest))
    return {
        _CERTIFICATE: own,
        _KEY: _key_text(key),
        _ROOT: root.certificate_pem,
        _CHAIN: own + root.certificate_pem,
    }


def standing(files: Mapping[str, str]) -> Standing | None:
    """What is in a `cacerts`; None for one that holds no certificates."""
    from cryptography import x509

    try:
        own = x509.load_pem_x509_certificates(files.get(_CERTIFICATE, "").encode())[0]
        root = x509.load_pem_x509_certificates(files.get(_ROOT, "").encode())[0]
    except (ValueError, IndexError):
        return None
    ends = own.not_valid_after_utc - datetime.now(timezone.utc)
    return Standing(
        root=fingerprint(files[_ROOT]),
        intermediate=fingerprint(files[_CERTIFICATE]),
        is_fresh=ends > _RENEWED_BEFORE and bool(files.get(_KEY)) and _is_issued_by(own, root),
    )


def fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate in `pem`, in hexadecimal digits."""
    from cryptography import x509

    found = x509.load_pem_x509_certificates(pem.encode())[0]
    return found.fingerprint(_digest()).hex()


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: object,
    *,
    lasts: timedelta,
    path_length: int | None,
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(timezone.utc)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + lasts)
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
    )


def _name(common: str, *, locality: str = "") -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = [(NameOID.ORGANIZATION_NAME, "Istio"), (NameOID.COMMON_NAME, common[:64])]
    if locality:
        parts.append((NameOID.LOCALITY_NAME, locality))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


def _issuing(key: object) -> CertificateIssuerPrivateKeyTypes:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    kinds = (
        rsa.RSAPrivateKey,
        ec.EllipticCurvePrivateKey,
        ed25519.Ed25519PrivateKey,
        ed448.Ed448PrivateKey,
    )
    if not isinstance(key, kinds):
        raise _unusable("key is of a kind that signs no certificates")
    return key


def _is_edwards(key: object) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ed448, ed25519

    return isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)


def _digest() -> hashes.SHA256:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _certificate_text(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def _key_text(key: CertificateIssuerPrivateKeyTypes) -> str:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode("ascii")


def _unusable(why: str) -> OptionsMalformed:
    return OptionsMalformed(
        f"spec.trust of the MultiClusterOptions: the {why}",
        cause="Meshbus signs each cluster's intermediate with this root",
        remedy="give a self-signed root (CA:TRUE) and its private key, both as PEM",
    )
