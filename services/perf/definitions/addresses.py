"""What may stand in a target's address and headers.

Whatever passes here becomes an argument of a generator or a line on the wire, so it is checked by
what is allowed. Errors never quote what they found: a URL's query, a header's value and even what
somebody took for a header's name may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from services.perf.definitions.loads import Protocol

HEADERS_LIMIT = 64
ADDRESS_LIMIT = 4096
HEADER_BYTES_LIMIT = 32 * 1024
_PRINTABLE = re.compile(r"[!-~]+\Z")
_SPACED = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
_HOST = re.compile(r"(?!.{254})([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.(?!\Z)|\.?\Z))+\Z")
_SCHEMES = {"http": "", "grpc": "", "https": "https://", "grpcs": "https://"}
"""How gRPC addresses are written, and the prefix that the generator takes for each."""


_RESOLVERS = ("unix", "unix-abstract", "vsock", "xds", "dns", "passthrough")


def checked_endpoint(text: str, protocol: Protocol) -> str:
    """The address in the form that generators take; raises `ValueError` that says what is wrong."""
    if len(text) > ADDRESS_LIMIT:
        raise ValueError(f"must have at most {ADDRESS_LIMIT} characters")
    if not _PRINTABLE.match(text) or "\\" in text:
        raise ValueError(
            "holds white space, a backslash or a character outside ASCII; encode it with %, "
            "and a host as xn--"
        )
    if protocol in (Protocol.HTTP1, Protocol.HTTP2):
        return checked_url(text)
    scheme, mark, rest = text.rpartition("://")
    if not mark:
        return _host_and_port(text)
    if protocol is Protocol.TCP and scheme.lower() == "tcp":
        return _host_and_port(rest)
    if protocol is Protocol.GRPC and scheme.lower() in _SCHEMES:
        return _SCHEMES[scheme.lower()] + _host_and_port(rest)
    raise ValueError(f"must be host:port for {protocol.value}")


def checked_url(text: str) -> str:
    """An absolute http or https URL; raises `ValueError`."""
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "#" in text:
        raise ValueError("has a fragment, which is never sent; take it out")
    _checked_host(_split(text))
    return text


def checked_headers(headers: Mapping[str, str]) -> list[str]:
    """What is wrong with the headers; their places are numbers, from 1."""
    found = []
    if len(headers) > HEADERS_LIMIT:
        found.append(f"must be at most {HEADERS_LIMIT}")
    if sum(len(name) + len(value) for name, value in headers.items()) > HEADER_BYTES_LIMIT:
        found.append(f"must have at most {HEADER_BYTES_LIMIT} characters in all")
    seen = set()
    for number, (name, value) in enumerate(headers.items(), start=1):
        if not _TOKEN.match(name):
            found.append(f"the name of header {number} holds what no header's name can hold")
        if not _SPACED.match(value):
            found.append(f"the value of header {number} holds a line break or a control character")
        if name.lower() in seen:
            found.append(f"header {number} stands there twice")
        seen.add(name.lower())
    return found


def checked_cookies(cookies: Mapping[str, str]) -> list[str]:
    """What is wrong with the cookies; their places are numbers, from 1."""
    found = []
    if len(cookies) > HEADERS_LIMIT:
        found.append(f"must be at most {HEADERS_LIMIT}")
    for number, (name, value) in enumerate(cookies.items(), start=1):
        if not _TOKEN.match(name):
            found.append(f"the name of cookie {number} holds what no cookie's name can hold")
        if not _SPACED.match(value) or ";" in value:
            found.append(
                f"the value of cookie {number} holds a semicolon, a line break or a control "
                "character"
            )
    return found


def _host_and_port(text: str) -> str:
    text = text.removesuffix("/")
    if text.partition(":")[0].lower() in _RESOLVERS:
        raise ValueError("the host is the name of a scheme, which gRPC would take it for")
    if any(mark in text for mark in "/?#"):
        raise ValueError("must be host:port without a path")
    parts = _split(f"//{text}")
    if _checked_host(parts) is None:
        raise ValueError("has no port; write host:port")
    return text


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("cannot be read as an address") from None


def _checked_host(parts: SplitResult) -> int | None:
    """The port. Raises `ValueError` for a host or port that cannot be."""
    if "@" in parts.netloc:
        raise ValueError("holds user information; send it as the header Authorization instead")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("the port must be a number from 1 to 65535")
    host = parts.hostname or ""
    if not host:
        raise ValueError("has no host")
    if "[" in parts.netloc or ":" in host:
        _checked_ip(parts.netloc, host)
    elif not _HOST.match(host):
        raise ValueError("the host is no name or IP address")
    return port


def _checked_ip(netloc: str, host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("the host is no name or IP address") from None
    if not re.fullmatch(r"\[[^\[\]]+\](:\d+)?", netloc):
        raise ValueError("the host is no name or IP address")
