"""Telemetries that contend for the same pods, or name no provider."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level, listed
from services.topology.analysis.ist.missing import not_found
from services.topology.analysis.ist.selectors import shared_pod
from services.topology.analysis.ist.specs import labels, part, parts, shown
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Labels

NO_PROVIDER = Entry(
    code="IST0157",
    name="InvalidTelemetryProvider",
    level=Level.WARNING,
    cause="Access logging is on without a provider, and the mesh has no default provider, so "
    "nothing is logged.",
    remedy="Name a provider, or set `defaultProviders.accessLogging` in the mesh's settings.",
)
SAME_POD = Entry(
    code="IST0159",
    name="ConflictingTelemetryWorkloadSelectors",
    level=Level.ERROR,
    cause="Several Telemetries select the same pod; its proxy gets one of them, and nothing says "
    "which.",
    remedy="Give the Telemetries selectors that exclude each other, or merge them.",
)
SEVERAL_DEFAULTS = Entry(
    code="IST0160",
    name="MultipleTelemetriesWithoutWorkloadSelectors",
    level=Level.ERROR,
    cause="Several Telemetries of the namespace have no selector, so each is the default of all "
    "pods.",
    remedy="Keep one Telemetry without a selector in the namespace.",
)


def _selectors(lens: Lens, config: Config) -> Iterator[Finding]:
    if config.spec.get("selector") is None:
        others = [
            other.name
            for other in lens.all(kinds.TELEMETRY, config.namespace)
            if other.key != config.key and other.spec.get("selector") is None
        ]
        if others:
            message = f"These have no selector either: {listed(others)}."
            yield SEVERAL_DEFAULTS.on(config.key, message, "spec.selector")
        return
    selector = _selector(config)
    if not selector:
        return
    selected = list(lens.pods(config.namespace, selector))
    if not selected:
        yield not_found(
            config.key, "workload with labels", shown(selector), "spec.selector.matchLabels"
        )
        return
    rivals = [
        (other, _selector(other))
        for other in lens.all(kinds.TELEMETRY, config.namespace)
        if other.key != config.key and _selector(other)
    ]
    shared = shared_pod(selected, rivals)
    if shared is not None:
        pod, names = shared
        message = f"{pod} is also selected by: {listed(names)}."
        yield SAME_POD.on(config.key, message, "spec.selector.matchLabels")


def _selector(config: Config) -> Labels:
    return labels(config.spec, "selector", "matchLabels")


def _providers(lens: Lens, config: Config) -> Iterator[Finding]:
    if part(lens.mesh().config, "defaultProviders").get("accessLogging"):
        return
    for index, logging in parts(config.spec, "accessLogging"):
        if not logging.get("disabled") and not logging.get("providers"):
            message = "Access logging names no provider, and the mesh has no default one."
            yield NO_PROVIDER.on(config.key, message, f"spec.accessLogging[{index}].providers")


ENTRIES = (NO_PROVIDER, SAME_POD, SEVERAL_DEFAULTS)
RULES = (
    Rule(codes=("IST0101", "IST0159", "IST0160"), kinds=(kinds.TELEMETRY,), check=_selectors),
    Rule(codes=("IST0157",), kinds=(kinds.TELEMETRY,), check=_providers),
)
