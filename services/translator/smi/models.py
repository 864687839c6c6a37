"""One model for SMI objects of all versions, and the surroundings of their translation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.chassis.kube.objects import Ref
from services.chassis.messages.facts import ClusterFacts, ServiceFact
from services.translator.options import Options
from services.translator.reports import Path, Report
from services.translator.smi.residents import Residents

SPLIT_GROUP = "split.smi-spec.io"
ACCESS_GROUP = "access.smi-spec.io"
SPECS_GROUP = "specs.smi-spec.io"
HOST = "host"
"""The header that HTTP/2 and Envoy know as the authority."""
ROOT: Path = ("spec", "service")
"""The place where a TrafficSplit names its root Service."""


class Kind(StrEnum):
    """The kinds that are translated."""

    SPLIT = "TrafficSplit"
    TARGET = "TrafficTarget"
    HTTP_ROUTES = "HTTPRouteGroup"
    TCP_ROUTE = "TCPRoute"
    UDP_ROUTE = "UDPRoute"


@dataclass(frozen=True, slots=True)
class Key:
    """Kind, namespace and name of an object; all versions of a kind are one."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Named:
    """A name, and where it stands."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Backend:
    """A Service that gets a share. `weight` is relative to the other backends' weights."""

    service: str
    weight: int
    path: Path = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A TrafficSplit."""

    ref: Ref
    root: str
    backends: tuple[Backend, ...]
    groups: tuple[Named, ...] = ()
    """HTTPRouteGroups whose requests are split; empty when all requests are."""
    gateways: tuple[str, ...] = ()
    """Gateways beside the mesh itself."""


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """A ServiceAccount."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"ServiceAccount {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a TrafficTarget: a route object, and some of its matches; no names mean all."""

    kind: str
    name: str
    matches: tuple[Named, ...]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A TrafficTarget."""

    ref: Ref
    destination: Account
    sources: tuple[Account, ...]
    rules: tuple[Rule, ...]
    port: int | None = None
    """Port of the destination, before v1alpha3."""
    body: Path = ("spec",)
    """Path of its fields: v1alpha1 has no spec."""

    @property
    def place(self) -> Path:
        """Of the destination."""
        return (*self.body, "destination")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMatch:
    """Requests: path, method and headers all fit."""

    name: str
    path_regex: str | None = None
    methods: tuple[str, ...] = ()
    """Empty for every method."""
    headers: tuple[tuple[str, str], ...] = ()
    """Lower-case names and regular expressions."""
    path: Path = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteGroup:
    """An HTTPRouteGroup: any of its matches."""

    ref: Ref
    matches: tuple[HttpMatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRoute:
    """A TCPRoute or UDPRoute; no ports means all."""

    ref: Ref
    ports: tuple[int, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything beside the object that its translation depends on."""

    sound: Mapping[Key, Split | Target | RouteGroup | PortRoute]
    """The SMI objects without errors."""
    present: Collection[Key]
    """All SMI objects, also those with errors."""
    splits: Mapping[tuple[str, str], Sequence[Split]]
    """By their root's namespace and name, in an order of their own."""
    facts: ClusterFacts
    residents: Residents
    """Of the facts."""
    options: Options
    trust_domain: str

    def service(self, namespace: str, name: str) -> ServiceFact | None:
        return self.residents.service(namespace, name)

    def report_missing(self, key: Key, path: Path, report: Report) -> None:
        """Reports why a reference to `key` leads nowhere."""
        if key in self.present:
            report.error(path, f"{key} has errors of its own", rule="reference")
        else:
            report.error(
                path,
                f"there is no {key}",
                rule="reference",
                remedy="put it into the same request",
            )
