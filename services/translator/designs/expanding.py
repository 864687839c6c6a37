"""From a design to steps: every component one step, its traits more steps after it.

Steps stand in levels. What stands in one level does not depend on anything else there, so that
lifecycle may carry a level out side by side; one step per component keeps one event per component.
Levels were chosen over one step of many objects, whose title could name only some.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Step, StepKind
from services.translator.designs.components import Component, Design, refuse
from services.translator.designs.meshes import (
    addon_of,
    addon_step,
    is_mesh,
    mesh_step,
    note_mesh,
    note_traits,
    revision_of,
    trait_steps,
)
from services.translator.designs.objects import build
from services.translator.designs.ordering import Graph, drawn
from services.translator.reports import Line, Report, differing, dotted

_DEFINITION = "CustomResourceDefinition"
_MOST_FIELDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Steps of a design in their order, and what was left out of it and why."""

    levels: tuple[tuple[Step, ...], ...] = ()
    """Within a level the steps stand in the design's order (reversed for a deletion)."""
    lines: tuple[Line, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, one after the other."""
        return tuple(step for level in self.levels for step in level)


@dataclass(slots=True)
class _Work:
    """A component's steps: its own, then its traits'."""

    component: Component
    own: list[Step] = field(default_factory=list)
    traits: list[Step] = field(default_factory=list)

    @property
    def length(self) -> int:
        return bool(self.own) + bool(self.traits)


def expand(design: Design, *, is_deletion: bool, default_namespace: str) -> Expansion:
    """The steps that apply (or delete) a design; raises `DesignMalformed` with every error.

    `default_namespace` is for namespaced objects whose component names none. An object's api
    version is the design's own, or the newest where the design is silent.
    """
    report = Report()
    works = [
        _work(component, is_deletion=is_deletion, namespace=default_namespace, report=report)
        for component in design.components
    ]
    twins = _settle_twins(works, report=report)
    graph = drawn(design.components, lengths=[work.length for work in works], report=report)
    refuse(report)
    for first, twin in twins:
        graph.put_first([first], before=[twin])
    _put_foundations_first(graph, works)
    _note(design.components, report)
    levels = _levels(works, graph.starts())
    if is_deletion:
        levels = [level[::-1] for level in levels[::-1]]
    return Expansion(
        levels=tuple(tuple(level) for level in levels),
        lines=(*design.lines, *report.lines),
    )


def _work(component: Component, *, is_deletion: bool, namespace: str, report: Report) -> _Work:
    work = _Work(component)
    report = report.about(component.ref)
    if component.is_annotation:
        return work
    if is_mesh(component):
        work.own.append(mesh_step(component, is_deletion=is_deletion, report=report))
    elif addon_of(component):
        work.own.append(addon_step(component, is_deletion=is_deletion))
    else:
        obj = build(component, default_namespace=namespace, report=report)
        if obj is not None:
            title = str(Ref.of(obj))
            work.own.append(Step(title=title, is_deletion=is_deletion, objects=[obj]))
    work.traits += trait_steps(component, is_deletion=is_deletion, report=report)
    return work


def _settle_twins(works: Sequence[_Work], *, report: Report) -> list[tuple[int, int]]:
    """Drops steps that stand there already; two that contradict each other are an error.

    Returns the places of the components that are the same object, the first one and its twin: what
    depends on the twin waits for the first.
    """
    twins: list[tuple[int, int]] = []
    owners: dict[tuple[str, ...], int] = {}
    seen: dict[tuple[str, ...], tuple[Step, str]] = {}
    for place, work in enumerate(works):
        label = work.component.label
        for step in list(work.own):
            identity = _own_identity(work, step)
            earlier, owner = seen.setdefault(identity, (step, label))
            first = owners.setdefault(identity, place)
            if earlier is step:
                continue
            if step == earlier:
                work.own.remove(step)
                twins.append((first, place))
                note = f"{step.title} is the same object as that of {owner}"
                report.lines.append(Line(source=label, note=note))
                continue
            text = f"{step.title} comes from {owner}, too"
            if fields := _differing(earlier, step):
                text += f", with another {fields}"
            report.about(work.component.ref).error((), text)
    for work in works:
        kept: list[Step] = []
        for step in work.traits:
            rivals = [_identity(step), *_obsolete(step)]
            known = next((seen[rival] for rival in rivals if rival in seen), None)
            if known is None:
                seen[rivals[0]] = (step, work.component.label)
                kept.append(step)
            elif known[0] != step:
                text = f"{step.title} contradicts {known[0].title} of {known[1]}"
                report.about(work.component.ref).error((), text)
        work.traits = kept
    return twins


def _differing(one: Step, other: Step) -> str:
    """The first fields in which the objects of two steps differ; "" for steps without any."""
    paths = [
        dotted(path)
        for first, second in zip(one.objects, other.objects, strict=False)
        for path in differing(first, second)
    ]
    more = f" and {len(paths) - _MOST_FIELDS} more" if len(paths) > _MOST_FIELDS else ""
    return ", ".join(paths[:_MOST_FIELDS]) + more


def _own_identity(work: _Work, step: Step) -> tuple[str, ...]:
    """As `_identity`; two meshes of one revision are the same, also under other names."""
    if step.kind is StepKind.MESH:
        return (step.kind, revision_of(work.component))
    return _identity(step)


def _identity(step: Step) -> tuple[str, ...]:
    """The object or operation of a step; no two steps may have the same."""
    if step.kind is StepKind.MANIFEST:
        return _named(step.objects[0])
    return (step.kind, step.name, step.namespace)


def _obsolete(step: Step) -> list[tuple[str, ...]]:
    return [_named(obj) for obj in step.obsolete]


def _named(obj: KubeObject) -> tuple[str, ...]:
    ref = Ref.of(obj)
    return (StepKind.MANIFEST, *ref.group_kind, ref.namespace, ref.name)


def _put_foundations_first(graph: Graph, works: Sequence[_Work]) -> None:
    """Namespaces, then definitions of kinds, then the mesh, then all else."""
    nodes: list[list[int]] = [[], [], [], []]
    for node, work in enumerate(works):
        nodes[_rank(work.component)].append(node)
    for rank in range(3):
        later = [node for others in nodes[rank + 1 :] for node in others]
        graph.put_first(nodes[rank], before=later)


def _rank(component: Component) -> int:
    if component.kind == "Namespace":
        return 0
    if component.kind == _DEFINITION:
        return 1
    return 2 if is_mesh(component) else 3


def _levels(works: Sequence[_Work], starts: dict[int, int]) -> list[list[Step]]:
    levels: dict[int, list[Step]] = {}
    for node, work in enumerate(works):
        for offset, steps in enumerate(part for part in (work.own, work.traits) if part):
            levels.setdefault(starts[node] + offset, []).extend(steps)
    return [levels[number] for number in sorted(levels)]


def _note(components: Iterable[Component], report: Report) -> None:
    """Adds lines about what leads to no step."""
    applied: list[Component] = []
    for component in components:
        if component.is_annotation:
            report.lines.append(Line(source=component.label, note="a drawing on the canvas"))
            continue
        applied.append(component)
        if is_mesh(component):
            note_mesh(component, report)
    note_traits(applied, report)
