"""Sidecars that contend for the same pods, or that have no pods to configure."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level, listed
from services.topology.analysis.ist.missing import not_found
from services.topology.analysis.ist.selectors import is_ambient, is_ambient_namespace, shared_pod
from services.topology.analysis.ist.specs import labels, shown
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Labels

SAME_POD = Entry(
    code="IST0110",
    name="ConflictingSidecarWorkloadSelectors",
    level=Level.ERROR,
    cause="Several Sidecars select the same pod; its proxy gets one of them, and nothing says "
    "which.",
    remedy="Give the Sidecars selectors that exclude each other, or merge them.",
)
SEVERAL_DEFAULTS = Entry(
    code="IST0111",
    name="MultipleSidecarsWithoutWorkloadSelectors",
    level=Level.ERROR,
    cause="Several Sidecars of the namespace have no selector, so each is the default of all pods.",
    remedy="Keep one Sidecar without a selector in the namespace.",
)
INEFFECTIVE = Entry(
    code="IST0167",
    name="IneffectivePolicy",
    level=Level.WARNING,
    cause="Pods in ambient mode have no sidecar, so a Sidecar object does nothing for them.",
    remedy="Remove the Sidecar, or use sidecars for these pods.",
)


def _check(lens: Lens, config: Config) -> Iterator[Finding]:
    selector = _selector(config)
    if not selector:
        yield from _default(lens, config)
        return
    path = "spec.workloadSelector.labels"
    selected = list(lens.pods(config.namespace, selector))
    if not selected:
        yield not_found(config.key, "workload with labels", shown(selector), path)
    if any(is_ambient(pod) for pod in selected):
        yield INEFFECTIVE.on(config.key, "A selected pod is in ambient mode.", path)
    rivals = [
        (other, _selector(other))
        for other in lens.all(kinds.SIDECAR, config.namespace)
        if other.key != config.key and _selector(other)
    ]
    shared = shared_pod([pod for pod in selected if not is_ambient(pod)], rivals)
    if shared is not None:
        pod, names = shared
        message = f"{pod} is also selected by: {listed(names)}."
        yield SAME_POD.on(config.key, message, path)


def _default(lens: Lens, config: Config) -> Iterator[Finding]:
    if is_ambient_namespace(lens, config.namespace):
        message = f"Namespace {config.namespace} is in ambient mode."
        yield INEFFECTIVE.on(config.key, message)
        return
    others = [
        other.name
        for other in lens.all(kinds.SIDECAR, config.namespace)
        if other.key != config.key and not _selector(other)
    ]
    if others:
        message = f"These have no selector either: {listed(others)}."
        yield SEVERAL_DEFAULTS.on(config.key, message, "spec.workloadSelector")


def _selector(config: Config) -> Labels:
    return labels(config.spec, "workloadSelector", "labels")


ENTRIES = (SAME_POD, SEVERAL_DEFAULTS, INEFFECTIVE)
RULES = (
    Rule(codes=("IST0101", "IST0110", "IST0111", "IST0167"), kinds=(kinds.SIDECAR,), check=_check),
)
