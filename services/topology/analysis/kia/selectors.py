"""KIA0002 to KIA0005: objects that choose workloads by labels, and namespaces to export to."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.selections import can_both, selects, selects_anywhere
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config
from services.topology.mesh.security import selector_of, targets_of

_ONE_PER_WORKLOAD = (kinds.PEER_AUTHENTICATION, kinds.REQUEST_AUTHENTICATION, kinds.SIDECAR)
_MESH_WIDE = (kinds.AUTHORIZATION_POLICY, kinds.REQUEST_AUTHENTICATION)
"""In the root namespace their selectors mean workloads of all namespaces."""

SEVERAL_WITHOUT = Entry(
    code="KIA0002",
    name="generic.multimatch.selectorless",
    level=Level.ERROR,
    cause="Two objects of this kind mean all workloads of the namespace, and only one can hold.",
    remedy="Merge them, or give one of them a selector.",
)
SEVERAL_FOR_ONE = Entry(
    code="KIA0003",
    name="generic.multimatch.selector",
    level=Level.ERROR,
    cause="Two objects of this kind select the same workload, and which of them holds is not said.",
    remedy="Merge them, or change the selectors so that each workload has one.",
)
NOTHING_SELECTED = Entry(
    code="KIA0004",
    name="generic.selector.workloadnotfound",
    level=Level.WARNING,
    cause="No workload has the labels of the selector, so the object does nothing.",
    remedy="Correct the labels, deploy the workload, or delete the object.",
)
NO_EXPORT_TARGET = Entry(
    code="KIA0005",
    name="generic.exportto.namespacenotfound",
    level=Level.ERROR,
    cause="The object is exported to a namespace that does not exist.",
    remedy="Name an existing namespace in exportTo, or `.` or `*`.",
)


def selector_path(config: Config) -> str:
    if "workloadSelector" in config.spec:
        return "spec.workloadSelector"
    return "spec.selector"


def overlapping(lens: Lens, config: Config) -> Iterator[Finding]:
    selector = selector_of(config)
    if targets_of(config):
        return

    def clashes(other: Config) -> bool:
        theirs = selector_of(other)
        if targets_of(other) or bool(theirs) != bool(selector):
            return False
        if not selector:
            return True
        return can_both(selector, theirs) and selects(
            lens, config.namespace, {**selector, **theirs}
        )

    entry = SEVERAL_FOR_ONE if selector else SEVERAL_WITHOUT
    for other in lens.peers(config, clashes, config.namespace):
        what = "selects a workload that {} selects too" if selector else "and {} mean all workloads"
        for one, two in ((config, other), (other, config)):
            path = selector_path(one) if selector else "spec"
            yield entry.on(one.key, f"{one.key} {what.format(two.key)}", path)


def selecting_nothing(lens: Lens, config: Config) -> Iterator[Finding]:
    selector = selector_of(config)
    if not selector or targets_of(config):
        return
    is_wide = config.key.kind in _MESH_WIDE and config.namespace == lens.mesh().root_namespace
    look = selects_anywhere if is_wide else selects
    if not look(lens, config.namespace, selector):
        labels = ", ".join(f"{name}={value}" for name, value in sorted(selector.items()))
        where = "the mesh" if is_wide else f"namespace {config.namespace}"
        yield NOTHING_SELECTED.on(
            config.key, f"no workload in {where} has {labels}", selector_path(config)
        )


def exported(lens: Lens, config: Config) -> Iterator[Finding]:
    for index, name in enumerate(config.spec.get("exportTo") or ()):
        if name not in (".", "*", "~") and lens.namespace(name) is None:
            yield NO_EXPORT_TARGET.on(
                config.key, f"namespace {name} does not exist", f"spec.exportTo[{index}]"
            )


ENTRIES = (SEVERAL_WITHOUT, SEVERAL_FOR_ONE, NOTHING_SELECTED, NO_EXPORT_TARGET)
RULES = (
    Rule(codes=("KIA0002", "KIA0003"), kinds=_ONE_PER_WORKLOAD, check=overlapping),
    Rule(
        codes=("KIA0004",),
        kinds=(*_ONE_PER_WORKLOAD, kinds.AUTHORIZATION_POLICY),
        check=selecting_nothing,
    ),
    Rule(
        codes=("KIA0005",),
        kinds=(kinds.VIRTUAL_SERVICE, kinds.DESTINATION_RULE, kinds.SERVICE_ENTRY),
        check=exported,
    ),
)
