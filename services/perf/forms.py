"""The forms in which people write a test: SMP's messages, and the query of Meshery's own page.

Names, numbers and limits are checked here; what depends on several fields, or on the options beside
the test, is `configs`' part. SMP's fields go by their proto names or by their JSON names, enums by
name or number, and 64-bit numbers may be text, as proto's JSON has them. A field that is empty is
one that is not there, because proto cannot tell the two apart. Generated proto classes were
rejected: their parser stops at the first problem and quotes values in its errors.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from services.perf.addresses import checked_cookies, checked_endpoint, checked_headers
from services.perf.loads import GeneratorName, Protocol
from services.perf.options import LONGEST_S, MOST_RATE, MOST_TARGETS, Number

MOST_CONNECTIONS = 10_000
BODY_LIMIT_BYTES = 100_000
"""Of a request; it must fit into an argument of the generator's process."""
_CERTIFICATES_LIMIT = 64 * 1024
_LABELS_LIMIT = 64
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
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


# --- single fields -------------------------------------------------------------------------------


def seconds(value: Any) -> float:
    """`60s`, `1h30m`, `90` or a number, in seconds; raises `ValueError`."""
    text = str(value).strip().lower() if not isinstance(value, bool) else ""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        length_s = float(text)
    else:
        parts = _LENGTH.findall(text)
        if not parts or len(text) > 64 or "".join(n + unit for n, unit in parts) != text:
            raise ValueError("must be a duration such as 90s, 30m or 1h30m")
        length_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not 1 <= length_s <= LONGEST_S:
        raise ValueError("must be from 1s to 24h")
    return length_s


def _generator(value: Any) -> GeneratorName:
    name = str(value).strip().lower()
    if name in GeneratorName:
        return GeneratorName(name)
    if name == "nighthawk":
        raise ValueError("nighthawk is not offered; write fortio or wrk2")
    raise ValueError("must be fortio or wrk2")


def _protocol(value: Any) -> Protocol:
    name = str(value).strip().lower()
    if name in ("3", "udp"):
        raise ValueError(
            "UDP is not offered: nothing tells a lost packet from a slow one there; "
            "write 2 for TCP"
        )
    if name not in _PROTOCOLS:
        raise ValueError("must be 1 (HTTP), 2 (TCP) or 4 (gRPC)")
    return _PROTOCOLS[name]


def _mesh_type(value: Any) -> str:
    name = "_".join(str(value).strip().lower().replace("-", " ").split())
    if name.isdecimal() and len(name) < 3 and int(name) < len(_MESHES):
        name = _MESHES[int(name)]
    if name not in _MESHES and name != "none":
        raise ValueError("must be the name or number of a mesh in SMP, such as ISTIO or 3")
    return "" if name in ("none", _MESHES[0]) else name


def _endpoint(text: str, info: ValidationInfo) -> str:
    # Without a protocol there is an error about it already.
    protocol = info.data.get("protocol")
    return text if protocol is None else checked_endpoint(text, protocol)


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


def _mapping(value: Any) -> Any:
    """A mapping, or the text of a JSON object, as a query carries it."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object")
    return found


def _told_by(check: Callable[[Mapping[str, str]], list[str]]) -> AfterValidator:
    def checked(values: dict[str, str]) -> dict[str, str]:
        problems = check(values)
        if problems:
            raise ValueError(", ".join(problems))
        return values

    return AfterValidator(checked)


def _is_text(value: Any) -> Any:
    """YAML reads `1e3` or `yes` as something else than stands there, so that is not guessed at."""
    if not isinstance(value, str):
        raise ValueError("must be text; put it into quotes")
    return value


Text = Annotated[str, BeforeValidator(_is_text), Field(max_length=256)]
Body = Annotated[str, BeforeValidator(_is_text), AfterValidator(_small)]
Certificates = Annotated[
    str, BeforeValidator(_is_text), Field(max_length=_CERTIFICATES_LIMIT), AfterValidator(_certificates)
]
Labels = Annotated[dict[Text, Text], Field(max_length=_LABELS_LIMIT)]
_Values = dict[str, Annotated[str, BeforeValidator(_is_text)]]
Headers = Annotated[_Values, _told_by(checked_headers)]
Cookies = Annotated[_Values, _told_by(checked_cookies)]
Generator = Annotated[GeneratorName, BeforeValidator(_generator)]
Connections = Annotated[int, Field(ge=1, le=MOST_CONNECTIONS)]
Length = Annotated[float, BeforeValidator(seconds)]


# --- whole forms ---------------------------------------------------------------------------------


class Form(BaseModel):
    """Unknown fields are errors, empty ones are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_proto: ClassVar[bool] = True
    """Whether the names of proto's JSON are taken as well."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        names = {to_camel(name): name for name in cls.model_fields} if cls.is_proto else {}
        found: dict[str, Any] = {}
        for name, value in values.items():
            if value is None or value == "":
                continue
            plain = names.get(name, name)
            if plain in found:
                raise ValueError(f"{plain} stands there twice, under both of its names")
            found[plain] = value
        return found

    @classmethod
    def known(cls) -> set[str]:
        """All names of fields that this form can have."""
        names = set(cls.model_fields)
        return names | {to_camel(name) for name in names} if cls.is_proto else names


class Client(Form):
    """SMP's PerformanceTestConfig.Client."""

    internal: bool = False
    load_generator: Generator = GeneratorName.FORTIO
    protocol: Annotated[Protocol, BeforeValidator(_protocol)] = Protocol.HTTP1
    connections: Connections = 4
    rps: Number = Field(default=0.0, ge=0, le=MOST_RATE)
    """Over all its URLs; 0 means as fast as the connections allow."""
    headers: Headers = Field(default_factory=dict, repr=False)
    cookies: Cookies = Field(default_factory=dict, repr=False)
    body: Body = Field(default="", repr=False)
    content_type: Text = ""
    endpoint_urls: list[Annotated[str, BeforeValidator(_is_text), AfterValidator(_endpoint)]] = (
        Field(default_factory=list, max_length=MOST_TARGETS, validate_default=True)
    )
    ssl_certificate: Certificates = Field(default="", repr=False)
    additional_options: Any = None

    @field_validator("internal")
    @classmethod
    def _is_outside(cls, internal: bool) -> bool:
        if internal:
            raise ValueError(
                "load from inside the mesh comes from perf workers that run there; start some in "
                "the cluster and leave this out"
            )
        return internal

    @field_validator("endpoint_urls")
    @classmethod
    def _has_urls(cls, urls: list[str], info: ValidationInfo) -> list[str]:
        if not urls and not (info.context or {}).get("has_targets"):
            raise ValueError("is missing")
        return urls

    @field_validator("additional_options")
    @classmethod
    def _has_no_more(cls, options: Any) -> None:
        if options not in (None, {}, [], "{}"):
            raise ValueError(
                "options of the generator itself are not taken; see PerformanceOptions for what "
                "can be set"
            )


class TestConfig(Form):
    """SMP's PerformanceTestConfig."""

    smp_version: Any = None
    id: Any = None
    name: Text = ""
    labels: Labels = Field(default_factory=dict)
    clients: list[Client] = Field(min_length=1, max_length=MOST_TARGETS)
    duration: Length | None = Field(default=None, validate_default=True)

    @field_validator("duration")
    @classmethod
    def _has_an_end(cls, duration: float | None, info: ValidationInfo) -> float | None:
        return _needed(duration, info)


class Mesh(Form):
    """SMP's ServiceMesh. Its annotations are for the tools that wrote them."""

    type: Annotated[str, BeforeValidator(_mesh_type)] = "istio"
    version: Text = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)


class TestFile(Form):
    """The file that mesheryctl and the SMP action read."""

    test: TestConfig
    mesh: Mesh = Field(default_factory=Mesh)


class Query(Form):
    """What Meshery's performance page asks its server for."""

    is_proto: ClassVar[bool] = False

    uuid: Any = None
    name: Text = ""
    mesh: Annotated[str, BeforeValidator(_mesh_type)] = "istio"
    dur: Annotated[str, Field(pattern=r"^[hms]$")] = ""
    t: Length | None = Field(default=None, validate_default=True)
    c: Annotated[int, Field(ge=0, le=MOST_CONNECTIONS)] = 1
    """0 counts as 1, as in Meshery."""
    qps: Number = Field(default=0.0, ge=-MOST_RATE, le=MOST_RATE)
    """0 and below mean as fast as the connections allow."""
    protocol: ClassVar[Protocol] = Protocol.HTTP1
    url: Text = ""
    loadGenerator: Generator = GeneratorName.FORTIO  # noqa: N815
