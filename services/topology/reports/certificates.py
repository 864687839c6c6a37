"""How long certificates hold: the few fields of X.509 that the compliance report needs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_NAMES = {"2.5.4.3": "CN", "2.5.4.10": "O"}
"""Common name and organization, by their object identifiers."""
_MOST_BYTES = 64 * 1024


class MalformedCertificate(ValueError):
    """The text holds no X.509 certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is kept of one."""

    subject: str
    """Organization and common name, such as `O=cluster.local`; "" where there is neither."""
    not_before: datetime
    not_after: datetime
    sha256: str
    """Fingerprint, hexadecimal."""


def of_pem(text: str) -> Iterator[Certificate]:
    """The certificates of a PEM text; none in a text without any. Raises
    `MalformedCertificate`."""
    for block in _BLOCK.findall(text):
        try:
            der = base64.b64decode("".join(block.split()), validate=True)
        except (binascii.Error, ValueError):
            raise MalformedCertificate("not base64") from None
        yield of_der(der)


def of_bundle(encoded: str) -> Iterator[Certificate]:
    """Those of a webhook's `caBundle`: PEM in base64."""
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise MalformedCertificate("not PEM in base64") from None
    yield from of_pem(text)


def of_der(der: bytes) -> Certificate:
    """One certificate."""
    if len(der) > _MOST_BYTES:
        raise MalformedCertificate("longer than any certificate")
    # A part of the start that only reports need.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    try:
        read = x509.load_der_x509_certificate(der)
        names = [(_NAMES.get(name.oid.dotted_string), name.value) for name in read.subject]
        return Certificate(
            ", ".join(
                f"{short}={value}" for short, value in names if short and isinstance(value, str)
            ),
            read.not_valid_before_utc,
            read.not_valid_after_utc,
            read.fingerprint(hashes.SHA256()).hex(),
        )
    except (ValueError, KeyError, x509.InvalidVersion) as error:
        # The library answers a KeyError to a name whose text is of a type that it does not know.
        raise MalformedCertificate(f"not a certificate: {error}") from None
