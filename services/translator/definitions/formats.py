"""The string formats that the API server checks in custom objects.

It knows more of them (kube-openapi's strfmt has e-mail addresses, ISBNs and colours as well), which
are left to it, and so are formats that it ignores itself.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date

INTEGER_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}

_TIME = re.compile(
    r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})\Z", re.IGNORECASE
)
_DURATION_PART = re.compile(r"(\d+)\s*([A-Za-zµ]+)")
_DURATION_UNITS = frozenset(
    (
        *("ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr"),
        *("hour", "d", "day", "w", "wk", "week"),
    )
)
_DURATION_STEMS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_GO_DURATION = re.compile(
    r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)\Z", re.ASCII
)
_MAC = re.compile(
    r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?:(?::[0-9a-f]{2}){2}|(?::[0-9a-f]{2}){14})?\Z"
    r"|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}(?:(?:-[0-9a-f]{2}){2}|(?:-[0-9a-f]{2}){14})?\Z"
    r"|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}(?:\.[0-9a-f]{4}|(?:\.[0-9a-f]{4}){7})?\Z",
    re.IGNORECASE,
)
_SHORT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\Z")


def _is_base64(text: str) -> bool:
    try:
        return bool(text) and bool(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return False


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _is_date_time(text: str) -> bool:
    day, _, time = text.replace("t", "T", 1).partition("T")
    clock = _TIME.match(time)
    return (
        _is_date(day)
        and clock is not None
        and clock[1] <= "23"
        and clock[2] <= "59"
        and clock[3] <= "59"
    )


def _is_duration(text: str) -> bool:
    """As Go reads it, or with words as Scala does ("2 days")."""
    if _GO_DURATION.match(text):
        return True
    units = [unit.lower() for _, unit in _DURATION_PART.findall(text)]
    return any(unit in _DURATION_UNITS or unit.startswith(_DURATION_STEMS) for unit in units)


def _is_ipv4(text: str) -> bool:
    return _is_address(text) and "." in text


def _is_ipv6(text: str) -> bool:
    return _is_address(text) and ":" in text


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not (slash and length.isascii() and length.isdigit() and _is_address(address)):
        return False
    return int(length) <= (128 if ":" in address else 32)


def _uuid(third: str, fourth: str) -> Callable[[str], bool]:
    pattern = re.compile(
        rf"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}\Z", re.IGNORECASE
    )
    return lambda text: pattern.match(text) is not None


def _is_short_name(text: str) -> bool:
    return len(text) <= 63 and _SHORT_NAME.match(text) is not None


def _is_long_name(text: str) -> bool:
    return len(text) <= 253 and all(_SHORT_NAME.match(part) for part in text.split("."))


_HEX = "[0-9a-f]{4}"

FORMATS: dict[str, Callable[[str], bool]] = {
    "byte": _is_base64,
    "cidr": _is_network,
    "date": _is_date,
    "date-time": _is_date_time,
    "duration": _is_duration,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "k8s-long-name": _is_long_name,
    "k8s-short-name": _is_short_name,
    "mac": lambda text: _MAC.match(text) is not None,
    "uuid": _uuid(_HEX, _HEX),
    "uuid3": _uuid("3[0-9a-f]{3}", _HEX),
    "uuid4": _uuid("4[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
    "uuid5": _uuid("5[0-9a-f]{3}", "[89ab][0-9a-f]{3}"),
}

SPELLINGS = {name.replace("-", ""): name for name in FORMATS}
"""Names without their dashes, which the API server takes for the same format."""

IN_WORDS = {
    "byte": "base64",
    "cidr": "an IP network such as 10.0.0.0/8",
    "date": "a date such as 2026-01-31",
    "date-time": "a time such as 2026-01-31T12:00:00Z",
    "duration": "a duration such as 1m30s",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "k8s-long-name": "lower-case letters, digits and dashes, in parts separated by dots",
    "k8s-short-name": "at most 63 lower-case letters, digits and dashes",
    "mac": "a MAC address",
}
"""How messages describe a format; others go by their name."""
