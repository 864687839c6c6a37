"""Single fields of a test: how each is written, its limits, and the words for what is wrong.

Nothing is guessed at: YAML reads `1e3` or `yes` as something else than stands there, so a text must
be a text. Errors never quote what they found.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from services.perf.definitions.addresses import checked_cookies, checked_headers
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.definitions.options import LONGEST_S, no_flag

MOST_CONNECTIONS = 10_000
BODY_LIMIT_BYTES = 100_000
"""Of a request; it must fit into an argument of the generator's process."""
_CERTIFICATES_LIMIT = 64 * 1024
_LABELS_LIMIT = 64
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LENGTH = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
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


def seconds(value: Any) -> float:
    """`60s`, `1h30m`, `90` or a number, in seconds; raises `ValueError`."""
    text = "" if isinstance(value, bool) else str(value).strip().lower()
    if _NUMBER.fullmatch(text):
        length_s = float(text)
    else:
        parts = _LENGTH.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError("must be a duration such as 90s, 30m or 1h30m")
        length_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not 1 <= length_s <= LONGEST_S:
        raise ValueError("must be from 1s to 24h")
    return length_s


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
    except (ssl.SSLError, ValueError):
        raise ValueError("must hold certificates in PEM, those of the target's CA") from None
    return text


def _small(text: str) -> str:
    if len(text.encode()) > BODY_LIMIT_BYTES:
        raise ValueError(f"must have at most {BODY_LIMIT_BYTES} bytes")
    return text


def checked_json(text: str) -> Any:
    """What the JSON holds. Raises `ValueError`, or `RecursionError`, also for what Python's parser
    lets pass: NaN, a key that stands there twice, half of a character."""
    found = json.loads(text, object_pairs_hook=_once, parse_constant=_refused)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def mapping(value: Any) -> Any:
    """A mapping, or the text of a JSON object, as Meshery's query carries it."""
    if not isinstance(value, str):
        return value
    try:
        found = checked_json(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def _by(check: Callable[[Mapping[str, str]], list[str]]) -> AfterValidator:
    def checked(values: dict[str, str]) -> dict[str, str]:
        problems = check(values)
        if problems:
            raise ValueError(", ".join(problems))
        return values

    return AfterValidator(checked)


PlainText = Annotated[str, Field(strict=True)]
Text = Annotated[PlainText, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Body = Annotated[PlainText, AfterValidator(_small)]
Certificates = Annotated[
    PlainText, Field(max_length=_CERTIFICATES_LIMIT), AfterValidator(_certificates)
]
Labels = Annotated[dict[Text, Text], Field(max_length=_LABELS_LIMIT)]
Headers = Annotated[dict[str, PlainText], _by(checked_headers)]
Cookies = Annotated[dict[str, PlainText], _by(checked_cookies)]
Generator = Annotated[GeneratorName, BeforeValidator(_generator)]
Speech = Annotated[Protocol, BeforeValidator(_protocol)]
MeshType = Annotated[str, BeforeValidator(_mesh_type)]
Whole = Annotated[int, BeforeValidator(no_flag)]
Length = Annotated[float, BeforeValidator(seconds)]
