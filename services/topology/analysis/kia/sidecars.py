"""KIA1004, KIA1006, KIA1007: Sidecars."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.registry import is_known, is_listed
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config
from services.topology.mesh.security import selector_of

NO_HOST = Entry(
    code="KIA1004",
    name="sidecar.egress.servicenotfound",
    level=Level.WARNING,
    cause="No Service, ServiceEntry or VirtualService has the host that the proxies should see.",
    remedy="Correct <namespace>/<host>, or take it out of the list.",
)
SELECTIVE_DEFAULT = Entry(
    code="KIA1006",
    name="sidecar.global.selector",
    level=Level.WARNING,
    cause="The Sidecar in the root namespace is the default of the whole mesh; with a selector it "
    "means that namespace's workloads alone.",
    remedy="Remove workloadSelector, or move the Sidecar to the workloads' namespace.",
)
AMBIGUOUS_MODE = Entry(
    code="KIA1007",
    name="sidecar.outboundtrafficpolicy.mode.ambiguous",
    level=Level.INFO,
    cause="outboundTrafficPolicy without a mode can mean REGISTRY_ONLY or nothing at all.",
    remedy="Write the mode: ALLOW_ANY or REGISTRY_ONLY.",
)


def egress_hosts(lens: Lens, sidecar: Config) -> Iterator[Finding]:
    for index, listener in enumerate(sidecar.spec.get("egress") or ()):
        for at, reference in enumerate(tags.texts(listener, "hosts")):
            space, slash, host = reference.partition("/")
            # `~` means none, and `~namespace` leaves a namespace out.
            if not slash or space.startswith("~") or _is_there(lens, sidecar, space, host):
                continue
            yield NO_HOST.on(
                sidecar.key,
                f"nothing in the mesh is {reference}",
                f"spec.egress[{index}].hosts[{at}]",
            )


def _is_there(lens: Lens, sidecar: Config, space: str, host: str) -> bool:
    home = sidecar.namespace if space == "." else space
    if home != "*" and lens.namespace(home) is None:
        return False
    place = hosts.service_of(host)
    if host == "*" or (place and home in ("*", place[0]) and lens.service(*place) is not None):
        return True
    if place and home not in ("*", place[0]):
        return _is_routed(lens, home, host)
    return is_known(lens, host, sidecar.namespace) or _is_routed(lens, home, host)


def _is_routed(lens: Lens, space: str, host: str) -> bool:
    for service in lens.all(kinds.VIRTUAL_SERVICE, None if space == "*" else space):
        listed = [hosts.expanded(h, service.namespace) for h in tags.texts(service.spec, "hosts")]
        if is_listed(host, listed) or any(hosts.covers(host, one) for one in listed):
            return True
    return False


def default(lens: Lens, sidecar: Config) -> Iterator[Finding]:
    if selector_of(sidecar) and sidecar.namespace == lens.mesh().root_namespace:
        yield SELECTIVE_DEFAULT.on(
            sidecar.key, "the mesh's default Sidecar has a selector", "spec.workloadSelector"
        )
    policy = sidecar.spec.get("outboundTrafficPolicy")
    if isinstance(policy, dict) and not policy.get("mode"):
        yield AMBIGUOUS_MODE.on(
            sidecar.key, "outboundTrafficPolicy does not say its mode", "spec.outboundTrafficPolicy"
        )


ENTRIES = (NO_HOST, SELECTIVE_DEFAULT, AMBIGUOUS_MODE)
RULES = (
    Rule(codes=("KIA1004",), kinds=(kinds.SIDECAR,), check=egress_hosts),
    Rule(codes=("KIA1006", "KIA1007"), kinds=(kinds.SIDECAR,), check=default),
)
