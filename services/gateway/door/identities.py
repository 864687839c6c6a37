"""Whom a call comes from, by what it brings: a token, a client certificate, or nothing.

A token speaks for its call and goes before the certificate, which speaks for the connection: a
proxy with a certificate of its own hands on calls of many. A token that does not hold is refused,
also where the certificate would do: whoever sends one means it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from services.chassis.errors import NotAuthenticated
from services.chassis.files import Followed
from services.chassis.policy import LOCAL, LONGEST_NAME, RESERVED, Identity
from services.gateway.door.tokens import Tokens

if TYPE_CHECKING:
    from cryptography import x509

    from services.gateway.door import jwt

# `jwt` and certificates bring the package cryptography, a tenth of the start: who lets in by
# neither needs none of it.
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a call brings."""

    authorization: str = ""
    """The header of this name."""
    certificate: bytes = b""
    """PEM of the client certificate, which the TLS handshake has verified."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An identity, and what proved it."""

    identity: Identity
    by: str
    """`token`, `jwt`, `certificate` or `port`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who makes JSON Web Tokens for this gateway, and the claims that name whoever has one."""

    keys: Followed[jwt.Keys]
    name: str
    audience: str
    identity_claim: str
    groups_claim: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Lets calls in."""

    now: Callable[[], float]
    """Unix time."""
    tokens: Followed[Tokens] | None = None
    issuer: Issuer | None = None
    is_open: bool = False
    """Whether a call without any proof is the one local user's."""

    def admit(self, evidence: Evidence) -> Admitted:
        """Raises `NotAuthenticated`."""
        admitted = self._admitted(evidence)
        name = admitted.identity.name
        if admitted.by != "port" and (
            not name or len(name) > LONGEST_NAME or not name.isprintable() or name in RESERVED
        ):
            raise NotAuthenticated("the name of this identity cannot be used here")
        return admitted

    def _admitted(self, evidence: Evidence) -> Admitted:
        scheme = evidence.authorization[: len(_BEARER)].lower()
        if scheme == _BEARER and (self.tokens is not None or self.issuer is not None):
            return self._of_token(evidence.authorization[len(_BEARER) :].strip())
        if evidence.certificate:
            return Admitted(_of_certificate(evidence.certificate), "certificate")
        if self.is_open:
            return Admitted(LOCAL, "port")
        raise NotAuthenticated("the call brings nothing that says who asks")

    def _of_token(self, token: str) -> Admitted:
        known = self.tokens.current().identity(token) if self.tokens is not None else None
        if known is not None:
            return Admitted(known, "token")
        if self.issuer is not None:
            return Admitted(self._of_jwt(token, self.issuer), "jwt")
        raise NotAuthenticated("the call's token is not accepted")

    def _of_jwt(self, token: str, issuer: Issuer) -> Identity:
        from services.gateway.door import jwt

        try:
            told = jwt.claims(
                token,
                issuer.keys.current(),
                issuer=issuer.name,
                audience=issuer.audience,
                now=self.now(),
            )
        except jwt.TokenRefused as refusal:
            raise NotAuthenticated("the call's token is not accepted", cause=str(refusal)) from None
        return Identity(_text(told, issuer.identity_claim), _texts(told, issuer.groups_claim))


@lru_cache(maxsize=1024)
def _of_certificate(pem: bytes) -> Identity:
    """As Kubernetes reads certificates: the common name, and organizations as groups.

    A SPIFFE id goes before the common name, which workloads' certificates do not have.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = [_spiffe(certificate), *_attributes(certificate, NameOID.COMMON_NAME)]
        groups = frozenset(_attributes(certificate, NameOID.ORGANIZATION_NAME))
    except ValueError:
        raise NotAuthenticated("the client certificate cannot be read") from None
    return Identity(next((name for name in names if name), ""), groups)


def _spiffe(certificate: x509.Certificate) -> str:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    return next((name for name in found if name.startswith("spiffe://")), "")


def _attributes(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]


def _text(told: Mapping[str, Any], claim: str) -> str:
    value = told.get(claim)
    return value if isinstance(value, str) else ""


def _texts(told: Mapping[str, Any], claim: str) -> frozenset[str]:
    value = told.get(claim)
    return (
        frozenset(one for one in value if isinstance(one, str))
        if isinstance(value, list)
        else frozenset()
    )
