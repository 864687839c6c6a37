"""DestinationRules: several for one host, subsets without workloads, TLS that is not verified.

DestinationRules of different namespaces for one host are no finding: each client takes the one of
its own namespace first, and that is how they are meant to be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import known
from services.topology.analysis.rules.selectors import running
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.forms import labels, part, parts, shown, text, texts
from services.topology.cluster.objects import Config, Labels
from services.topology.cluster.state import matches
from services.topology.mesh.registry import destination
from services.topology.mesh.security import selector_of

# --- several for one host -------------------------------------------------------------------------


def _host(rule: Config) -> str:
    return hosts.expanded(text(rule.spec, "host"), rule.namespace)


def _several(lens: Lens, rule: Config) -> Iterator[Finding]:
    host = text(rule.spec, "host")
    own = _subsets(rule)
    for other in lens.tagged(kinds.DESTINATION_RULE, tags.host(_host(rule)), rule.namespace):
        if other.key == rule.key or selector_of(other) != selector_of(rule):
            continue
        theirs = _subsets(other)
        if shared := sorted(own & theirs):
            message = f"{other.key} defines subset {', '.join(shared)} of host {host}, too."
            yield tell("KIA0201", rule.key, message, "spec.subsets")
        elif not own or not theirs:
            yield tell("KIA0201", rule.key, f"{other.key} is for host {host}, too.", "spec.host")


def _subsets(rule: Config) -> set[str]:
    return {text(subset, "name") for _, subset in parts(rule.spec, "subsets")}


# --- subsets --------------------------------------------------------------------------------------

_OF_NODES = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/hostname",
)
"""Labels that a proxy has from its node. Nodes are not watched."""


def _empty_subsets(lens: Lens, rule: Config) -> Iterator[Finding]:
    """istioctl looks for pods of any namespace with a subset's labels, Kiali for workloads of the
    host, and minds a subset without any only where a route names it."""
    host = text(rule.spec, "host")
    subsets = list(parts(rule.spec, "subsets"))
    export_to = texts(rule.spec, "exportTo")
    found = destination(lens, host, rule.namespace, export_to=export_to) if subsets else None
    for index, subset in subsets:
        path, name = f"spec.subsets[{index}]", text(subset, "name")
        wanted = labels(subset, "labels")
        if not wanted:
            has_others = any(labels(other, "labels") for _, other in subsets)
            level = Level.INFO if has_others else None
            yield tell("KIA0209", rule.key, f"Subset {name} has no labels.", path, level=level)
        everywhere = {**found.selector, **wanted} if found is not None else {}
        codes = those(
            IST0173=bool(everywhere)
            and not any(label in _OF_NODES for label in everywhere)
            and not any(lens.pods(None, everywhere)),
            KIA0203=bool(wanted) and not _has_workloads(lens, rule, wanted),
        )
        if codes:
            is_remark = "IST0173" not in codes and not _is_routed(lens, rule, name)
            yield tell(
                "subset-selects-nothing",
                rule.key,
                f"Subset {name} of host {host} selects no workload ({shown(wanted)}).",
                f"{path}.labels",
                codes=codes,
                level=Level.INFO if is_remark else None,
            )


def _has_workloads(lens: Lens, rule: Config, wanted: Labels) -> bool:
    """True also for hosts whose workloads are not known here."""
    service = known.service_for(lens, text(rule.spec, "host"), rule.namespace)
    if service is not None:
        both = {**service.selector, **wanted}
        return (
            not service.selector
            or bool(running(lens, service.namespace, both))
            or any(
                matches(both, labels(entry.spec, "labels"))
                for entry in lens.all(kinds.WORKLOAD_ENTRY, service.namespace)
            )
        )
    found = destination(lens, text(rule.spec, "host"), rule.namespace)
    entries = found.entries if found is not None else ()
    endpoints = [end for entry in entries for _, end in parts(entry.spec, "endpoints")]
    if not endpoints or any(selector_of(entry) for entry in entries):
        return True
    return any(matches(wanted, labels(endpoint, "labels")) for endpoint in endpoints)


def _is_routed(lens: Lens, rule: Config, subset: str) -> bool:
    """Whether a VirtualService sends traffic to a subset."""
    return any(
        text(target, "subset") == subset
        and hosts.expanded(text(target, "host"), service.namespace) == _host(rule)
        for service in lens.all(kinds.VIRTUAL_SERVICE)
        for _, target, _ in hosts.destinations_of(service.spec)
    )


# --- TLS ------------------------------------------------------------------------------------------


def _tls(_: Lens, rule: Config) -> Iterator[Finding]:
    policy, host = part(rule.spec, "trafficPolicy"), text(rule.spec, "host")
    has_selector = isinstance(rule.spec.get("workloadSelector"), dict)
    if _is_unverified(part(policy, "tls"), has_selector=has_selector):
        message = f"TLS mode {text(part(policy, 'tls'), 'mode')} for {host} has no caCertificates."
        yield tell("IST0128", rule.key, message, "spec.trafficPolicy.tls")
    for index, settings in parts(policy, "portLevelSettings"):
        tls = part(settings, "tls")
        if _is_unverified(tls, has_selector=has_selector):
            number = text(part(settings, "port"), "number")
            mode = text(tls, "mode")
            message = f"TLS mode {mode} for port {number} of {host} has no caCertificates."
            path = f"spec.trafficPolicy.portLevelSettings[{index}].tls"
            yield tell("IST0129", rule.key, message, path)


def _is_unverified(tls: Mapping[str, Any], *, has_selector: bool) -> bool:
    if text(tls, "mode") not in ("SIMPLE", "MUTUAL") or text(tls, "caCertificates"):
        return False
    return not (text(tls, "credentialName") and has_selector)


_OWN = (kinds.DESTINATION_RULE,)
RULES = (
    Rule(finds=("KIA0201",), kinds=_OWN, check=_several),
    Rule(finds=("subset-selects-nothing", "KIA0209"), kinds=_OWN, check=_empty_subsets),
    Rule(finds=("IST0128", "IST0129"), kinds=_OWN, check=_tls),
)
