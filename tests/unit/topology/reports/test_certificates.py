"""Dates of certificates, compared with the library that is known to read them right."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from services.topology.reports.certificates import MalformedCertificate, of_bundle, of_der, of_pem

KEYS = (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048))


def certificate(
    begins: datetime,
    ends: datetime,
    *,
    common: str | None = None,
    organization: str = "cluster.local",
    key: int = 0,
) -> x509.Certificate:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    if common is not None:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, common))
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COUNTRY_NAME, "DE")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEYS[key].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(KEYS[key], hashes.SHA256())
    )


def der(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.DER)


def pem(made: x509.Certificate) -> str:
    return made.public_bytes(serialization.Encoding.PEM).decode()


NOW = datetime(2026, 11, 24, 12, 30, 15, tzinfo=timezone.utc)
MADE = certificate(NOW, NOW + timedelta(days=3650))


@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("year", [1950, 1999, 2000, 2026, 2049, 2050, 9999])
def test_dates_and_names_are_those_of_the_library(year: int, key: int) -> None:
    begins = datetime(1950, 1, 1, tzinfo=timezone.utc)
    ends = datetime(year, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    made = certificate(begins, ends, common="Münz-CA", key=key)
    found = of_der(der(made))
    assert (found.not_before, found.not_after) == (
        made.not_valid_before_utc,
        made.not_valid_after_utc,
    )
    assert found.not_after == ends
    assert found.subject == "O=cluster.local, CN=Münz-CA"
    assert found.sha256 == made.fingerprint(hashes.SHA256()).hex()


def test_a_bundle_holds_several() -> None:
    other = certificate(NOW, NOW + timedelta(days=1), organization="other")
    text = f"# roots\n{pem(MADE)}\n{pem(other)}"
    found = list(of_bundle(base64.b64encode(text.encode()).decode()))
    assert [one.subject for one in found] == ["O=cluster.local", "O=other"]
    assert list(of_pem("")) == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate_is_an_error(text: str) -> None:
    with pytest.raises(MalformedCertificate):
        list(of_pem(text))


def test_a_bundle_that_is_not_base64_is_an_error() -> None:
    with pytest.raises(MalformedCertificate):
        list(of_bundle("***"))


@pytest.mark.parametrize("change", ["cut", "added", "indefinite", "padded", "long"])
def test_other_forms_of_length_are_refused(change: str) -> None:
    whole = der(MADE)
    broken = {
        "cut": whole[:-1],
        "added": whole + b"\x00",
        "indefinite": whole[:1] + b"\x80" + whole[4:],
        "padded": whole[:1] + b"\x83\x00" + whole[2:],
        "long": whole + bytes(70_000),
    }[change]
    with pytest.raises(MalformedCertificate):
        of_der(broken)


def test_a_length_in_more_digits_than_it_needs_is_refused() -> None:
    with pytest.raises(MalformedCertificate, match="not a certificate"):
        of_der(b"\x30\x81\x02\x30\x00")


# The library warns of what it still takes, such as a serial number that is not positive, or a
# country of three letters.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")
@given(st.integers(0, len(der(MADE)) - 1), st.integers(0, 255))
def test_a_damaged_byte_gives_an_error_or_a_certificate_and_nothing_else(
    at: int, byte: int
) -> None:
    damaged = bytearray(der(MADE))
    damaged[at] = byte
    try:
        found = of_der(bytes(damaged))
    except MalformedCertificate:
        return
    assert found.not_after.tzinfo is timezone.utc
