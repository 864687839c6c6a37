"""The data of an edge: with traffic, idle, or made by configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import fsum
from typing import Any, TypeAlias

import orjson

from services.topology.cluster.objects import Key, Labels
from services.topology.feed.deltas import View
from services.topology.graph.configuration import Configuration, Link, LinkEnd
from services.topology.graph.health import DEFAULT, Limits, of_requests, tolerances
from services.topology.graph.ids import (
    NOBODY,
    SERVICE,
    EdgeKey,
    Name,
    NodeKey,
    id_between,
    node_id,
    service_node,
    workload_node,
)
from services.topology.graph.loads import (
    Load,
    edge_details,
    edge_rates,
    percent,
    requests,
    responses,
)
from services.topology.graph.nodes import NodeMaker
from services.topology.graph.traffic import ViewTraffic

Data = dict[str, Any]
IDLE = ""
PROTOCOLS = ("http", "grpc", "tcp")


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums of flows, the same for each edge that shows them."""

    details: Data
    rates: dict[str, str]
    responses: Data
    total: float
    digest: int
    """Of all of them."""


FiguresOf: TypeAlias = dict[tuple[frozenset[Load], Limits, Limits], Figures]


@dataclass(frozen=True, slots=True)
class EdgeTraffic:
    """An edge with traffic: its flows' figures, and its share of what its source sends
    by the protocol ("" for TCP)."""

    figures: Figures
    share: str

    @property
    def digest(self) -> int:
        return hash((self.figures.digest, self.share))

    def data(self, key: EdgeKey) -> Data:
        protocol, figures = key[2], self.figures
        traffic: Data = {"protocol": protocol, "rates": figures.rates}
        if self.share:
            traffic["rates"] = {**figures.rates, f"{protocol}PercentReq": self.share}
        if figures.responses:
            traffic["responses"] = figures.responses
        return {**_ends(key), **figures.details, "traffic": traffic}


@dataclass(slots=True)
class EdgeMaker:
    """Makes edges of one view; good until something changes."""

    view: View
    nodes: NodeMaker
    figures: FiguresOf
    """Shared by views: a flow shows in all of them."""
    _outs: dict[tuple[NodeKey, str], float] = field(default_factory=dict)
    _limits: dict[NodeKey, Limits] = field(default_factory=dict)

    def traffic(self, key: EdgeKey) -> EdgeTraffic | None:
        in_view = self.nodes.traffic.views[self.view]
        loads = in_view.edges.get(key)
        if loads is None:
            return None
        source, target, protocol = key
        figures = self._figures_of(
            loads, protocol, self._limits_of(target), self._limits_of(source)
        )
        if protocol == "tcp":
            return EdgeTraffic(figures, "")
        return EdgeTraffic(figures, percent(figures.total, self._out(in_view, source, protocol)))

    def _figures_of(
        self, loads: set[Load], protocol: str, target: Limits, source: Limits
    ) -> Figures:
        """Worked out once for all edges with the same flows; most have one."""
        if len(loads) == 1 and target is DEFAULT and source is DEFAULT:
            (load,) = loads
            if load.figures is None:
                load.figures = _figures(loads, protocol, target, source)
            only: Figures = load.figures
            return only
        same = (frozenset(loads), target, source)
        figures = self.figures.get(same)
        if figures is None:
            figures = self.figures[same] = _figures(loads, protocol, target, source)
        return figures

    def _out(self, in_view: ViewTraffic, source: NodeKey, protocol: str) -> float:
        """All that a node sends by a protocol."""
        found = self._outs.get((source, protocol))
        if found is None:
            edges = [edge for edge in in_view.outs.get(source, ()) if edge[2] == protocol]
            loads = set().union(*(in_view.edges[edge] for edge in edges))
            found = self._outs[source, protocol] = fsum(load.total for load in loads)
        return found

    def _limits_of(self, node: NodeKey) -> Limits:
        found = self._limits.get(node)
        if found is None:
            found = self._limits[node] = tolerances(self._notes(node))
        return found

    def _notes(self, node: NodeKey) -> Labels:
        """Annotations of the object behind a node."""
        catalog = self.nodes.catalog
        if node[0] == NOBODY or node[1] != self.nodes.cluster:
            return _NONE
        if node[0] == SERVICE:
            found = catalog.service((node[2], node[3])) or catalog.entry((node[2], node[3]))
            return found.annotations if found is not None else _NONE
        workloads = self.nodes.workloads(self.view, node)
        return workloads[0].annotations if workloads else _NONE

    def idle(self, key: EdgeKey) -> Data | None:
        """An edge from a service to a workload that it selects and has no traffic with."""
        source, target, _ = key
        in_view = self.nodes.traffic.views[self.view]
        if self.view is View.SERVICE or any(
            (source, target, p) in in_view.edges for p in PROTOCOLS
        ):
            return None
        selected = self.nodes.catalog.selected.get((source[2], source[3]), ())
        if source[1] != self.nodes.cluster or not any(
            workload.key in selected for workload in self.nodes.workloads(self.view, target)
        ):
            return None
        return _ends(key)


def _figures(loads: set[Load], protocol: str, target: Limits, source: Limits) -> Figures:
    details = edge_details(loads)
    asked = requests(loads)
    if asked:
        status = of_requests(asked, target)
        if source is not DEFAULT:
            status = max(status, of_requests(asked, source, "outbound"))
        details["healthStatus"] = status.text
    total = fsum([load.total for load in loads])
    rates, answers = edge_rates(loads, protocol, total), responses(loads, total)
    digest = hash(orjson.dumps((details, rates, answers)))
    return Figures(details, rates, answers, total, digest)


def _ends(key: EdgeKey) -> Data:
    source, target = node_id(key[0]), node_id(key[1])
    return {"id": id_between(source, target, key[2]), "source": source, "target": target}


_NONE: Labels = {}


@dataclass(slots=True)
class ConfigEdges:
    """Edges that configuration makes, in one view."""

    view: View
    cluster: str
    configs: dict[EdgeKey, Data] = field(default_factory=dict)
    ends: dict[NodeKey, int] = field(default_factory=dict)
    """How many edges each node has."""
    _of: dict[Key, frozenset[EdgeKey]] = field(default_factory=dict)

    def put(self, key: Key, configuration: Configuration) -> set[EdgeKey]:
        """Places an object's edges; returns those that may look different."""
        now: dict[EdgeKey, Data] = {}
        for link in configuration.links.of(key):
            for edge in self._edges(key, link, configuration):
                now[edge] = link.config
        before = self._of.pop(key, frozenset())
        for edge in before:
            del self.configs[edge]
            self._count(edge, -1)
        for edge, config in now.items():
            self.configs[edge] = config
            self._count(edge, 1)
        if now:
            self._of[key] = frozenset(now)
        return {*before, *now}

    def _count(self, edge: EdgeKey, by: int) -> None:
        for node in edge[:2]:
            self.ends[node] = self.ends.get(node, 0) + by
            if not self.ends[node]:
                del self.ends[node]

    def _edges(self, key: Key, link: Link, configuration: Configuration) -> Iterator[EdgeKey]:
        if self.view is View.SERVICE and not link.target.is_service:
            return
        what = f"{key.kind}/{key.namespace}/{key.name}/{link.config['path']}"
        target = self._node(link.target, configuration)
        for source in self._sources(link.source, configuration):
            yield (source, target, what)

    def _sources(self, thing: LinkEnd, configuration: Configuration) -> list[NodeKey]:
        if self.view is View.SERVICE and not thing.is_service:
            fronts: set[Name] = configuration.catalog.fronts.get(thing.name, set())
            if fronts:
                return [service_node(self.cluster, name) for name in sorted(fronts)]
        return [self._node(thing, configuration)]

    def _node(self, thing: LinkEnd, configuration: Configuration) -> NodeKey:
        if thing.is_service:
            return service_node(self.cluster, thing.name)
        workload = configuration.catalog.workloads[thing.name]
        return workload_node(self.view, self.cluster, thing.name, workload.app)

    def data(self, key: EdgeKey) -> Data | None:
        config = self.configs.get(key)
        if config is None:
            return None
        return {**_ends(key), "config": config}
