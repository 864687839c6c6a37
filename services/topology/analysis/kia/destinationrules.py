"""KIA0201, KIA0202, KIA0203, KIA0209: a DestinationRule's host and subsets.

DestinationRules of different namespaces for one host are no finding: each client takes the one of
its own namespace first, and that is how they are meant to be used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.registry import entries_for, is_known, service_at
from services.topology.analysis.kia.selections import running
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config, Labels
from services.topology.cluster.state import matches
from services.topology.mesh.security import selector_of

SEVERAL = Entry(
    code="KIA0201",
    name="destinationrules.multimatch",
    level=Level.WARNING,
    cause="Two DestinationRules of the namespace are for the same host and subset; of two that "
    "say something, one is ignored.",
    remedy="Merge them, or split the subsets so that none is in both.",
)
NO_HOST = Entry(
    code="KIA0202",
    name="destinationrules.nodest.matchingregistry",
    level=Level.ERROR,
    cause="No Service and no ServiceEntry has the host, so the rule is ignored.",
    remedy="Correct the host (the full name is safest), or create the Service.",
)
NO_PODS = Entry(
    code="KIA0203",
    name="destinationrules.nodest.subsetlabels",
    level=Level.ERROR,
    cause="No workload behind the host has the subset's labels, so traffic sent to it fails.",
    remedy="Correct the labels, or deploy the version. A subset that no route names does no harm.",
)
NO_LABELS = Entry(
    code="KIA0209",
    name="destinationrules.nodest.subsetnolabels",
    level=Level.WARNING,
    cause="A subset without labels means all workloads of the host.",
    remedy="Give the subset the labels of the version that it is for.",
)


def host_of(rule: Config) -> str:
    """The full name of a DestinationRule's host."""
    return hosts.expanded(str(rule.spec.get("host") or ""), rule.namespace)


def subsets_of(rule: Config) -> list[dict[str, Any]]:
    return [subset for subset in rule.spec.get("subsets") or () if isinstance(subset, dict)]


def several(lens: Lens, rule: Config) -> Iterator[Finding]:
    own = {str(subset.get("name")) for subset in subsets_of(rule)}
    tag = tags.host(host_of(rule))
    for other in lens.tagged(kinds.DESTINATION_RULE, tag, rule.namespace):
        if other.key == rule.key or selector_of(other) != selector_of(rule):
            continue
        theirs = {str(subset.get("name")) for subset in subsets_of(other)}
        shared = sorted(own & theirs)
        if shared:
            what = f"subset {', '.join(shared)} of host {rule.spec.get('host')}"
            yield SEVERAL.on(rule.key, f"{other.key} defines {what} too", "spec.subsets")
        elif not own or not theirs:
            yield SEVERAL.on(
                rule.key, f"{other.key} is for host {rule.spec.get('host')} too", "spec.host"
            )


def unknown_host(lens: Lens, rule: Config) -> Iterator[Finding]:
    host = str(rule.spec.get("host") or "")
    if host and not is_known(lens, host, rule.namespace):
        yield NO_HOST.on(rule.key, f"no Service and no ServiceEntry has host {host}", "spec.host")


def empty_subsets(lens: Lens, rule: Config) -> Iterator[Finding]:
    subsets = subsets_of(rule)
    for index, subset in enumerate(subsets):
        path, name = f"spec.subsets[{index}]", subset.get("name")
        labels: Labels = subset.get("labels") or {}
        if not labels:
            has_others = any(other.get("labels") for other in subsets)
            entry = replace(NO_LABELS, level=Level.INFO) if has_others else NO_LABELS
            yield entry.on(rule.key, f"subset {name} has no labels", path)
        elif not _has_pods(lens, rule, labels):
            is_routed = _is_routed(lens, rule, str(name))
            entry = NO_PODS if is_routed else replace(NO_PODS, level=Level.INFO)
            told = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
            yield entry.on(
                rule.key,
                f"no workload of host {rule.spec.get('host')} has the labels of subset {name} "
                f"({told})",
                f"{path}.labels",
            )


def _has_pods(lens: Lens, rule: Config, labels: Labels) -> bool:
    """True also for hosts whose workloads nobody can know."""
    service = service_at(lens, str(rule.spec.get("host") or ""), rule.namespace)
    if service is not None:
        if not service.selector:
            return True
        return bool(running(lens, service.namespace, {**service.selector, **labels})) or any(
            matches({**service.selector, **labels}, entry.spec.get("labels") or {})
            for entry in lens.all(kinds.WORKLOAD_ENTRY, service.namespace)
        )
    entries = list(entries_for(lens, host_of(rule), rule.namespace))
    endpoints = [e for entry in entries for e in entry.spec.get("endpoints") or ()]
    if not endpoints or any(selector_of(entry) for entry in entries):
        return True
    return any(matches(labels, endpoint.get("labels") or {}) for endpoint in endpoints)


def _is_routed(lens: Lens, rule: Config, subset: str) -> bool:
    """Whether a VirtualService sends traffic to a subset."""
    host = host_of(rule)
    return any(
        destination.get("subset") == subset
        and hosts.expanded(str(destination.get("host") or ""), service.namespace) == host
        for service in lens.all(kinds.VIRTUAL_SERVICE)
        for _, destination, _ in hosts.destinations_of(service.spec)
    )


ENTRIES = (SEVERAL, NO_HOST, NO_PODS, NO_LABELS)
_KINDS = (kinds.DESTINATION_RULE,)
RULES = (
    Rule(codes=("KIA0201",), kinds=_KINDS, check=several),
    Rule(codes=("KIA0202",), kinds=_KINDS, check=unknown_host),
    Rule(codes=("KIA0203", "KIA0209"), kinds=_KINDS, check=empty_subsets),
)
