"""Mutual TLS of which the two ends do not agree.

A DestinationRule says what callers speak, a PeerAuthentication what is accepted. With automatic
mutual TLS, which is Istio's default, callers find out by themselves, so only what says the opposite
of the other end is wrong then.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.known import is_mesh_wide, service_for, whole_namespace
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.forms import part, text
from services.topology.cluster.objects import Config, Key, Labels
from services.topology.mesh.registry import is_visible
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

_MUTUAL = ("ISTIO_MUTUAL", "MUTUAL")
_ALL_HOSTS = ("*.local", "*", "*.cluster.local", f"*.svc.{hosts.DOMAIN}")
_MODE_PATH = "spec.trafficPolicy.tls.mode"
_PEER_PATH = "spec.mtls.mode"


def tls_mode(rule: Config) -> str:
    """The TLS mode that a DestinationRule sets for callers; "" when it sets none."""
    return text(part(rule.spec, "trafficPolicy", "tls"), "mode")


def wide_rules(lens: Lens, namespace: str | None) -> Iterator[Config]:
    """DestinationRules that make callers of all Services, of a namespace or (None) of the mesh,
    speak mutual TLS; looked up by the few hosts that can mean all. A rule that its namespace keeps
    to itself makes nobody else do so."""
    names = list(_ALL_HOSTS)
    if namespace is not None:
        names.append(f"*.{namespace}.svc.{hosts.DOMAIN}")
    for name in names:
        for rule in lens.tagged(kinds.DESTINATION_RULE, tags.host(name)):
            # What holds for the mesh has to be seen everywhere.
            if tls_mode(rule) in _MUTUAL and is_visible(rule, namespace or hosts.EVERYWHERE):
                yield rule


def speaks_mtls(lens: Lens, namespace: str) -> bool:
    """Whether both ends of a namespace's calls speak it without automatic mutual TLS."""
    accepted = namespace_mtls(lens, namespace, lens.mesh().root_namespace).mode
    return accepted is not Mode.DISABLE and any(True for _ in wide_rules(lens, namespace))


def without_mtls(lens: Lens, namespace: str, selector: Labels) -> Key | None:
    """The object by which calls to some of the selected workloads carry no identity although both
    ends could speak mutual TLS: a PeerAuthentication or a DestinationRule that turns it off."""
    root = lens.mesh().root_namespace
    accepted = workload_mtls(lens, namespace, selector, root=root)
    if accepted.mode is Mode.DISABLE:
        return accepted.source
    return next(_turning_off(lens, namespace, selector), None)


def _turning_off(lens: Lens, namespace: str, selector: Labels) -> Iterator[Key]:
    """What turns mutual TLS off for single workloads, ports or Services."""
    if namespace != lens.mesh().root_namespace:
        for policy in lens.all(kinds.PEER_AUTHENTICATION, namespace):
            own = selector_of(policy)
            if own and _meet(own, selector) and _turns_off(policy):
                yield policy.key
    for service in lens.all(kinds.SERVICE, namespace):
        if service.selector and _meet(service.selector, selector):
            for pattern in hosts.patterns(service.host):
                for rule in lens.tagged(kinds.DESTINATION_RULE, tags.host(pattern)):
                    if tls_mode(rule) == "DISABLE":
                        yield rule.key


def _meet(one: Labels, other: Labels) -> bool:
    """Whether one workload can have the labels of both."""
    return all(other.get(name, value) == value for name, value in one.items())


def _turns_off(policy: Config) -> bool:
    """Whether a PeerAuthentication turns mutual TLS off, for a port at least."""
    ports = part(policy.spec, "portLevelMtls").values()
    return mode_of(policy) is Mode.DISABLE or any(
        isinstance(port, dict) and port.get("mode") == Mode.DISABLE for port in ports
    )


# --- DestinationRules -----------------------------------------------------------------------------


def overridden(lens: Lens, rule: Config) -> Iterator[Finding]:
    """A DestinationRule without TLS settings that takes the place of a wider one with mutual TLS,
    for the callers of its own namespace: of Istio's rules for one host only the narrowest holds."""
    if lens.mesh().auto_mtls or _says_tls(rule):
        return
    for wide in _wider(lens, hosts.expanded(text(rule.spec, "host"), rule.namespace)):
        if is_visible(wide, rule.namespace):
            yield tell(
                "KIA0204",
                rule.key,
                f"It takes the place of {wide.key}, whose TLS mode is {tls_mode(wide)}.",
                "spec.trafficPolicy" if rule.spec.get("trafficPolicy") else "spec.host",
            )
            return


def _says_tls(rule: Config) -> bool:
    """Whether a rule sets a TLS mode, for all ports or for some."""
    settings = part(rule.spec, "trafficPolicy").get("portLevelSettings")
    ports = settings if isinstance(settings, list) else []
    return bool(tls_mode(rule)) or any(text(part(port, "tls"), "mode") for port in ports)


def _wider(lens: Lens, host: str) -> Iterator[Config]:
    """Rules with mutual TLS for more hosts than this one, those of a namespace first."""
    space = whole_namespace(host)
    place = hosts.service_of(host)
    names = [f"*.{place[0]}.svc.{hosts.DOMAIN}"] if place is not None else []
    if place is not None or space is not None:
        names += _ALL_HOSTS
    for name in names:
        for rule in lens.tagged(kinds.DESTINATION_RULE, tags.host(name)):
            if tls_mode(rule) in _MUTUAL:
                yield rule


def unaccepted(lens: Lens, rule: Config) -> Iterator[Finding]:
    mesh = lens.mesh()
    host = text(rule.spec, "host")
    if mesh.auto_mtls or tls_mode(rule) not in _MUTUAL:
        return
    accepting = (Mode.STRICT, Mode.PERMISSIVE)
    is_mesh_accepting = mode_of(widest(lens, mesh.root_namespace)) in accepting
    space = whole_namespace(host)
    if is_mesh_wide(host) and not is_mesh_accepting:
        yield tell(
            "KIA0205", rule.key, "No PeerAuthentication of the mesh accepts mutual TLS.", _MODE_PATH
        )
    elif space and not is_mesh_accepting and mode_of(widest(lens, space)) not in accepting:
        yield tell(
            "KIA0206", rule.key, f"No PeerAuthentication of {space} accepts mutual TLS.", _MODE_PATH
        )


def plain(lens: Lens, rule: Config) -> Iterator[Finding]:
    """A DestinationRule that turns TLS off where workloads want it."""
    if tls_mode(rule) != "DISABLE":
        return
    root = lens.mesh().root_namespace
    accepted = _accepted(lens, rule, root)
    if accepted is None or accepted.mode is not Mode.STRICT or accepted.source is None:
        return
    mistake = "KIA0208" if accepted.source.namespace == root else "KIA0207"
    yield tell(mistake, rule.key, f"{accepted.source} accepts mutual TLS alone.", _MODE_PATH)


def _accepted(lens: Lens, rule: Config, root: str) -> Mtls | None:
    """What holds for the workloads behind a DestinationRule's host; None for none in the mesh."""
    host = hosts.expanded(text(rule.spec, "host"), rule.namespace)
    if is_mesh_wide(host):
        return mesh_mtls(lens, root)
    space = whole_namespace(host)
    if space is not None:
        return namespace_mtls(lens, space, root)
    service = service_for(lens, host, rule.namespace)
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
                mistake = "KIA0401" if is_wide else "KIA0501"
                where = "the mesh" if is_wide else f"namespace {policy.namespace}"
                message = f"No DestinationRule turns mutual TLS on for {where}."
                yield tell(mistake, policy.key, message, _PEER_PATH)
        case Mode.DISABLE:
            rule = next(wide_rules(lens, space), None)
            if rule is not None:
                mistake = "KIA0506" if is_wide else "KIA0505"
                message = f"{rule.key} makes callers speak mutual TLS."
                yield tell(mistake, policy.key, message, _PEER_PATH)


_RULE = (kinds.DESTINATION_RULE,)
RULES = (
    Rule(finds=("KIA0204",), kinds=_RULE, check=overridden),
    Rule(finds=("KIA0205", "KIA0206"), kinds=_RULE, check=unaccepted),
    Rule(finds=("KIA0207", "KIA0208"), kinds=_RULE, check=plain),
    Rule(
        finds=("KIA0401", "KIA0501", "KIA0505", "KIA0506"),
        kinds=(kinds.PEER_AUTHENTICATION,),
        check=peers,
    ),
)
