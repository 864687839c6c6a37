"""Services and ServiceEntries: ports that say no protocol or that no container declares, entries
without addresses or for one host; and WorkloadGroups with the same labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.injection import IGNORED_NAMESPACES, is_control_plane
from services.topology.analysis.rules.selectors import is_of_mesh, running
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.forms import labels, number, part, parts, text, texts
from services.topology.cluster.objects import Change, Config, Port, Runs, Service
from services.topology.mesh import protocols
from services.topology.mesh.membership import MANAGED
from services.topology.mesh.registry import scopes_of

_MANAGERS = (
    "istio.io-gateway-controller",
    "istio.io-mesh-controller",
    "istio.io-eastwest-controller",
)
_OF_ISTIOCTL = (
    *("tcp", "udp", "tls", "http", "http2", "https", "http_proxy", "grpc", "grpc-web"),
    *("mongo", "redis", "mysql"),
)
_APPLICATION_PROTOCOLS = ("kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss")
_WELL_KNOWN = (25, 53, 3306, 27017)
"""SMTP, DNS, MySQL, MongoDB: TCP whatever the name, for the server speaks first."""


def _ports(lens: Lens, service: Service) -> Iterator[Finding]:
    """istioctl looks at the ports of all Services, Kiali at those of the mesh."""
    found = _workloads(lens, service)
    is_looked_at = not (
        service.namespace in IGNORED_NAMESPACES
        or is_control_plane(service)
        or service.labels.get(MANAGED) in _MANAGERS
    )
    declared = [port for one in found for container in one.containers for port in container.ports]
    for index, port in enumerate(service.ports):
        path = f"spec.ports[{index}]"
        if service.type == "ExternalName":
            if is_looked_at and (port.name == "tcp" or not _says_protocol(port)):
                message = (
                    f"Port {port.name or port.number} of an ExternalName Service may take TCP."
                )
                yield tell("IST0150", service.key, message, f"{path}.name")
            continue
        is_unsaid = is_looked_at and not _says_protocol(port)
        is_unknown = bool(found) and not protocols.of_port(port)
        if port.app_protocol and (is_unsaid or is_unknown):
            message = f"The appProtocol {port.app_protocol} of port {port.number} is unknown."
            codes = those(IST0118=is_unsaid, KIA0602=is_unknown)
            at = f"{path}.appProtocol"
            yield tell("unknown-app-protocol", service.key, message, at, codes=codes)
        elif is_unsaid or is_unknown:
            named = f"({port.name})" if port.name else "without a name"
            message = f"The port {port.number} {named} does not say its protocol."
            codes = those(IST0118=is_unsaid, KIA0601=is_unknown)
            yield tell(
                "port-name-without-protocol", service.key, message, f"{path}.name", codes=codes
            )
        if found and not any(_is_target(port, one) for one in declared):
            message = f"No container behind port {port.number} declares port {port.target}."
            yield tell("KIA0701", service.key, message, f"{path}.targetPort")


def _workloads(lens: Lens, service: Service) -> list[Runs]:
    """The workloads behind a Service of the mesh, one of each form; none for one outside of it."""
    if not service.selector or service.namespace == lens.mesh().root_namespace:
        return []
    found = running(lens, service.namespace, service.selector)
    if not found or not is_of_mesh(lens, found[0]):
        return []
    return list({id(one.containers): one for one in found}.values())


def _says_protocol(port: Port) -> bool:
    """As istioctl has it."""
    if port.protocol == "UDP" or port.number in _WELL_KNOWN:
        return True
    if port.app_protocol in _APPLICATION_PROTOCOLS:
        return True
    name = (port.app_protocol or port.name).lower()
    return name.startswith("grpc-web") or name.partition("-")[0] in _OF_ISTIOCTL


def _is_target(port: Port, declared: Port) -> bool:
    if port.target.isdigit():
        return declared.number == int(port.target)
    return declared.name == port.target


def _matters(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return any(
        getattr(before, name) != getattr(after, name)
        for name in ("ports", "selector", "labels", "type")
    )


# --- ServiceEntries and WorkloadGroups -----------------------------------------------------------


def _addresses(lens: Lens, entry: Config) -> Iterator[Finding]:
    if entry.spec.get("addresses") or entry.addresses:
        return
    for index, port in parts(entry.spec, "ports"):
        if text(port, "protocol").upper() in ("", "TCP") and not _allocates(lens):
            message = f"Port {text(port, 'number')} is TCP, and there are no addresses."
            yield tell("IST0134", entry.key, message, f"spec.ports[{index}].protocol")


def _allocates(lens: Lens) -> bool:
    """Whether the mesh's proxies are told to find addresses for such entries."""
    settings = part(lens.mesh().config, "defaultConfig", "proxyMetadata")
    return text(settings, "ISTIO_META_DNS_CAPTURE") == "true" and "true" in (
        text(settings, "ISTIO_META_DNS_AUTO_ALLOCATE"),
        text(settings, "PILOT_ENABLE_IP_AUTOALLOCATE"),
    )


# --- several for one host -------------------------------------------------------------------------


def _several(lens: Lens, entry: Config) -> Iterator[Finding]:
    for at, name in enumerate(texts(entry.spec, "hosts")):
        tag = tags.host(hosts.expanded(name, entry.namespace))
        found = sorted(lens.tagged(kinds.SERVICE_ENTRY, tag), key=lambda one: one.key)
        same_name = [one for one in found if name in texts(one.spec, "hosts")]
        others = [one for one in found if one.key != entry.key and _is_seen_with(entry, one)]
        for index, port in parts(entry.spec, "ports"):
            of = number(port, "number")
            here = _protocols((entry,), of)
            there = _protocols(others, of)
            by_scope = _disagreeing(entry, same_name, of)
            codes = those(IST0177=bool(by_scope), KIA1212=bool(there - here))
            if codes:
                spoken = ", ".join(sorted(by_scope or here | there))
                message = f"Host {name}, port {of} has the protocols: {spoken}."
                path = f"spec.ports[{index}].protocol"
                yield tell("entries-disagree", entry.key, message, path, codes=codes)
            for other in others:
                if here & _protocols((other,), of):
                    message = f"{other.key} is for port {of} of {name}, too."
                    yield tell("KIA1211", entry.key, message, f"spec.hosts[{at}]")


def _is_seen_with(one: Config, other: Config) -> bool:
    """Whether some namespace sees both objects."""
    scopes = scopes_of(one), scopes_of(other)
    return hosts.EVERYWHERE in scopes[0] | scopes[1] or bool(scopes[0] & scopes[1])


def _protocols(entries: Iterable[Config], of: int) -> set[str]:
    """The protocols that entries name for a port; TCP is what none means."""
    return {
        (text(port, "protocol") or "TCP").upper()
        for entry in entries
        for _, port in parts(entry.spec, "ports")
        if number(port, "number") == of
    }


def _disagreeing(entry: Config, rivals: list[Config], of: int) -> set[str]:
    """All protocols that a proxy in one of the entry's namespaces could take for the port, if they
    are several, as istioctl looks for them."""
    own = scopes_of(entry)
    for scope in sorted({scope for rival in rivals for scope in scopes_of(rival)}):
        if own & {scope, hosts.EVERYWHERE}:
            seen = (one for one in rivals if scopes_of(one) & {scope, hosts.EVERYWHERE})
            protocols = _protocols(seen, of)
            if len(protocols) > 1:
                return protocols
    return set()


# --- WorkloadGroups -------------------------------------------------------------------------------


def _same_labels(lens: Lens, group: Config) -> Iterator[Finding]:
    own = labels(group.spec, "metadata", "labels")
    if not own:
        return

    def clashes(other: Config) -> bool:
        return labels(other.spec, "metadata", "labels") == own

    for other in lens.peers(group, clashes, group.namespace):
        for one, two in ((group, other), (other, group)):
            yield tell(
                "KIA1702", one.key, f"{two.key} has the same labels.", "spec.metadata.labels"
            )


RULES = (
    Rule(
        finds=("port-name-without-protocol", "unknown-app-protocol", "IST0150", "KIA0701"),
        kinds=(kinds.SERVICE,),
        check=_ports,
        matters=_matters,
    ),
    Rule(finds=("IST0134",), kinds=(kinds.SERVICE_ENTRY,), check=_addresses),
    Rule(finds=("entries-disagree", "KIA1211"), kinds=(kinds.SERVICE_ENTRY,), check=_several),
    Rule(finds=("KIA1702",), kinds=(kinds.WORKLOAD_GROUP,), check=_same_labels),
)
