"""Single fields of a test: how each is written, its limits, and its error texts.

A value becomes an argument of a generator or a line on the wire, so it is checked against what is
allowed, not against what is forbidden. No value is guessed: YAML reads `1e3` or `yes` as a number
or a truth value, so such a text must be quoted. Errors never quote a value: a URL's query, a
header's value and even a mistaken header's name may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from services.chassis.reading.jsons import read_strict_json
from services.perf.definitions.loads import GeneratorName, Protocol

MOST_RATE = 1_000_000
MOST_TARGETS = 64
MOST_CONNECTIONS = 10_000
LONGEST_S = 24 * 3600.0
BODY_LIMIT_BYTES = 100_000
"""Of a request; it must fit into an argument of the generator's process."""
HEADERS_LIMIT = 64
HEADER_BYTES_LIMIT = 32 * 1024
ADDRESS_LIMIT = 4096
_CERTIFICATES_LIMIT = 64 * 1024
_LABELS_LIMIT = 64
_PRINTABLE = re.compile(r"[!-~]+\Z")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_COOKIE_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f;]*\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
_HOST = re.compile(r"(?!.{254})([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.(?!\Z)|\.?\Z))+\Z")
_GRPC_PREFIXES = {"http": "", "grpc": "", "https": "https://", "grpcs": "https://"}
"""How gRPC addresses are written, and the prefix that the generator takes for each."""
_GRPC_RESOLVERS = ("unix", "unix-abstract", "vsock", "xds", "dns", "passthrough")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_MESHES = (
    *("invalid_mesh", "app_mesh", "consul", "istio", "kuma", "linkerd", "traefik_mesh", "octarine"),
    *("network_service_mesh", "tanzu", "open_service_mesh", "nginx_service_mesh"),
    "cilium_service_mesh",
)
"""By their numbers in SMP's enum."""
_PROTOCOLS = {
    **dict.fromkeys(("1", "http"), Protocol.HTTP1),
    **dict.fromkeys(("2", "tcp"), Protocol.TCP),
    **dict.fromkeys(("4", "grpc"), Protocol.GRPC),
}

# --- addresses -----------------------------------------------------------------------------------


def checked_endpoint(text: str, protocol: Protocol) -> str:
    """The address in the form that generators take; raises `ValueError` with the problem."""
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
    if protocol is Protocol.GRPC and scheme.lower() in _GRPC_PREFIXES:
        return _GRPC_PREFIXES[scheme.lower()] + _host_and_port(rest)
    raise ValueError(f"must be host:port for {protocol.value}")


def checked_url(text: str) -> str:
    """An absolute http or https URL; raises `ValueError`."""
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "#" in text:
        raise ValueError("has a fragment, which is never sent; take it out")
    _checked_host(_split(text))
    return text


def _host_and_port(text: str) -> str:
    text = text.removesuffix("/")
    if text.partition(":")[0].lower() in _GRPC_RESOLVERS:
        raise ValueError("the host is the name of a scheme, which gRPC would take it for")
    if any(mark in text for mark in "/?#"):
        raise ValueError("must be host:port without a path")
    if _checked_host(_split(f"//{text}")) is None:
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
    is_ip = "[" in parts.netloc or ":" in host
    if not (_is_ip(parts.netloc, host) if is_ip else _HOST.match(host)):
        raise ValueError("the host is no name or IP address")
    return port


def _is_ip(netloc: str, host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return re.fullmatch(r"\[[^\[\]]+\](:\d+)?", netloc) is not None


# --- headers and cookies -------------------------------------------------------------------------


def _headers(headers: dict[str, str]) -> dict[str, str]:
    problems = []
    if sum(len(name) + len(value) for name, value in headers.items()) > HEADER_BYTES_LIMIT:
        problems.append(f"must have at most {HEADER_BYTES_LIMIT} characters in all")
    seen = set()
    for number, (name, value) in enumerate(headers.items(), start=1):
        problems += _named("header", number, name)
        if not _HEADER_VALUE.match(value):
            problems.append(
                f"the value of header {number} holds a line break or a control character"
            )
        if name.lower() in seen:
            problems.append(f"header {number} stands there twice")
        seen.add(name.lower())
    return _few(headers, problems)


def _cookies(cookies: dict[str, str]) -> dict[str, str]:
    problems = []
    for number, (name, value) in enumerate(cookies.items(), start=1):
        problems += _named("cookie", number, name)
        if not _COOKIE_VALUE.match(value):
            problems.append(
                f"the value of cookie {number} holds a semicolon, a line break or a control "
                "character"
            )
    return _few(cookies, problems)


def _named(kind: str, number: int, name: str) -> list[str]:
    """The problem with the name of one; its place is its number, from 1."""
    if _TOKEN.match(name):
        return []
    return [f"the name of {kind} {number} holds what no {kind}'s name can hold"]


def _few(values: dict[str, str], problems: list[str]) -> dict[str, str]:
    """Raises `ValueError` with the problems, of which too great a number is the first."""
    if len(values) > HEADERS_LIMIT:
        problems = [f"must be at most {HEADERS_LIMIT}", *problems]
    if problems:
        raise ValueError(", ".join(problems))
    return values


# --- words and numbers ---------------------------------------------------------------------------


def seconds(value: Any) -> float:
    """`60s`, `1h30m`, `90` or a number, in seconds; raises `ValueError`."""
    text = "" if isinstance(value, bool) else str(value).strip().lower()
    if _NUMBER.fullmatch(text):
        length_s = float(text)
    else:
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError("must be a duration such as 90s, 30m or 1h30m")
        length_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not 1 <= length_s <= LONGEST_S:
        raise ValueError("must be from 1s to 24h")
    return length_s


def _no_bool(value: Any) -> Any:
    """`true` is no number, although Python takes it for 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _generator(value: Any) -> GeneratorName:
    name = str(value).strip().lower()
    if name == "nighthawk":
        raise ValueError("nighthawk is not offered; write fortio or wrk2")
    if name not in list(GeneratorName):
        raise ValueError("must be fortio or wrk2")
    return GeneratorName(name)


def _protocol(value: Any) -> Protocol:
    name = str(value).strip().lower()
    if name in ("3", "udp"):
        raise ValueError(
            "UDP is not offered, because no answer tells a lost packet from a slow one; "
            "write 2 for TCP"
        )
    if name not in _PROTOCOLS:
        raise ValueError("must be 1 (HTTP), 2 (TCP) or 4 (gRPC)")
    return _PROTOCOLS[name]


def _mesh_type(value: Any) -> str:
    name = "_".join(str(value).lower().replace("-", " ").replace("_", " ").split())
    if re.fullmatch(r"[0-9]{1,2}", name) and int(name) < len(_MESHES):
        name = _MESHES[int(name)]
    if name not in (*_MESHES, "none"):
        raise ValueError("must be the name or the number of a mesh in SMP, such as ISTIO or 3")
    return "" if name in ("none", _MESHES[0]) else name


def _certificates(text: str) -> str:
    if "PRIVATE KEY" in text:
        raise ValueError("holds a private key; give the certificate of the authority alone")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: not ASCII
        raise ValueError("must hold certificates in PEM, those of the target's CA") from None
    return text


def _small(text: str) -> str:
    if len(text.encode()) > BODY_LIMIT_BYTES:
        raise ValueError(f"must have at most {BODY_LIMIT_BYTES} bytes")
    return text


def mapping(value: Any) -> Any:
    """A mapping, or the text of a JSON object, as Meshery's query carries it."""
    if not isinstance(value, str):
        return value
    try:
        found = read_strict_json(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


# --- types ---------------------------------------------------------------------------------------

PlainText = Annotated[str, Field(strict=True)]
Text = Annotated[PlainText, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Body = Annotated[PlainText, AfterValidator(_small)]
Certificates = Annotated[
    PlainText, Field(max_length=_CERTIFICATES_LIMIT), AfterValidator(_certificates)
]
Labels = Annotated[dict[Text, Text], Field(max_length=_LABELS_LIMIT)]
Headers = Annotated[dict[str, PlainText], AfterValidator(_headers)]
Cookies = Annotated[dict[str, PlainText], AfterValidator(_cookies)]
Generator = Annotated[GeneratorName, BeforeValidator(_generator)]
Speech = Annotated[Protocol, BeforeValidator(_protocol)]
MeshType = Annotated[str, BeforeValidator(_mesh_type)]
Duration = Annotated[float, BeforeValidator(seconds)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Rate = Annotated[Number, Field(gt=0, le=MOST_RATE)]
Seconds = Annotated[Number, Field(ge=1, le=LONGEST_S)]
Milliseconds = Annotated[Number, Field(gt=0, le=3_600_000)]
