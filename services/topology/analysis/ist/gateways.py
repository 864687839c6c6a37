"""Gateways: workloads that are not there, ports that no Service offers, hosts claimed twice."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level, listed
from services.topology.analysis.ist.missing import not_found
from services.topology.analysis.ist.specs import Spec, labels, part, parts, shown, text
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds, tags
from services.topology.cluster.objects import Config, Labels
from services.topology.cluster.state import matches

CONFLICT = Entry(
    code="IST0145",
    name="ConflictingGateways",
    level=Level.ERROR,
    cause="Two Gateways of the same workload serve the same host on the same port; one of them is "
    "ignored.",
    remedy="Let one Gateway serve the host, or give them different hosts, ports or workloads.",
)
PORT_NOT_OFFERED = Entry(
    code="IST0162",
    name="GatewayPortNotDefinedOnService",
    level=Level.WARNING,
    cause="The gateway's pods listen on a port that no Service in front of them offers, so nobody "
    "reaches it through a Service.",
    remedy="Add the port to the gateway's Service, or use one of its target ports.",
)


def _workload(lens: Lens, config: Config) -> Iterator[Finding]:
    selector = labels(config.spec, "selector")
    # Pods of one workload have the same labels, and most often there are several.
    selected = {(pod.namespace, frozenset(pod.labels.items())) for pod in lens.pods(None, selector)}
    if not selected:
        yield not_found(config.key, "workload with labels", shown(selector), "spec.selector")
        return
    offered: set[int] = set()
    for namespace, pairs in selected:
        offered |= _offered(lens, namespace, dict(pairs))
    for index, server in parts(config.spec, "servers"):
        if "port" in server and _number(server) not in offered:
            message = f"No Service of the pods {shown(selector)} offers port {_number(server)}."
            yield PORT_NOT_OFFERED.on(config.key, message, f"spec.servers[{index}].port.number")


def _offered(lens: Lens, namespace: str, pod_labels: Labels) -> set[int]:
    """Ports by which Services reach the pods: their own numbers and their targets' numbers. A
    Service without a selector counts, as istioctl has it."""
    found: set[int] = set()
    unselective = lens.tagged(kinds.SERVICE, tags.NO_SELECTOR, namespace)
    for service in (*lens.services(namespace, pod_labels), *unselective):
        for port in service.ports:
            if port.protocol == "TCP":
                found.add(port.number)
                if port.target.isdecimal():
                    found.add(int(port.target))
    return found


def _conflicts(lens: Lens, config: Config) -> Iterator[Finding]:
    selector = labels(config.spec, "selector")
    for index, server in parts(config.spec, "servers"):
        rivals: set[str] = set()
        for host in tags.texts(server, "hosts"):
            for other in lens.tagged(kinds.GATEWAY, tags.host(host)):
                if (
                    other.key != config.key
                    and _serves(other, server, host)
                    and _share_workload(lens, selector, labels(other.spec, "selector"))
                ):
                    rivals.add(f"{other.namespace}/{other.name}")
        if rivals:
            message = (
                f"Port {_number(server)} with hosts {', '.join(tags.texts(server, 'hosts'))} is "
                f"also served by: {listed(rivals)}."
            )
            yield CONFLICT.on(config.key, message, f"spec.servers[{index}]")


def _serves(gateway: Config, wanted: Spec, host: str) -> bool:
    """Whether a server of the gateway has the host on the port and address of `wanted`."""
    return any(
        _number(server) == _number(wanted)
        and text(server, "bind") == text(wanted, "bind")
        and host in tags.texts(server, "hosts")
        for _, server in parts(gateway.spec, "servers")
    )


def _share_workload(lens: Lens, one: Labels, other: Labels) -> bool:
    """Equal selectors; or one's text is in the other's, and a pod fits both. Two that have nothing
    in common may mean the same pod, but istioctl does not look for that."""
    if one == other:
        return True
    texts = shown(one), shown(other)
    if texts[0] not in texts[1] and texts[1] not in texts[0]:
        return False
    return any(matches(other, pod.labels) for pod in lens.pods(None, one))


def _number(server: Spec) -> int:
    number = part(server, "port").get("number")
    return number if isinstance(number, int) else 0


ENTRIES = (CONFLICT, PORT_NOT_OFFERED)
RULES = (
    Rule(codes=("IST0101", "IST0162"), kinds=(kinds.GATEWAY,), check=_workload),
    Rule(codes=("IST0145",), kinds=(kinds.GATEWAY,), check=_conflicts),
)
