"""SMI objects of every version into one model; all errors of shape at once, each with its place.

Sources: the traffic-split, traffic-access and traffic-specs documents of the SMI specification
(v1alpha1 to v1alpha4) and the definitions in smi-sdk-go. Where those leave it to the implementation
(names that Kubernetes could not have, ports out of range) it is checked here too, because names
become host names and principals, where a wildcard would open more than the object says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

from services.chassis.errors import shortened
from services.chassis.kube.objects import KubeObject, Ref, annotations_of
from services.translator.reports import Path, Report
from services.translator.smi import weights
from services.translator.smi.fields import SpecFields
from services.translator.smi.models import (
    ACCESS_GROUP,
    SPECS_GROUP,
    SPLIT_GROUP,
    Account,
    Backend,
    Key,
    Kind,
    PortRoute,
    RouteGroup,
    Rule,
    Split,
    Target,
)
from services.translator.smi.naming import is_label, is_subdomain
from services.translator.smi.routes import read_port_route, read_route_group

GATEWAYS = "meshbus.io/gateways"
"""Annotation of a TrafficSplit: gateways beside the mesh that its rules are for."""
VERSIONS: dict[tuple[str, str], tuple[str, ...]] = {
    (SPLIT_GROUP, Kind.SPLIT): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    (ACCESS_GROUP, Kind.TARGET): ("v1alpha1", "v1alpha2", "v1alpha3"),
    (SPECS_GROUP, Kind.HTTP_ROUTES): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    (SPECS_GROUP, Kind.TCP_ROUTE): ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    (SPECS_GROUP, Kind.UDP_ROUTE): ("v1alpha4",),
}
_RULE_KINDS = (Kind.HTTP_ROUTES, Kind.TCP_ROUTE, Kind.UDP_ROUTE)

SmiObject: TypeAlias = Split | Target | RouteGroup | PortRoute


@dataclass(slots=True)
class SmiObjects:
    """The SMI objects that were read."""

    sound: dict[Key, SmiObject] = field(default_factory=dict)
    reports: dict[Key, Report] = field(default_factory=dict)
    """Of every object, also of those with errors, which are not in `sound`."""

    def read(self, objects: Iterable[KubeObject], *, cluster_domain: str) -> set[Key]:
        """Reads the objects in an order that does not depend on theirs; returns their keys."""
        read: dict[Key, KubeObject] = {}
        for obj in sorted(objects, key=lambda obj: (Ref.of(obj), repr(obj))):
            key = key_of(obj)
            if key not in read:
                self._read(key, obj, cluster_domain)
            elif read[key] != obj:
                self.reports[key].error((), f"{key} stands in the request twice", rule="conflict")
            read.setdefault(key, obj)
        return set(read)

    def splits(self) -> dict[tuple[str, str], list[Split]]:
        """TrafficSplits by their root's namespace and name, in an order of their own."""
        found: dict[tuple[str, str], list[Split]] = {}
        splits = (read for read in self.sound.values() if isinstance(read, Split))
        for split in sorted(splits, key=lambda split: split.ref):
            found.setdefault((split.ref.namespace, split.root), []).append(split)
        return found

    def _read(self, key: Key, obj: KubeObject, cluster_domain: str) -> None:
        report = self.reports[key] = Report(Ref.of(obj))
        _check_identity(report)
        if report.has_errors:
            return
        read: SmiObject
        match key.kind:
            case Kind.SPLIT:
                read = _read_split(obj, report, cluster_domain)
            case Kind.TARGET:
                read = _read_target(obj, report)
            case Kind.HTTP_ROUTES:
                read = read_route_group(obj, report)
            case _:
                read = read_port_route(obj, report)
        if not report.has_errors:
            self.sound[key] = read


def key_of(obj: KubeObject) -> Key:
    ref = Ref.of(obj)
    return Key(ref.kind, ref.namespace, ref.name)


def destination_namespace(obj: KubeObject) -> str:
    """The namespace of a TrafficTarget's destination; its own one unless it names another."""
    spec = _target_body(obj)
    destination = spec.get("destination") if isinstance(spec, dict) else None
    named = destination.get("namespace") if isinstance(destination, dict) else None
    return named if isinstance(named, str) and named else Ref.of(obj).namespace


def references_of(read: Split | Target) -> Iterable[Key]:
    """The route objects that a split or a target refers to; they stand in its own namespace."""
    namespace = read.ref.namespace
    if isinstance(read, Split):
        return (Key(Kind.HTTP_ROUTES, namespace, group.name) for group in read.groups)
    return (Key(rule.kind, namespace, rule.name) for rule in read.rules)


def _check_identity(report: Report) -> None:
    ref = report.subject
    served = VERSIONS.get(ref.group_kind)
    version = ref.api_version.rpartition("/")[2]
    if served is None:
        report.error(
            ("kind",),
            f"{shortened(ref.kind)} of {shortened(ref.group)} has no counterpart in Istio",
            rule="unsupported",
            remedy=f"take it out; these are translated: {', '.join(kind for _, kind in VERSIONS)}",
        )
    elif version not in served:
        report.error(
            ("apiVersion",),
            f"{ref.kind} has no version {shortened(version)}",
            rule="version",
            remedy=f"use one of {', '.join(served)}",
        )
    if not is_subdomain(ref.name):
        report.error(("metadata", "name"), "is no name that Kubernetes takes")
    if not is_label(ref.namespace):
        report.error(("metadata", "namespace"), "is no name of a namespace")


# ---- TrafficSplit --------------------------------------------------------------------------------


def _read_split(obj: KubeObject, report: Report, cluster_domain: str) -> Split:
    spec = SpecFields.of(obj.get("spec"), ("spec",), report)
    gateways = _read_gateways(obj, report)
    root = _service(spec, cluster_domain)
    backends = _read_backends(spec, cluster_domain)
    groups = tuple(
        item.reference(kinds=(Kind.HTTP_ROUTES,), group=SPECS_GROUP)
        for item in spec.mappings("matches")
    )
    if groups and spec.version in ("v1alpha1", "v1alpha2"):
        spec.error(
            "matches",
            f"TrafficSplit has matches only since v1alpha3, this is {spec.version}",
            remedy="write it as v1alpha4",
        )
    for backend in backends:
        if backend.service == root:
            report.error(
                backend.path,
                f"{root} is the split's own root service; a split cannot refer to itself",
                rule="self-reference",
                remedy="give the current version a Service of its own and name that one",
            )
    return Split(ref=report.subject, root=root, backends=backends, groups=groups, gateways=gateways)


def _read_backends(spec: SpecFields, cluster_domain: str) -> tuple[Backend, ...]:
    named = [
        (_service(backend, cluster_domain), _weight(backend), (*backend.path, "service"))
        for backend in spec.mappings("backends", is_required=True)
    ]
    shares = weights.whole([weight for _, weight, _ in named])
    backends: dict[str, Backend] = {}
    for (service, _, path), share in zip(named, shares, strict=True):
        # A Service that stands there twice gets the sum of its shares.
        first = backends.get(service, Backend(service, 0, path))
        backends[service] = Backend(service, first.weight + share, first.path)
    return tuple(backends.values())


def _weight(backend: SpecFields) -> Fraction:
    value = backend.value.get("weight")
    if value is None:
        backend.error("weight", "is required")
        return Fraction(0)
    if backend.version == "v1alpha1":
        weight, wanted = weights.parse_quantity(value), "a quantity such as 1 or 900m"
    else:
        weight, wanted = weights.parse_whole(value), "a whole number"
    if weight is None:
        backend.error("weight", f"is not {wanted}", rule="weights")
    elif weight < 0:
        backend.error("weight", "is negative", rule="weights", remedy="0 takes a backend out")
    return weight or Fraction(0)


def _service(holder: SpecFields, cluster_domain: str) -> str:
    """The name of a Service of the object's namespace, which may be written out as a host name."""
    host = holder.text("service")
    if not host:
        return ""
    name, _, rest = host.partition(".")
    namespace = holder.namespace
    if rest not in ("", namespace, f"{namespace}.svc", f"{namespace}.svc.{cluster_domain}"):
        holder.error(
            "service",
            f"{shortened(host)} is no Service of the namespace {namespace}",
            remedy="name a Service of the split's own namespace",
        )
    elif not is_label(name):
        holder.error("service", f"{shortened(name)} is no name of a Service")
    return name


def _read_gateways(obj: KubeObject, report: Report) -> tuple[str, ...]:
    listed = str(annotations_of(obj).get(GATEWAYS) or "")
    gateways = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    for gateway in gateways:
        namespace, slash, name = gateway.rpartition("/")
        if not is_subdomain(name) or (slash and not is_label(namespace)):
            report.error(
                ("metadata", "annotations", GATEWAYS),
                f"{shortened(gateway)} is no name of a gateway",
                remedy="list names such as public or istio-system/public, with commas between",
            )
    return tuple(gateway for gateway in gateways if gateway != "mesh")


# ---- TrafficTarget -------------------------------------------------------------------------------


def _target_body(obj: KubeObject) -> Any:
    """v1alpha1 has no spec: its fields stand beside metadata."""
    return obj if str(obj.get("apiVersion", "")).endswith("/v1alpha1") else obj.get("spec")


def _read_target(obj: KubeObject, report: Report) -> Target:
    is_flat = report.subject.api_version.endswith("/v1alpha1")
    base: Path = () if is_flat else ("spec",)
    spec = SpecFields.of(_target_body(obj), base, report)
    destination = spec.inner("destination")
    account = _account(destination)
    port = None
    if "port" in destination.value:
        if spec.version == "v1alpha3":
            destination.error(
                "port",
                "a destination has no port since v1alpha3",
                remedy="add a TCPRoute with the port to the rules",
            )
        port = spec.port(destination.value["port"], (*destination.path, "port"))
    sources = {_account(source) for source in spec.mappings("sources", is_required=True)}
    rules = tuple(
        _rule(rule) for rule in spec.mappings("specs" if is_flat else "rules", is_required=True)
    )
    return Target(
        ref=report.subject,
        destination=account,
        sources=tuple(sorted(sources)),
        rules=rules,
        port=port,
        body=base,
    )


def _account(holder: SpecFields) -> Account:
    kind = holder.text("kind")
    if kind and kind != "ServiceAccount":
        holder.error(
            "kind",
            f"{shortened(kind)} is no identity that Istio knows",
            rule="unsupported",
            remedy="name a ServiceAccount",
        )
    name = holder.text("name")
    if name and not is_subdomain(name):
        holder.error("name", f"{shortened(name)} is no name of a ServiceAccount")
    namespace = holder.namespace
    if holder.value.get("namespace"):
        namespace = holder.text("namespace")
        if namespace and not is_label(namespace):
            holder.error("namespace", "is no name of a namespace")
    return Account(namespace, name)


def _rule(holder: SpecFields) -> Rule:
    named = holder.reference(kinds=_RULE_KINDS, group=SPECS_GROUP)
    matches = holder.names("matches")
    return Rule(str(holder.value.get("kind", "")), named.name, matches, holder.path)
