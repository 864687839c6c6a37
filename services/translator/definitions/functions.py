"""Functions of Kubernetes' CEL that the `cel` package lacks, or has with another meaning.

Sources: https://kubernetes.io/docs/reference/using-api/cel/ and, for what counts as a URL, the Go
package net/url, whose ParseRequestURI is behind `url` and `isURL`. Functions that no definition
of Istio or the Gateway API calls are mostly missing (quantities, semantic versions, formats, regex
finds, IP objects): a rule that calls one of them is reported as unchecked.

A function that refuses its argument raises ValueError without the argument in it, because the
`cel` package logs such errors.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import cel.stdlib

from services.translator.istio.patterns import Pattern

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONGEST_NS = 2**63 - 1
_DURATION_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*\Z")
_HOST = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"]|%[89a-fA-F][0-9a-fA-F]|[^\x00-\x7f])*\Z"
)
_PATH_CHARACTERS = "%/:@!$&'()*+,;=[]"
_PORT = re.compile(r"(?::[0-9]*)?\Z")


@lru_cache(maxsize=1024)
def duration(text: str | timedelta) -> timedelta:
    """Go's time.ParseDuration, cut to microseconds."""
    if isinstance(text, timedelta):
        return text
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return timedelta()
    total, place = 0, 0
    while place < len(rest) or not rest:
        part = _DURATION_PART.match(rest, place)
        if part is None or not (part[1] or part[2]):
            raise ValueError("not a duration")
        unit = _NANOSECONDS[part[3]]
        fraction = part[2] or ""
        total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        place = part.end()
    if total > _LONGEST_NS:
        raise ValueError("the duration is too long")
    return timedelta(microseconds=total // 1_000 * (-1 if text.startswith("-") else 1))


def size(value: Any) -> int:
    """Characters of text; the `cel` package counts its bytes."""
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise ValueError("has no size")


@lru_cache(maxsize=256)
def _pattern(expression: str) -> Pattern:
    pattern = Pattern.of(expression)
    if pattern is None:
        raise ValueError("the pattern cannot be read")
    return pattern


def matches(text: str, expression: str) -> bool:
    """RE2 anywhere in the text; the `cel` package has another dialect and compiles every time."""
    return _pattern(expression).finds(text)


def url(text: str) -> dict[str, str]:
    """The parts of an absolute URL or an absolute path."""
    _request_uri(text)
    without_fragment, _, fragment = text.partition("#")
    _check_escapes(fragment)
    return _request_uri(without_fragment)


def is_url(text: str) -> bool:
    try:
        return bool(_request_uri(text))
    except ValueError:
        return False


def _request_uri(text: str) -> dict[str, str]:
    if not text or _CONTROL.search(text):
        raise ValueError("not a URL")
    if text == "*":
        return _parts(path="*")
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if scheme is None and text.startswith(":"):
        raise ValueError("the URL has no scheme")
    rest, _, query = rest.partition("?")
    name = scheme[1].lower() if scheme else ""
    if not rest.startswith("/"):
        if not scheme:
            raise ValueError("the URL has neither a scheme nor an absolute path")
        return _parts(scheme=name, query=query)
    host = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        host, rest = _host(authority), slash + path
    _check_escapes(rest)
    return _parts(scheme=name, host=host, path=rest, query=query)


def _parts(*, scheme: str = "", host: str = "", path: str = "", query: str = "") -> dict[str, str]:
    return {"scheme": scheme, "host": host, "path": path, "query": query}


def _host(authority: str) -> str:
    user, at, host = authority.rpartition("@")
    if at and not _USER.match(user):
        raise ValueError("the URL's user has a character that cannot stand there")
    _check_escapes(user)
    if host.startswith("["):
        address, bracket, port = host[1:].rpartition("]")
        if not bracket or not _is_bracketed(address):
            raise ValueError("the URL's address is not an IPv6 one")
    else:
        _, colon, number = host.partition(":")
        port = colon + number
    if not _PORT.match(port) or not _HOST.match(re.sub("%25[^]]*", "", host)):
        raise ValueError("the URL's host or port cannot be read")
    return unquote(host)


def _is_bracketed(address: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(address.partition("%25")[0]))
    except ValueError:
        return False


def _check_escapes(text: str) -> None:
    if _BAD_ESCAPE.search(text):
        raise ValueError("the URL has a % that escapes nothing")


def _hostname(parts: dict[str, str]) -> str:
    host = parts["host"]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _port(parts: dict[str, str]) -> str:
    host = parts["host"]
    return host.rpartition("]")[2].partition(":")[2]


def _query(parts: dict[str, str]) -> dict[str, list[str]]:
    return parse_qs(parts["query"], keep_blank_values=True)


def is_ip(text: str) -> bool:
    """Accepts IP addresses without a zone and not mapped from IPv4 to IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and getattr(address, "ipv4_mapped", None) is None


def is_cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or not is_ip(address) or not re.fullmatch("0|[1-9][0-9]{0,2}", length):
        return False
    return int(length) <= (128 if ":" in address else 32)


def is_sorted(values: list[Any]) -> bool:
    return all(first <= second for first, second in pairwise(values))


def _index_of(value: Any, wanted: Any, *rest: int) -> int:
    if isinstance(value, str):
        return cel.stdlib.index_of(value, wanted, *rest)
    return next((place for place, item in enumerate(value) if item == wanted), -1)


def _last_index_of(value: Any, wanted: Any, *rest: int) -> int:
    if isinstance(value, str):
        return cel.stdlib.last_index_of(value, wanted, *rest)
    return len(value) - 1 - place if (place := _index_of(value[::-1], wanted)) >= 0 else -1


_FROM_THE_PACKAGE = (
    *("bool", "charAt", "distinct", "flatten", "join", "lists.range", "lowerAscii", "max", "min"),
    *("replace", "reverse", "sets.contains", "sets.equivalent", "sets.intersects", "slice", "sort"),
    *("split", "strings.quote", "substring", "sum", "trim", "upperAscii"),
)

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: cel.stdlib.STDLIB_FUNCTIONS[name] for name in _FROM_THE_PACKAGE},
    "duration": duration,
    "getEscapedPath": lambda parts: quote(parts["path"], safe=_PATH_CHARACTERS),
    "getHost": lambda parts: parts["host"],
    "getHostname": _hostname,
    "getPort": _port,
    "getQuery": _query,
    "getScheme": lambda parts: parts["scheme"],
    "indexOf": _index_of,
    "isCIDR": is_cidr,
    "isIP": is_ip,
    "isSorted": is_sorted,
    "isURL": is_url,
    "lastIndexOf": _last_index_of,
    "matches": matches,
    "size": size,
    "url": url,
}
"""By the name that stands in a rule."""

OVERRIDING = frozenset(("duration", "matches", "size"))
"""Functions that the `cel` package has as well, but with another meaning than Kubernetes."""

NATIVE = frozenset(
    (
        *("bytes", "contains", "double", "dyn", "endsWith", "int", "startsWith", "string"),
        *("timestamp", "type", "uint", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
        *("hasValue", "none", "of", "ofNonZeroValue", "or", "orValue", "value"),
    )
)
"""Functions that are used as the `cel` package has them."""
