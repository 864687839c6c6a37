"""The forms in which people write a test: SMP's messages, and the query of Meshery's own page.

What depends on one field is checked here; what depends on several, or on the options beside the
test, is checked in `reading`. SMP's fields go by their proto names or by their JSON names, enums by
name or number, and 64-bit numbers may be text, as proto's JSON has them. A field that is empty is
one that is not there, because proto cannot tell the two apart. Generated proto classes were
rejected: their parser stops at the first problem and quotes values in its errors.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from services.perf.definitions.fields import (
    MOST_CONNECTIONS,
    MOST_RATE,
    MOST_TARGETS,
    Body,
    Certificates,
    Cookies,
    Duration,
    Generator,
    Headers,
    Labels,
    MeshType,
    Number,
    PlainText,
    Speech,
    Text,
    Whole,
    checked_endpoint,
    mapping,
    seconds,
)
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.definitions.options import Written

HAS_TARGETS = "has_targets"
HAS_COURSE = "has_course"
"""Keys of the validation's context: which of its fields the options beside the test replace."""


def _needed(value: Any, info: ValidationInfo, *, unless: str) -> Any:
    if not value and not (info.context or {}).get(unless):
        raise ValueError("is missing")
    return value


def _endpoint(text: str, info: ValidationInfo) -> str:
    # A protocol that cannot be used has its own error already.
    protocol = info.data.get("protocol")
    return text if protocol is None else checked_endpoint(text, protocol)


def _url(text: str) -> str:
    return checked_endpoint(text, Protocol.HTTP1) if text else text


class InputForm(Written):
    """Its empty fields are as if they were not there."""

    is_proto: ClassVar[bool] = True
    """Whether the names of proto's JSON are taken as well."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        names = {to_camel(name): name for name in cls.model_fields if cls.is_proto}
        found: dict[str, Any] = {}
        for name, value in values.items():
            plain = names[name] if name in names else str(name)
            if plain in found:
                raise ValueError(f"{plain} stands there twice, under both of its names")
            if value not in (None, ""):
                found[plain] = value
        return found

    @classmethod
    def known(cls) -> set[str]:
        """All names that fields of this form can have."""
        names = set(cls.model_fields)
        return names | {to_camel(name) for name in names} if cls.is_proto else names


class Client(InputForm):
    """SMP's PerformanceTestConfig.Client."""

    internal: bool = False
    load_generator: Generator = GeneratorName.FORTIO
    protocol: Speech = Protocol.HTTP1
    connections: Whole = Field(default=4, ge=1, le=MOST_CONNECTIONS)
    rps: Number = Field(default=0.0, ge=0, le=MOST_RATE)
    """Over all its URLs; 0 means as fast as the connections allow."""
    headers: Headers = Field(default_factory=dict, repr=False)
    cookies: Cookies = Field(default_factory=dict, repr=False)
    body: Body = Field(default="", repr=False)
    content_type: Text = ""
    endpoint_urls: list[Annotated[PlainText, AfterValidator(_endpoint)]] = Field(
        default_factory=list, max_length=MOST_TARGETS, validate_default=True
    )
    ssl_certificate: Certificates = Field(default="", repr=False)
    additional_options: Any = Field(default=None, repr=False)

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
        return list(_needed(urls, info, unless=HAS_TARGETS))

    @field_validator("additional_options")
    @classmethod
    def _has_no_more(cls, options: Any) -> None:
        if options not in (None, {}, [], "{}"):
            raise ValueError(
                "options of the generator itself are not taken; PerformanceOptions has what can "
                "be set"
            )


class SmpTest(InputForm):
    """SMP's PerformanceTestConfig."""

    smp_version: Any = None
    id: Any = None
    name: Text = ""
    labels: Labels = Field(default_factory=dict)
    clients: list[Client] = Field(min_length=1, max_length=MOST_TARGETS)
    duration: Duration | None = Field(default=None, validate_default=True)

    @field_validator("duration")
    @classmethod
    def _has_an_end(cls, duration: float | None, info: ValidationInfo) -> Any:
        return _needed(duration, info, unless=HAS_COURSE)


class SmpMesh(InputForm):
    """SMP's ServiceMesh. Its annotations are for the tools that wrote them."""

    type: MeshType = "istio"
    version: Text = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)


class SmpFile(InputForm):
    """The file that mesheryctl and the action of SMP read."""

    test: SmpTest
    mesh: SmpMesh = Field(default_factory=SmpMesh)

    @property
    def labels(self) -> dict[str, str]:
        """Those of the mesh and of the test; the test's own win."""
        version = {"mesh_version": self.mesh.version} if self.mesh.version else {}
        return {**self.mesh.labels, **version, **self.test.labels}


def _unit(value: Any) -> str:
    if str(value).lower() not in ("h", "m", "s"):
        raise ValueError("must be h, m or s")
    return str(value).lower()


def _query_length(value: Any, info: ValidationInfo) -> Any:
    unit = info.data.get("dur", "")
    if value is None or isinstance(value, bool) or not unit:
        return value if value is None else seconds(value)
    if str(value).strip()[-1:].isalpha():
        raise ValueError("has a unit already; leave dur out")
    return seconds(f"{value}{unit}")


class MesheryQuery(InputForm):
    """The query that Meshery's performance page sends to its server."""

    is_proto: ClassVar[bool] = False

    uuid: Any = None
    name: Text = ""
    mesh: MeshType = "istio"
    dur: Annotated[str, BeforeValidator(_unit)] = ""
    t: Annotated[float | None, BeforeValidator(_query_length)] = Field(
        default=None, validate_default=True
    )
    c: Whole = Field(default=1, ge=0, le=MOST_CONNECTIONS)
    """0 counts as 1, as in Meshery."""
    qps: Number = Field(default=0.0, ge=-MOST_RATE, le=MOST_RATE)
    """0 and below mean as fast as the connections allow."""
    url: Annotated[PlainText, AfterValidator(_url)] = Field(default="", validate_default=True)
    loadGenerator: Generator = GeneratorName.FORTIO  # noqa: N815
    headers: Annotated[Headers, BeforeValidator(mapping)] = Field(default_factory=dict, repr=False)
    cookies: Annotated[Cookies, BeforeValidator(mapping)] = Field(default_factory=dict, repr=False)
    contentType: Text = ""  # noqa: N815
    reqBody: Body = Field(default="", repr=False)  # noqa: N815
    cert: Any = Field(default=False, repr=False)

    @field_validator("t")
    @classmethod
    def _has_an_end(cls, duration: float | None, info: ValidationInfo) -> Any:
        return _needed(duration, info, unless=HAS_COURSE)

    @field_validator("url")
    @classmethod
    def _has_a_url(cls, url: str, info: ValidationInfo) -> Any:
        return _needed(url, info, unless=HAS_TARGETS)

    @field_validator("cert")
    @classmethod
    def _needs_no_upload(cls, cert: Any) -> Any:
        if str(cert).strip().lower() not in ("false", "0"):
            raise ValueError(
                "the certificates of Meshery's profile do not come with the query; send an SMP "
                "test with ssl_certificate"
            )
        return False

    def as_smp(self) -> SmpFile:
        """The same as an SMP file has it; its fields are checked already."""
        client = Client.model_construct(
            load_generator=self.loadGenerator,
            connections=max(1, self.c),
            rps=max(0.0, self.qps),
            headers=self.headers,
            cookies=self.cookies,
            body=self.reqBody,
            content_type=self.contentType,
            endpoint_urls=[self.url] if self.url else [],
        )
        test = SmpTest.model_construct(name=self.name, clients=[client], duration=self.t)
        return SmpFile.model_construct(test=test, mesh=SmpMesh.model_construct(type=self.mesh))
