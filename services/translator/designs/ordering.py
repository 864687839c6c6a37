"""The order of components: what depends on what, as levels that can be carried out side by side.

`dependsOn` is what the user drew. Beside it some kinds stand before all others, because nothing
could be applied without them: namespaces, definitions of kinds, the mesh itself. That holds as far
as it does not contradict what the user drew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from services.translator.designs.components import THE_DESIGN, Component, quoted
from services.translator.reports import Line, Report

_TOLD = 20


@dataclass(slots=True)
class Graph:
    """Nodes are numbers; `needs[n]` are those before `n`. Components come first, gates after."""

    needs: list[set[int]]
    lengths: list[int]
    """Number of levels of each node: 1, 2 with traits, 0 without a step."""

    def put_first(self, members: Sequence[int], *, before: Iterable[int]) -> None:
        """Lets `before` wait for `members`, except those that the members themselves wait for.

        One gate between the two sides keeps the number of edges linear. It closes no circle: no
        member reaches, over what was there before, any of those that wait at the gate.
        """
        if not members:
            return
        reached = self._reached(members)
        gate = len(self.needs)
        self.needs.append(set(members))
        self.lengths.append(0)
        for node in before:
            if node not in reached:
                self.needs[node].add(gate)

    def _reached(self, starts: Iterable[int]) -> set[int]:
        seen = set(starts)
        pending = list(seen)
        while pending:
            fresh = self.needs[pending.pop()] - seen
            seen |= fresh
            pending += fresh
        return seen

    def starts(self) -> dict[int, int]:
        """The level at which each node can start; raises `CycleError` for a circle."""
        starts: dict[int, int] = {}
        for node in TopologicalSorter(dict(enumerate(self.needs))).static_order():
            needs = self.needs[node]
            starts[node] = max((starts[need] + self.lengths[need] for need in needs), default=0)
        return starts


def drawn(components: Sequence[Component], *, lengths: Sequence[int], report: Report) -> Graph:
    """The graph of `depends_on`. A circle is an error; a reference to nothing only gets a line.

    A reference means a component's id first, then its name; a name of several means all of them.
    """
    by_id, by_name = _places(components)
    graph = Graph(needs=[set() for _ in components], lengths=list(lengths))
    for node, component in enumerate(components):
        for reference in component.depends_on:
            found = by_id.get(reference) or by_name.get(reference)
            if found is None:
                report.lines.append(
                    Line(
                        source=f"dependency of {component.label} on {quoted(reference)}",
                        note="the design has no such component",
                    )
                )
            else:
                # A Deployment may depend on the Service of the same name.
                graph.needs[node] |= (found - {node}) or found
    circle = _circle(graph)
    if circle:
        names = [components[node].label for node in circle]
        if len(names) > _TOLD:
            names[_TOLD - 1 : -1] = [f"{len(names) - _TOLD} more"]
        report.about(THE_DESIGN).error(
            (), f"components depend on each other in a circle: {' → '.join(names)}"
        )
    return graph


def _places(
    components: Sequence[Component],
) -> tuple[Mapping[str, set[int]], Mapping[str, set[int]]]:
    by_id: dict[str, set[int]] = {}
    by_name: dict[str, set[int]] = {}
    for node, component in enumerate(components):
        for text in component.ids:
            by_id.setdefault(text, set()).add(node)
        by_name.setdefault(component.name, set()).add(node)
    return by_id, by_name


def _circle(graph: Graph) -> list[int]:
    """One circle, each member before the one that it needs, the first again at the end."""
    try:
        graph.starts()
    except CycleError as error:
        # The sorter tells it the other way round, and again the first at the end.
        members: list[int] = error.args[1][:0:-1]
        first = members.index(min(members))
        return [*members[first:], *members[:first], members[first]]
    return []
