"""Numbers, times, shares and addresses as Istio reads them."""

from __future__ import annotations

import ipaddress
import re
from fractions import Fraction

from services.translator.istio.patterns import LENGTH_LIMIT, Pattern
from services.translator.validity.parts import Part

_LARGEST_PORT = 65535
_TIMES = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MILLISECOND = _UNITS["ms"]
_SECOND = _UNITS["s"]
_LONGEST_TIME = 64
_LARGEST_TIME = 2**63
SOCKET = "unix://"


def nanoseconds(text: str) -> int | None:
    """A time such as `1h30m` or `1.5s`, in nanoseconds; None when it is none."""
    if len(text) > _LONGEST_TIME:
        return None
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total, place = 0, 0
    while place < len(rest):
        found = _TIMES.match(rest, place)
        if found is None or not found[1].strip("."):
            return None
        total += int(Fraction(f"0{found[1]}".rstrip(".")) * _UNITS[found[2]])
        place = found.end()
    return sign * total if rest and total < _LARGEST_TIME else None


def check_time(part: Part, *, at_least_a_second: bool = False, precise: bool = True) -> None:
    """A time of at least a millisecond, and of whole ones where it is `precise`."""
    if not isinstance(part.value, str):
        return
    time = nanoseconds(part.text)
    if time is None:
        part.tell("time-unreadable", time=part.text or '""')
    elif time < _MILLISECOND:
        part.tell("time-too-short", time=part.text)
    elif at_least_a_second and time % _SECOND:
        part.tell("time-not-of-seconds", time=part.text)
    elif precise and time % _MILLISECOND:
        part.tell("time-too-precise", time=part.text)


def check_readable_time(part: Part) -> None:
    """A time of any length."""
    if isinstance(part.value, str) and nanoseconds(part.text) is None:
        part.tell("time-unreadable", time=part.text or '""')


def is_time_of_a_millisecond(text: str) -> bool:
    """Whether it is a time that is a millisecond or more, forwards or backwards."""
    return abs(nanoseconds(text) or 0) >= _MILLISECOND


def check_port(part: Part) -> None:
    """A port's number."""
    if not 1 <= part.number <= _LARGEST_PORT:
        part.tell("port-out-of-range")


def check_not_negative(parent: Part, *names: str) -> None:
    for name in names:
        if parent[name].number < 0:
            parent[name].tell("negative")


def check_percent(part: Part) -> None:
    """A share in whole percent."""
    if not 0 <= part.number <= 100:
        part.tell("percent-out-of-range")


def check_fine_percent(part: Part) -> None:
    """A share in percent, which Envoy counts in millionths."""
    if part.number and not 0.0001 <= part.number <= 100:
        part.tell("percent-out-of-range")


def is_address(text: str) -> bool:
    """Whether it is an IP address; one of IPv6 may name its zone, by any text."""
    address, percent, zone = text.partition("%")
    if percent and (not zone or ":" not in address):
        return False
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def is_subnet(text: str) -> bool:
    """Whether it is a network such as `10.0.0.0/8`; bits behind its prefix may be set."""
    address, _, bits = text.partition("/")
    if not bits.isascii() or not bits.isdigit() or (bits[0] == "0" and len(bits) > 1):
        return False
    try:
        ipaddress.ip_network(f"{address}/{int(bits)}", strict=False)
    except ValueError:
        return False
    return "%" not in address


def check_address(part: Part) -> None:
    if not is_address(part.text):
        part.tell("address-malformed", address=part.text)


def check_address_or_subnet(part: Part) -> None:
    text = part.text
    if not (is_subnet(text) if "/" in text else is_address(text)):
        part.tell("address-malformed", address=text)


def check_socket(part: Part) -> None:
    """`unix:///path`, or `unix://@name` for one that is no file."""
    path = part.text.removeprefix(SOCKET)
    if not path.startswith(("/", "@")):
        part.tell("socket-relative", path=path)


def check_expression(part: Part) -> None:
    """An RE2 expression of bounded length."""
    text = part.text
    if len(text) > LENGTH_LIMIT:
        part.tell("expression-too-long", limit=LENGTH_LIMIT)
    elif Pattern.of(text) is None:
        part.tell("expression-unreadable")


def check_match(match: Part, *, may_be_any: bool = False) -> None:
    """A text by `exact`, `prefix` or `regex`: an expression must say something, and so must a
    prefix unless it `may_be_any`."""
    for form in ("regex",) if may_be_any else ("prefix", "regex"):
        if match[form] and not match[form].text:
            match[form].tell("match-empty")
    if match["regex"].text:
        check_expression(match["regex"])
