"""KIA0204 to KIA0208, KIA0401, KIA0501 to KIA0506: the two ends of mutual TLS do not agree.

A DestinationRule says what callers speak, a PeerAuthentication what is accepted. With automatic
mutual TLS, which is Istio's default, callers find out by themselves, so only what says the opposite
of the other end is wrong then.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.registry import is_mesh_wide, whole_namespace
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config
from services.topology.mesh.security import (
    Mode,
    Mtls,
    mesh_mtls,
    mode_of,
    namespace_mtls,
    selector_of,
    widest,
    workload_mtls,
)

OVERRIDDEN = Entry(
    code="KIA0204",
    name="destinationrules.trafficpolicy.notlssettings",
    level=Level.WARNING,
    cause="A wider DestinationRule turns mutual TLS on; this narrower one takes its place and says "
    "nothing about TLS, so callers of this host use plain text.",
    remedy="Repeat the TLS settings in this DestinationRule.",
)
NO_MESH_PEERS = Entry(
    code="KIA0205",
    name="destinationrules.mtls.meshpolicymissing",
    level=Level.ERROR,
    cause="Callers of all Services speak mutual TLS, but no PeerAuthentication of the mesh says "
    "that workloads accept it.",
    remedy="Add a PeerAuthentication without selector, STRICT or PERMISSIVE, to the root "
    "namespace.",
)
NO_NAMESPACE_PEERS = Entry(
    code="KIA0206",
    name="destinationrules.mtls.nspolicymissing",
    level=Level.ERROR,
    cause="Callers of the namespace's Services speak mutual TLS, but no PeerAuthentication says "
    "that its workloads accept it.",
    remedy="Add a PeerAuthentication without selector, STRICT or PERMISSIVE, to the namespace.",
)
STRICT_NAMESPACE = Entry(
    code="KIA0207",
    name="destinationrules.mtls.policymtlsenabled",
    level=Level.ERROR,
    cause="Callers are told to use plain text, but the workloads accept mutual TLS alone.",
    remedy="Change the TLS mode to ISTIO_MUTUAL, or the PeerAuthentication to PERMISSIVE.",
)
STRICT_MESH = Entry(
    code="KIA0208",
    name="destinationrules.mtls.meshpolicymtlsenabled",
    level=Level.ERROR,
    cause="Callers are told to use plain text, but the whole mesh accepts mutual TLS alone.",
    remedy="Change the TLS mode to ISTIO_MUTUAL, or the mesh's PeerAuthentication to PERMISSIVE.",
)
NO_MESH_CALLERS = Entry(
    code="KIA0401",
    name="peerauthentication.mtls.destinationrulemissing",
    level=Level.ERROR,
    cause="The mesh accepts mutual TLS alone, but no DestinationRule makes all callers speak it.",
    remedy="Add a DestinationRule for *.local with TLS mode ISTIO_MUTUAL.",
)
NO_NAMESPACE_CALLERS = Entry(
    code="KIA0501",
    name="peerauthentications.mtls.destinationrulemissing",
    level=Level.ERROR,
    cause="The namespace accepts mutual TLS alone, but no DestinationRule makes its callers speak "
    "it.",
    remedy="Add a DestinationRule for *.<namespace>.svc.cluster.local with TLS mode ISTIO_MUTUAL.",
)
DISABLED_NAMESPACE = Entry(
    code="KIA0505",
    name="peerauthentications.mtls.disabledestinationrulemissing",
    level=Level.ERROR,
    cause="The namespace accepts plain text alone, but a DestinationRule makes callers speak "
    "mutual TLS.",
    remedy="Set DISABLE in that DestinationRule, or STRICT or PERMISSIVE here.",
)
DISABLED_MESH = Entry(
    code="KIA0506",
    name="peerauthentications.mtls.disablemeshdestinationrulemissing",
    level=Level.ERROR,
    cause="The mesh accepts plain text alone, but a DestinationRule makes callers speak mutual "
    "TLS.",
    remedy="Set DISABLE in that DestinationRule, or STRICT or PERMISSIVE here.",
)

_MUTUAL = ("ISTIO_MUTUAL", "MUTUAL")
_MODE_PATH = "spec.trafficPolicy.tls.mode"
_PEER_PATH = "spec.mtls.mode"


def tls_mode(rule: Config) -> str:
    """What a DestinationRule makes callers speak; "" when it does not say."""
    policy = rule.spec.get("trafficPolicy") or {}
    return str((policy.get("tls") or {}).get("mode") or "")


def wide_rules(lens: Lens, namespace: str | None) -> Iterator[Config]:
    """DestinationRules that make callers of all Services, of a namespace or (None) of the mesh,
    speak mutual TLS; looked up by the few hosts that can mean all."""
    names = ["*.local", "*", "*.cluster.local", f"*.svc.{hosts.DOMAIN}"]
    if namespace is not None:
        names.append(f"*.{namespace}.svc.{hosts.DOMAIN}")
    for name in names:
        for rule in lens.tagged(kinds.DESTINATION_RULE, tags.host(name)):
            if tls_mode(rule) in _MUTUAL:
                yield rule


def speaks_mtls(lens: Lens, namespace: str) -> bool:
    """Whether both ends of a namespace's calls speak it without automatic mutual TLS."""
    accepted = namespace_mtls(lens, namespace, lens.mesh().root_namespace).mode
    return accepted is not Mode.DISABLE and any(True for _ in wide_rules(lens, namespace))


# --- DestinationRules -----------------------------------------------------------------------------


def overridden(lens: Lens, rule: Config) -> Iterator[Finding]:
    if lens.mesh().auto_mtls or tls_mode(rule):
        return
    host = hosts.expanded(str(rule.spec.get("host") or ""), rule.namespace)
    place = hosts.service_of(host)
    if place is None:
        return
    for wide in wide_rules(lens, place[0]):
        yield OVERRIDDEN.on(
            rule.key,
            f"takes the place of {wide.key}, whose TLS mode is {tls_mode(wide)}",
            "spec.trafficPolicy" if rule.spec.get("trafficPolicy") else "spec.host",
        )
        return


def unaccepted(lens: Lens, rule: Config) -> Iterator[Finding]:
    mesh = lens.mesh()
    host = str(rule.spec.get("host") or "")
    if mesh.auto_mtls or tls_mode(rule) not in _MUTUAL:
        return
    accepting = (Mode.STRICT, Mode.PERMISSIVE)
    is_mesh_accepting = mode_of(widest(lens, mesh.root_namespace)) in accepting
    space = whole_namespace(host)
    if is_mesh_wide(host) and not is_mesh_accepting:
        yield NO_MESH_PEERS.on(
            rule.key, "no PeerAuthentication of the mesh accepts mutual TLS", _MODE_PATH
        )
    elif space and not is_mesh_accepting and mode_of(widest(lens, space)) not in accepting:
        yield NO_NAMESPACE_PEERS.on(
            rule.key, f"no PeerAuthentication of {space} accepts mutual TLS", _MODE_PATH
        )


def plain(lens: Lens, rule: Config) -> Iterator[Finding]:
    """A DestinationRule that turns TLS off where workloads want it."""
    if tls_mode(rule) != "DISABLE":
        return
    root = lens.mesh().root_namespace
    accepted = _accepted(lens, rule, root)
    if accepted is None or accepted.mode is not Mode.STRICT or accepted.source is None:
        return
    entry = STRICT_MESH if accepted.source.namespace == root else STRICT_NAMESPACE
    yield entry.on(rule.key, f"{accepted.source} accepts mutual TLS alone", _MODE_PATH)


def _accepted(lens: Lens, rule: Config, root: str) -> Mtls | None:
    """What holds for the workloads behind a DestinationRule's host; None for none in the mesh."""
    host = hosts.expanded(str(rule.spec.get("host") or ""), rule.namespace)
    if is_mesh_wide(host):
        return mesh_mtls(lens, root)
    space = whole_namespace(host)
    if space is not None:
        return namespace_mtls(lens, space, root)
    place = hosts.service_of(host)
    service = lens.service(*place) if place is not None else None
    if service is None:
        return None
    if not service.selector:
        return namespace_mtls(lens, service.namespace, root)
    pod = next(lens.pods(service.namespace, service.selector), None)
    labels = pod.labels if pod is not None else service.selector
    return workload_mtls(lens, service.namespace, labels, root=root)


# --- PeerAuthentications --------------------------------------------------------------------------


def peers(lens: Lens, policy: Config) -> Iterator[Finding]:
    if selector_of(policy):
        return
    mesh = lens.mesh()
    is_wide = policy.namespace == mesh.root_namespace
    space = None if is_wide else policy.namespace
    match mode_of(policy):
        case Mode.STRICT if not mesh.auto_mtls:
            if not any(True for _ in wide_rules(lens, space)):
                entry = NO_MESH_CALLERS if is_wide else NO_NAMESPACE_CALLERS
                where = "the mesh" if is_wide else f"namespace {policy.namespace}"
                yield entry.on(
                    policy.key, f"no DestinationRule turns mutual TLS on for {where}", _PEER_PATH
                )
        case Mode.DISABLE:
            rule = next(wide_rules(lens, space), None)
            if rule is not None:
                entry = DISABLED_MESH if is_wide else DISABLED_NAMESPACE
                yield entry.on(policy.key, f"{rule.key} makes callers speak mutual TLS", _PEER_PATH)


ENTRIES = (
    OVERRIDDEN,
    NO_MESH_PEERS,
    NO_NAMESPACE_PEERS,
    STRICT_NAMESPACE,
    STRICT_MESH,
    NO_MESH_CALLERS,
    NO_NAMESPACE_CALLERS,
    DISABLED_NAMESPACE,
    DISABLED_MESH,
)
_RULE = (kinds.DESTINATION_RULE,)
RULES = (
    Rule(codes=("KIA0204",), kinds=_RULE, check=overridden),
    Rule(codes=("KIA0205", "KIA0206"), kinds=_RULE, check=unaccepted),
    Rule(codes=("KIA0207", "KIA0208"), kinds=_RULE, check=plain),
    Rule(
        codes=("KIA0401", "KIA0501", "KIA0505", "KIA0506"),
        kinds=(kinds.PEER_AUTHENTICATION,),
        check=peers,
    ),
)
