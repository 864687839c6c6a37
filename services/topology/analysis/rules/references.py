"""References to what does not exist, as one table: the field that names it, and the look-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from services.topology.analysis.catalog import MISTAKES, Rule, tell, those
from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import known
from services.topology.cluster import hosts, kinds
from services.topology.cluster.forms import part, parts, text, texts
from services.topology.cluster.objects import Config
from services.topology.mesh.registry import destination


@dataclass(frozen=True, slots=True)
class Named:
    """One reference: where it stands, how people read it, and what it consists of."""

    path: str
    name: str
    of: tuple[Any, ...] = ()


Missing = bool | frozenset[str]
"""Whether a reference leads nowhere; or the codes by which it does, where the tools differ."""


@dataclass(frozen=True, slots=True)
class _Refers:
    mistake: str
    kinds: tuple[str, ...]
    what: str
    """The kind of thing that is named."""
    names: Callable[[Config], Iterable[Named]]
    missing: Callable[[Lens, Config, Named], Missing]

    @property
    def _codes(self) -> frozenset[str]:
        return frozenset(MISTAKES[self.mistake].codes)

    def check(self, lens: Lens, config: Config) -> Iterator[Finding]:
        for named in self.names(config):
            missing = self.missing(lens, config, named)
            if missing:
                message = f"The {self.what} {named.name or '(none)'} was not found."
                codes = missing if isinstance(missing, frozenset) else self._codes
                level = None
                if codes <= _UNKNOWN_HOST and lens.mesh().lets_out_any:
                    level = Level.WARNING
                yield tell(self.mistake, config.key, message, named.path, codes=codes, level=level)


_UNKNOWN_HOST = frozenset(("KIA0104", "KIA0202", "KIA1101"))
"""Kiali's codes for a host that the mesh does not know. Where proxies let out traffic to any host,
such a host may well be one outside, so they are warnings then, as Kiali has it."""


# --- VirtualServices and DestinationRules ---------------------------------------------------------


def _route_hosts(config: Config) -> Iterator[Named]:
    for path, target, _ in hosts.destinations_of(config.spec):
        host = text(target, "host")
        yield Named(f"{path}.host", host, (host,))


def _no_route_host(lens: Lens, config: Config, named: Named) -> Missing:
    """istioctl looks from where the VirtualService is exported to, Kiali from where it is."""
    (host,) = named.of
    export_to = texts(config.spec, "exportTo")
    exported = destination(lens, host, config.namespace, export_to=export_to)
    return those(
        IST0101=exported is None,
        KIA1101=bool(host) and not known.is_known(lens, host, config.namespace),
    )


def _route_ports(config: Config) -> Iterator[Named]:
    for path, target, _ in hosts.destinations_of(config.spec):
        if isinstance(target.get("port"), dict):
            host, port = text(target, "host"), target["port"].get("number", 0)
            yield Named(f"{path}.port.number", f"{host}:{port}", (host, port))


def _no_route_port(lens: Lens, config: Config, named: Named) -> Missing:
    host, port = named.of
    export_to = texts(config.spec, "exportTo")
    found = destination(lens, host, config.namespace, export_to=export_to)
    return found is not None and port not in found.ports


def _subsets(config: Config) -> Iterator[Named]:
    for path, target, _ in hosts.destinations_of(config.spec):
        host, subset = text(target, "host"), text(target, "subset")
        if subset:
            yield Named(f"{path}.subset", f"{subset} of host {host}", (host, subset))


def _no_subset(lens: Lens, config: Config, named: Named) -> Missing:
    """A host that is not there has no subsets either, which is not a mistake of its own."""
    host, subset = named.of
    if _no_route_host(lens, config, Named("", "", (host,))):
        return False
    exact, seen = known.subset(lens, host, subset, config.namespace)
    return those(IST0101=not exact, KIA1107=not seen)


def _gateways(config: Config) -> Iterator[Named]:
    for path, reference in known.gateway_references(config):
        yield Named(path, reference, (reference,))


def _no_gateway(lens: Lens, config: Config, named: Named) -> Missing:
    """istioctl says also of a Gateway that is missing that it serves none of the hosts, and looks
    at no matches."""
    (reference,) = named.of
    place = hosts.gateway_place(reference, config.namespace)
    if lens.get(kinds.GATEWAY, *place) is not None:
        return False
    is_top = named.path.startswith("spec.gateways")
    return those(
        IST0101=is_top,
        IST0132=is_top,
        KIA1102=True,
        KIA1108=hosts.is_gateway_host(reference),
    )


def _rule_host(config: Config) -> Iterator[Named]:
    host = text(config.spec, "host")
    yield Named("spec.host", host, (host,))


def _no_rule_host(lens: Lens, config: Config, named: Named) -> Missing:
    """istioctl knows no host that means a whole namespace or the mesh."""
    (host,) = named.of
    export_to = texts(config.spec, "exportTo")
    exported = destination(lens, host, config.namespace, export_to=export_to)
    return those(
        IST0174=exported is None,
        KIA0202=bool(host) and not known.is_known(lens, host, config.namespace),
    )


def _exports(config: Config) -> Iterator[Named]:
    for index, name in enumerate(texts(config.spec, "exportTo")):
        if name not in (".", "*", "~"):
            yield Named(f"spec.exportTo[{index}]", name, (name,))


# --- policies and Sidecars ------------------------------------------------------------------------


def _sources(config: Config) -> Iterator[Named]:
    for path, source in known.rule_parts(config, "from", "source"):
        for at, name in known.values(path, source, "namespaces", "notNamespaces"):
            yield Named(at, name, (name,))


def _no_source(lens: Lens, _: Config, named: Named) -> Missing:
    """istioctl takes upper case for lower case, which Istio does not."""
    (name,) = named.of
    return those(
        IST0101=not known.has_namespace(lens, name.lower()),
        KIA0101=not known.has_namespace(lens, name),
    )


def _operation_hosts(config: Config) -> Iterator[Named]:
    for path, operation in known.rule_parts(config, "to", "operation"):
        for at, host in known.values(path, operation, "hosts", "notHosts"):
            name = host.partition(":")[0].lower()
            # It is compared with the Host header: any name outside of the cluster may stand there.
            if "*" not in name and hosts.is_of_cluster(name):
                yield Named(at, host, (name,))


def _egress_hosts(config: Config) -> Iterator[Named]:
    for index, listener in parts(config.spec, "egress"):
        for at, reference in enumerate(texts(listener, "hosts")):
            space, slash, host = reference.partition("/")
            # `~` means none, and `~namespace` leaves a namespace out.
            if slash and not space.startswith("~"):
                yield Named(f"spec.egress[{index}].hosts[{at}]", reference, (space, host))


# --- the Gateway API, and webhooks ----------------------------------------------------------------

_GROUP = "gateway.networking.k8s.io"


def _parents(config: Config) -> Iterator[Named]:
    for index, parent in parts(config.spec, "parentRefs"):
        if parent.get("kind", "Gateway") == "Gateway" and parent.get("group", _GROUP) == _GROUP:
            place = text(parent, "namespace") or config.namespace, text(parent, "name")
            yield Named(f"spec.parentRefs[{index}]", "/".join(place), place)


def _service_parents(config: Config) -> Iterator[Named]:
    """Services that a route of the mesh is for."""
    for index, parent in parts(config.spec, "parentRefs"):
        if parent.get("kind") == "Service":
            place = text(parent, "namespace") or config.namespace, text(parent, "name")
            yield Named(f"spec.parentRefs[{index}]", "/".join(place), place)


def _backends(config: Config) -> Iterator[Named]:
    for path, *place in known.backends(config):
        yield Named(f"{path}.name", "/".join(place), tuple(place))


def _gateway_class(config: Config) -> Iterator[Named]:
    name = text(config.spec, "gatewayClassName")
    if name:
        yield Named("spec.gatewayClassName", name, ("", name))


def _granted(config: Config) -> Iterator[Named]:
    for index, one in parts(config.spec, "from"):
        name = text(one, "namespace")
        if name:
            yield Named(f"spec.from[{index}].namespace", name, (name,))


def _webhook_services(config: Config) -> Iterator[Named]:
    if not known.is_istio_webhook(config):
        return
    for index, webhook in parts(config.spec, "webhooks"):
        service = part(webhook, "clientConfig", "service")
        if service:
            place = text(service, "namespace"), text(service, "name")
            yield Named(f"webhooks[{index}].clientConfig.service", "/".join(place), place)


def _absent(kind: str) -> Callable[[Lens, Config, Named], bool]:
    return lambda lens, _, named: lens.get(kind, *named.of) is None


def _no_namespace(lens: Lens, _: Config, named: Named) -> bool:
    return lens.namespace(*named.of) is None


_VIRTUAL_SERVICE, _DESTINATION_RULE = (kinds.VIRTUAL_SERVICE,), (kinds.DESTINATION_RULE,)
_POLICY, _SIDECAR = (kinds.AUTHORIZATION_POLICY,), (kinds.SIDECAR,)
_EXPORTED = (kinds.VIRTUAL_SERVICE, kinds.DESTINATION_RULE, kinds.SERVICE_ENTRY)
_TABLE = (
    _Refers("route-host-missing", _VIRTUAL_SERVICE, "host", _route_hosts, _no_route_host),
    _Refers("route-port-missing", _VIRTUAL_SERVICE, "port", _route_ports, _no_route_port),
    _Refers("subset-missing", _VIRTUAL_SERVICE, "subset", _subsets, _no_subset),
    _Refers("gateway-missing", _VIRTUAL_SERVICE, "Gateway", _gateways, _no_gateway),
    _Refers("rule-host-missing", _DESTINATION_RULE, "host", _rule_host, _no_rule_host),
    _Refers("KIA0005", _EXPORTED, "namespace", _exports, _no_namespace),
    _Refers("source-namespace-missing", _POLICY, "namespace", _sources, _no_source),
    _Refers(
        "KIA0104",
        _POLICY,
        "host",
        _operation_hosts,
        lambda lens, config, named: not known.is_served(lens, named.of[0], config.namespace),
    ),
    _Refers(
        "KIA1004",
        _SIDECAR,
        "host",
        _egress_hosts,
        lambda lens, config, named: not known.is_egress(lens, config, *named.of),
    ),
    _Refers("KIA1401", kinds.ROUTES, "Gateway", _parents, _absent(kinds.K8S_GATEWAY)),
    _Refers("KIA1402", kinds.ROUTES, "Service", _backends, _absent(kinds.SERVICE)),
    _Refers("KIA1402", kinds.ROUTES, "Service", _service_parents, _absent(kinds.SERVICE)),
    _Refers(
        "KIA1504",
        (kinds.K8S_GATEWAY,),
        "GatewayClass",
        _gateway_class,
        _absent(kinds.GATEWAY_CLASS),
    ),
    _Refers("KIA1601", (kinds.REFERENCE_GRANT,), "namespace", _granted, _no_namespace),
    _Refers("IST0139", (kinds.WEBHOOK,), "Service", _webhook_services, _absent(kinds.SERVICE)),
)
RULES = tuple(Rule(finds=(row.mistake,), kinds=row.kinds, check=row.check) for row in _TABLE)
