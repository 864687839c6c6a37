"""How long certificates hold: the few fields of X.509 that the compliance report needs.

The only library here that reads certificates is a dependency of the tests, and the standard
library's reader is private and wants files. The reader below knows DER's definite lengths and no
more; what has another form is an error, not a guess. Nothing is verified: whoever trusts a
certificate for more than its dates needs a real library. Tests compare it with one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_INTEGER, _OID, _SEQUENCE, _SET, _UTC, _GENERAL, _VERSION = 0x02, 0x06, 0x30, 0x31, 0x17, 0x18, 0xA0
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
"""UTF8String, PrintableString, IA5String."""
_NAMES = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O"}
_UTC_FORM = re.compile(rb"\d{12}Z")
_GENERAL_FORM = re.compile(rb"\d{14}Z")
_MOST_BYTES = 64 * 1024


class MalformedCertificate(ValueError):
    """The text is no certificate of the form that is read here."""


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
    whole = _Reader(der)
    fields = _Reader(_Reader(whole.value(_SEQUENCE)).value(_SEQUENCE))
    whole.end()
    if fields.next_tag() == _VERSION:
        fields.value(_VERSION)
    fields.value(_INTEGER)
    for _ in ("signature algorithm", "issuer"):
        fields.value(_SEQUENCE)
    validity = _Reader(fields.value(_SEQUENCE))
    begins, ends = _time(*validity.any()), _time(*validity.any())
    validity.end()
    subject = _subject(fields.value(_SEQUENCE))
    return Certificate(subject, begins, ends, hashlib.sha256(der).hexdigest())


class _Reader:
    """Reads one element of DER after another."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def next_tag(self) -> int:
        if self._at >= len(self._data):
            raise MalformedCertificate("ends too early")
        return self._data[self._at]

    def any(self) -> tuple[int, bytes]:
        """Tag and content of the next element."""
        tag = self.next_tag()
        head = self._data[self._at + 1 : self._at + 2]
        if not head:
            raise MalformedCertificate("ends too early")
        start, length = self._at + 2, head[0]
        if length & 0x80:
            size = length & 0x7F
            digits = self._data[start : start + size]
            # DER: no indefinite length, and no more digits than needed.
            if not 1 <= size <= 4 or len(digits) < size or digits[0] == 0:
                raise MalformedCertificate("a length of another form")
            start, length = start + size, int.from_bytes(digits, "big")
            if length < 0x80:
                raise MalformedCertificate("a length of another form")
        if start + length > len(self._data):
            raise MalformedCertificate("ends too early")
        self._at = start + length
        return tag, self._data[start : self._at]

    def value(self, tag: int) -> bytes:
        """Content of the next element, which has to be of this tag."""
        found, content = self.any()
        if found != tag:
            raise MalformedCertificate(f"tag {found:#04x} where {tag:#04x} belongs")
        return content

    def rest(self) -> Iterator[tuple[int, bytes]]:
        while self._at < len(self._data):
            yield self.any()

    def end(self) -> None:
        if self._at != len(self._data):
            raise MalformedCertificate("something follows")


def _time(tag: int, content: bytes) -> datetime:
    """UTCTime until 2049, GeneralizedTime from then on (RFC 5280, 4.1.2.5)."""
    if tag == _UTC and _UTC_FORM.fullmatch(content):
        century = b"19" if content[:2] >= b"50" else b"20"
        content = century + content
    elif tag != _GENERAL or not _GENERAL_FORM.fullmatch(content):
        raise MalformedCertificate("a time of another form")
    try:
        read = datetime.strptime(content.decode("ascii"), "%Y%m%d%H%M%SZ")
    except ValueError:
        raise MalformedCertificate("no such time") from None
    return read.replace(tzinfo=timezone.utc)


def _subject(content: bytes) -> str:
    found: list[str] = []
    for tag, group in _Reader(content).rest():
        if tag != _SET:
            raise MalformedCertificate("a name of another form")
        for _, pair in _Reader(group).rest():
            fields = _Reader(pair)
            name = _NAMES.get(fields.value(_OID))
            kind, text = fields.any()
            if name is not None and kind in _TEXTS:
                found.append(f"{name}={text.decode(_TEXTS[kind], 'replace')}")
    return ", ".join(found)
