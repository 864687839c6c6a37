"""Istio's Gateways: missing workloads, ports that no Service offers, hosts that two serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.selectors import is_fulfilled_anywhere
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.forms import labels, number, part, parts, shown, text, texts
from services.topology.cluster.objects import Config, Labels
from services.topology.cluster.state import matches


def _workload(lens: Lens, gateway: Config) -> Iterator[Finding]:
    selector = labels(gateway.spec, "selector")
    # Pods of one workload have the same labels, and most often there are several.
    selected = {(pod.namespace, frozenset(pod.labels.items())) for pod in lens.pods(None, selector)}
    codes = those(
        IST0101=not selected,
        KIA0302=bool(selector) and not is_fulfilled_anywhere(lens, gateway.namespace, selector),
    )
    if codes:
        message = f"The workload with labels {shown(selector) or '(none)'} was not found."
        yield tell("gateway-selects-nothing", gateway.key, message, "spec.selector", codes=codes)
    if not selected:
        return
    offered: set[int] = set()
    for namespace, pairs in selected:
        offered |= _offered(lens, namespace, dict(pairs))
    for index, server in parts(gateway.spec, "servers"):
        if "port" in server and _port(server) not in offered:
            message = f"No Service of the pods {shown(selector)} offers port {_port(server)}."
            yield tell("IST0162", gateway.key, message, f"spec.servers[{index}].port.number")


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


# --- hosts that two Gateways serve ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Served:
    """One host of one server."""

    path: str
    port: int
    bind: str
    written: str
    scope: str
    """The namespace whose VirtualServices may use it, or `*`."""
    host: str


def _served(gateway: Config) -> list[_Served]:
    found = []
    for index, server in parts(gateway.spec, "servers"):
        for at, written in enumerate(texts(server, "hosts")):
            space, slash, host = written.rpartition("/")
            scope = gateway.namespace if space == "." else space if slash else "*"
            path = f"spec.servers[{index}].hosts[{at}]"
            found.append(_Served(path, _port(server), text(server, "bind"), written, scope, host))
    return found


def _shared(
    lens: Lens, one: Config, other: Config, served: list[_Served]
) -> Iterator[tuple[_Served, frozenset[str]]]:
    """Of what `one` has `served` that which `other` serves, too, and the codes of the tools that
    mind it: istioctl equal hosts of proxies that both select, Kiali overlapping hosts of equal
    selectors."""
    selectors = labels(one.spec, "selector"), labels(other.spec, "selector")
    is_same = selectors[0] == selectors[1]
    theirs = _served(other)
    for mine in served:
        at_port = [two for two in theirs if two.port == mine.port]
        is_equal = any((two.bind, two.written) == (mine.bind, mine.written) for two in at_port)
        is_overlapping = is_same and any(
            (mine.scope == two.scope or "*" in (mine.scope, two.scope))
            and hosts.overlap(mine.host, two.host)
            for two in at_port
        )
        codes = those(
            IST0145=is_equal and _share_workload(lens, *selectors), KIA0301=is_overlapping
        )
        if codes:
            yield mine, codes


def _share_workload(lens: Lens, one: Labels, other: Labels) -> bool:
    """Equal selectors; or one's text is in the other's, and a pod fits both. Two that have nothing
    in common may select the same pod, but istioctl does not look for that."""
    if one == other:
        return True
    written = shown(one), shown(other)
    if written[0] not in written[1] and written[1] not in written[0]:
        return False
    return any(matches(other, pod.labels) for pod in lens.pods(None, one))


def _conflicts(lens: Lens, gateway: Config) -> Iterator[Finding]:
    own = _served(gateway)

    def clashes(other: Config) -> bool:
        return any(True for _ in _shared(lens, gateway, other, own))

    for other in lens.peers(gateway, clashes, None):
        for one, two in ((gateway, other), (other, gateway)):
            for mine, codes in _shared(lens, one, two, _served(one)):
                message = f"{two.key} serves {mine.host} on port {mine.port}, too."
                yield tell("gateways-share-host", one.key, message, mine.path, codes=codes)


def _port(server: Mapping[str, Any]) -> int:
    return number(part(server, "port"), "number")


_OWN = (kinds.GATEWAY,)
RULES = (
    Rule(finds=("gateway-selects-nothing", "IST0162"), kinds=_OWN, check=_workload),
    Rule(finds=("gateways-share-host",), kinds=_OWN, check=_conflicts),
)
