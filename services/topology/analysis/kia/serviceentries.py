"""KIA1211, KIA1212, KIA1702: ServiceEntries for one host, WorkloadGroups with the same labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.registry import is_seen_together
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config

SEVERAL = Entry(
    code="KIA1211",
    name="serviceentries.multimatch",
    level=Level.WARNING,
    cause="Two ServiceEntries are for the same host and port, and their settings are merged.",
    remedy="Merge them into one.",
)
CONFLICTING = Entry(
    code="KIA1212",
    name="serviceentries.protocolconflict",
    level=Level.WARNING,
    cause="Two ServiceEntries name different protocols for the same host and port; one holds.",
    remedy="Name the same protocol in both, or merge them.",
)
SAME_LABELS = Entry(
    code="KIA1702",
    name="workloadgroup.labels.duplicate",
    level=Level.WARNING,
    cause="Two WorkloadGroups of the namespace give their workloads the same labels, so Services "
    "and policies cannot tell them apart.",
    remedy="Give each group a label of its own.",
)


def _protocols(entry: Config) -> dict[int, tuple[int, str]]:
    """Index and protocol of each port."""
    return {
        int(port.get("number") or 0): (index, str(port.get("protocol") or "TCP").upper())
        for index, port in enumerate(entry.spec.get("ports") or ())
    }


def several(lens: Lens, entry: Config) -> Iterator[Finding]:
    own = _protocols(entry)
    for index, name in enumerate(tags.texts(entry.spec, "hosts")):
        tag = tags.host(hosts.expanded(name, entry.namespace))
        for other in lens.tagged(kinds.SERVICE_ENTRY, tag):
            if other.key == entry.key or not is_seen_together(entry, other):
                continue
            for number, (_, protocol) in _protocols(other).items():
                if number not in own:
                    continue
                at, spoken = own[number]
                if spoken != protocol:
                    yield CONFLICTING.on(
                        entry.key,
                        f"port {number} of {name} speaks {spoken} here and {protocol} in "
                        f"{other.key}",
                        f"spec.ports[{at}].protocol",
                    )
                else:
                    yield SEVERAL.on(
                        entry.key,
                        f"{other.key} is for port {number} of {name} too",
                        f"spec.hosts[{index}]",
                    )


def same_labels(lens: Lens, group: Config) -> Iterator[Finding]:
    labels = _labels(group)
    if not labels:
        return
    for other in lens.peers(group, lambda other: _labels(other) == labels, group.namespace):
        for one, two in ((group, other), (other, group)):
            yield SAME_LABELS.on(one.key, f"{two.key} has the same labels", "spec.metadata.labels")


def _labels(group: Config) -> dict[str, Any]:
    return (group.spec.get("metadata") or {}).get("labels") or {}


ENTRIES = (SEVERAL, CONFLICTING, SAME_LABELS)
RULES = (
    Rule(codes=("KIA1211", "KIA1212"), kinds=(kinds.SERVICE_ENTRY,), check=several),
    Rule(codes=("KIA1702",), kinds=(kinds.WORKLOAD_GROUP,), check=same_labels),
)
