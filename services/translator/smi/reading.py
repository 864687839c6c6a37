"""SMI objects of every version into one model; all errors of shape at once, each with its place.

Sources: the traffic-split, traffic-access and traffic-specs documents of the SMI specification
(v1alpha1 to v1alpha4) and the definitions in smi-sdk-go. What those leave to the implementation
(names that Kubernetes could not have, ports out of range) is checked here too, because names become
host names and principals, where a wildcard would open more than the object says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from services.chassis.errors import shortened
from services.chassis.kube.objects import KubeObject, Ref, annotations_of
from services.translator.reports import Finding, Path
from services.translator.smi import weights
from services.translator.smi.fields import Fields
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


@dataclass(slots=True)
class Reading:
    """What was read. An object with errors is only in `present`."""

    splits: dict[Key, Split] = field(default_factory=dict)
    targets: dict[Key, Target] = field(default_factory=dict)
    groups: dict[Key, RouteGroup] = field(default_factory=dict)
    port_routes: dict[Key, PortRoute] = field(default_factory=dict)
    present: dict[Key, Ref] = field(default_factory=dict)
    findings: dict[Key, list[Finding]] = field(default_factory=dict)

    def read(self, obj: KubeObject, *, cluster_domain: str) -> None:
        fields = Fields(Ref.of(obj))
        key = key_of(obj)
        self.present[key] = fields.subject
        if _is_known(fields):
            self._keep(key, obj, fields, cluster_domain)
        self.findings[key] = fields.findings

    def _keep(self, key: Key, obj: KubeObject, fields: Fields, cluster_domain: str) -> None:
        read: Split | Target | RouteGroup | PortRoute | None
        match key.kind:
            case Kind.SPLIT:
                read = _read_split(obj, fields, cluster_domain)
            case Kind.TARGET:
                read = _read_target(obj, fields)
            case Kind.HTTP_ROUTES:
                read = read_route_group(obj, fields)
            case _:
                read = read_port_route(obj, fields)
        if fields.has_errors:
            return
        match read:
            case Split():
                self.splits[key] = read
            case Target():
                self.targets[key] = read
            case RouteGroup():
                self.groups[key] = read
            case PortRoute():
                self.port_routes[key] = read


def key_of(obj: KubeObject) -> Key:
    ref = Ref.of(obj)
    return Key(ref.kind, ref.namespace, ref.name)


def destination_namespace(obj: KubeObject) -> str:
    """Where a TrafficTarget's destination runs; its own namespace unless it says otherwise."""
    spec = _target_body(obj)
    destination = spec.get("destination") if isinstance(spec, dict) else None
    named = destination.get("namespace") if isinstance(destination, dict) else None
    return named if isinstance(named, str) and named else Ref.of(obj).namespace


def _is_known(fields: Fields) -> bool:
    ref = fields.subject
    served = VERSIONS.get((ref.group, ref.kind))
    version = ref.api_version.rpartition("/")[2]
    if served is None:
        fields.error(
            ("kind",),
            f"{shortened(ref.kind)} of {shortened(ref.group)} has no counterpart in Istio",
            rule="unsupported",
            remedy=f"take it out; these are translated: {', '.join(kind for _, kind in VERSIONS)}",
        )
    elif version not in served:
        fields.error(
            ("apiVersion",),
            f"{ref.kind} has no version {shortened(version)}",
            rule="version",
            remedy=f"use one of {', '.join(served)}",
        )
    if not is_subdomain(ref.name):
        fields.error(("metadata", "name"), "is no name that Kubernetes takes")
    if not is_label(ref.namespace):
        fields.error(("metadata", "namespace"), "is no name of a namespace")
    return not fields.has_errors


# ---- TrafficSplit --------------------------------------------------------------------------------


def _read_split(obj: KubeObject, fields: Fields, cluster_domain: str) -> Split:
    version = fields.version
    spec = fields.mapping(obj.get("spec"), ("spec",))
    gateways = _read_gateways(obj, fields)
    root = _service(spec, ("spec",), fields, cluster_domain)
    backends = _read_backends(spec, fields, cluster_domain)
    groups = tuple(
        fields.reference(item, path, kinds=(Kind.HTTP_ROUTES,), group=SPECS_GROUP)
        for path, item in fields.items(spec, "matches", ("spec",))
    )
    if groups and version in ("v1alpha1", "v1alpha2"):
        fields.error(
            ("spec", "matches"),
            f"TrafficSplit has matches only since v1alpha3, this is {version}",
            remedy="write it as v1alpha4",
        )
    for backend in backends:
        if backend.service == root:
            fields.error(
                backend.path,
                f"{root} is the split's own root service; a split cannot refer to itself",
                rule="self-reference",
                remedy="give the current version a Service of its own and name that one",
            )
    return Split(ref=fields.subject, root=root, backends=backends, groups=groups, gateways=gateways)


def _read_backends(
    spec: dict[str, Any], fields: Fields, cluster_domain: str
) -> tuple[Backend, ...]:
    named: list[tuple[str, Fraction, Path]] = []
    for path, item in fields.items(spec, "backends", ("spec",), is_required=True):
        backend = fields.mapping(item, path)
        service = _service(backend, path, fields, cluster_domain)
        named.append((service, _weight(backend, path, fields), (*path, "service")))
    shares = weights.whole([weight for _, weight, _ in named])
    backends: dict[str, Backend] = {}
    for (service, _, path), share in zip(named, shares, strict=True):
        # A Service that stands there twice gets the sum of its shares.
        first = backends.get(service, Backend(service, 0, path))
        backends[service] = Backend(service, first.weight + share, first.path)
    return tuple(backends.values())


def _weight(backend: dict[str, Any], path: Path, fields: Fields) -> Fraction:
    place = (*path, "weight")
    if backend.get("weight") is None:
        fields.error(place, "is required")
        return Fraction(0)
    parse: Callable[[Any], Fraction | None] = weights.parse_whole
    wanted = "a whole number"
    if fields.version == "v1alpha1":
        parse, wanted = weights.parse_quantity, "a quantity such as 1 or 900m"
    weight = parse(backend["weight"])
    if weight is None:
        fields.error(place, f"is not {wanted}", rule="weights")
    elif weight < 0:
        fields.error(place, "is negative", rule="weights", remedy="0 takes a backend out")
    return weight or Fraction(0)


def _service(holder: dict[str, Any], path: Path, fields: Fields, cluster_domain: str) -> str:
    """The name of a Service of the object's namespace, which may be written out as a host name."""
    place = (*path, "service")
    host = fields.text(holder, "service", path)
    if not host:
        return ""
    name, _, rest = host.partition(".")
    namespace = fields.subject.namespace
    if rest not in ("", namespace, f"{namespace}.svc", f"{namespace}.svc.{cluster_domain}"):
        fields.error(
            place,
            f"{shortened(host)} is no Service of the namespace {namespace}",
            remedy="name a Service of the split's own namespace",
        )
    elif not is_label(name):
        fields.error(place, f"{shortened(name)} is no name of a Service")
    return name


def _read_gateways(obj: KubeObject, fields: Fields) -> tuple[str, ...]:
    listed = str(annotations_of(obj).get(GATEWAYS) or "")
    gateways = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    for gateway in gateways:
        namespace, slash, name = gateway.rpartition("/")
        if not is_subdomain(name) or (slash and not is_label(namespace)):
            fields.error(
                ("metadata", "annotations", GATEWAYS),
                f"{shortened(gateway)} is no name of a gateway",
                remedy="list names such as public or istio-system/public, with commas between",
            )
    return tuple(gateway for gateway in gateways if gateway != "mesh")


# ---- TrafficTarget -------------------------------------------------------------------------------


def _target_body(obj: KubeObject) -> Any:
    """v1alpha1 has no spec: its fields stand beside metadata."""
    return obj if str(obj.get("apiVersion", "")).endswith("/v1alpha1") else obj.get("spec")


def _read_target(obj: KubeObject, fields: Fields) -> Target:
    base: Path = () if fields.version == "v1alpha1" else ("spec",)
    spec = fields.mapping(_target_body(obj), base)
    rules_name = "specs" if fields.version == "v1alpha1" else "rules"
    destination = fields.mapping(spec.get("destination"), (*base, "destination"))
    account = _account(destination, (*base, "destination"), fields)
    port = None
    if "port" in destination:
        if fields.version == "v1alpha3":
            fields.error(
                (*base, "destination", "port"),
                "a destination has no port since v1alpha3",
                remedy="add a TCPRoute with the port to the rules",
            )
        port = fields.port(destination["port"], (*base, "destination", "port"))
    sources = [
        _account(fields.mapping(item, path), path, fields)
        for path, item in fields.items(spec, "sources", base, is_required=True)
    ]
    rules = tuple(
        _rule(fields.mapping(item, path), path, fields)
        for path, item in fields.items(spec, rules_name, base, is_required=True)
    )
    return Target(
        ref=fields.subject,
        destination=account,
        sources=tuple(sorted(set(sources))),
        rules=rules,
        port=port,
        body=base,
    )


def _account(holder: dict[str, Any], path: Path, fields: Fields) -> Account:
    kind = fields.text(holder, "kind", path)
    if kind and kind != "ServiceAccount":
        fields.error(
            (*path, "kind"),
            f"{shortened(kind)} is no identity that Istio knows",
            rule="unsupported",
            remedy="name a ServiceAccount",
        )
    name = fields.text(holder, "name", path)
    if name and not is_subdomain(name):
        fields.error((*path, "name"), f"{shortened(name)} is no name of a ServiceAccount")
    namespace = fields.subject.namespace
    if holder.get("namespace"):
        namespace = fields.text(holder, "namespace", path)
        if namespace and not is_label(namespace):
            fields.error((*path, "namespace"), "is no name of a namespace")
    return Account(namespace, name)


def _rule(holder: dict[str, Any], path: Path, fields: Fields) -> Rule:
    named = fields.reference(holder, path, kinds=_RULE_KINDS, group=SPECS_GROUP)
    matches = fields.names(holder, "matches", path)
    return Rule(str(holder.get("kind", "")), named.name, matches, path)


def references_of(read: Split | Target) -> Iterable[Key]:
    """The route objects that a split or a target refers to; they stand in its own namespace."""
    namespace = read.ref.namespace
    if isinstance(read, Split):
        return (Key(Kind.HTTP_ROUTES, namespace, group.name) for group in read.groups)
    return (Key(rule.kind, namespace, rule.name) for rule in read.rules)
