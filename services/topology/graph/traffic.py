"""The edges with traffic of each view, and the flows that each of them shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from services.topology.cluster.hosts import service_of
from services.topology.feed.deltas import View
from services.topology.graph.catalog import Catalog
from services.topology.graph.ids import (
    NOBODY,
    SERVICE,
    UNKNOWN,
    EdgeKey,
    NodeKey,
    called_name,
    peer_node,
    service_node,
)
from services.topology.graph.loads import Load
from services.topology.telemetry.traffic import Called, Flow, FlowKey, Peer

T = TypeVar("T")


@dataclass(slots=True)
class ViewTraffic:
    """Edges with traffic of one view."""

    edges: dict[EdgeKey, set[Load]] = field(default_factory=dict)
    ins: dict[NodeKey, set[EdgeKey]] = field(default_factory=dict)
    outs: dict[NodeKey, set[EdgeKey]] = field(default_factory=dict)

    def add(self, key: EdgeKey, load: Load) -> None:
        loads = self.edges.get(key)
        if loads is None:
            self.edges[key] = {load}
            self.outs.setdefault(key[0], set()).add(key)
            self.ins.setdefault(key[1], set()).add(key)
        else:
            loads.add(load)

    def remove(self, key: EdgeKey, load: Load) -> None:
        loads = self.edges[key]
        loads.discard(load)
        if loads:
            return
        del self.edges[key]
        for index, node in ((self.outs, key[0]), (self.ins, key[1])):
            index[node].discard(key)
            if not index[node]:
                del index[node]

    def into(self, node: NodeKey) -> frozenset[Load]:
        """Flows to a node, each once, though several edges may show it."""
        edges = self.ins.get(node)
        return frozenset().union(*(self.edges[key] for key in edges)) if edges else _NO_LOADS

    def out_of(self, node: NodeKey) -> frozenset[Load]:
        edges = self.outs.get(node)
        return frozenset().union(*(self.edges[key] for key in edges)) if edges else _NO_LOADS


_NO_LOADS: frozenset[Load] = frozenset()


@dataclass(slots=True)
class Traffic:
    catalog: Catalog
    cluster: str
    aliases: frozenset[str] = frozenset()
    """Names by which telemetry calls this cluster."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Names by which it calls other clusters of the mesh that are watched: what they are called
    here. A node of one of them has the id that it has in its own cluster's graph."""
    views: dict[View, ViewTraffic] = field(
        default_factory=lambda: {view: ViewTraffic() for view in View}
    )
    touched: dict[View, set[EdgeKey]] = field(
        default_factory=lambda: {view: set() for view in View}
    )
    """Edges to look at again; whoever looks clears them."""
    _loads: dict[FlowKey, Load] = field(default_factory=dict)
    _external: dict[str, set[Load]] = field(default_factory=dict)
    """Flows by the host that they called, where it is no cluster-local one."""
    _sent: dict[NodeKey, set[Load]] = field(default_factory=dict)
    _passed: dict[NodeKey, dict[NodeKey, int]] = field(default_factory=dict)
    """Of each workload, the services through which traffic reaches it, and by how many flows."""

    def flows(self, flows: Mapping[FlowKey, Flow]) -> None:
        """Takes the place of all earlier flows."""
        stale: set[Load] = set()
        for key in [key for key in self._loads if key not in flows]:
            self._drop(self._loads.pop(key), stale)
        for key, flow in flows.items():
            known = self._loads.get(key)
            if known is not None and known.flow == flow:
                continue
            load = Load(key, flow) if known is None else known
            if load.flow.waypoint != flow.waypoint:
                stale.add(load)
            load.update(flow)
            if load.total <= 0:
                if known is not None:
                    self._drop(self._loads.pop(key), stale)
            elif known is None:
                self._loads[key] = load
                self._take(load, stale)
            else:
                for view, edges in load.edges.items():
                    self.touched[view].update(edges)
        self._place(stale & set(self._loads.values()))

    def again(self, hosts: Iterable[str], workloads: Iterable[NodeKey]) -> None:
        """Places flows anew after ServiceEntries took or gave up hosts, and after workloads came
        behind other services."""
        stale: set[Load] = set()
        for host in hosts:
            found = (
                set(self._external.get(host, ()))
                if not host.startswith("*")
                else {x for h, s in self._external.items() if h.endswith(host[1:]) for x in s}
            )
            for load in found:
                self._drop(load, stale)
                self._take(load, stale)
        for workload in workloads:
            stale |= self._sent.get(workload, set())
        self._place(stale)

    def renamed(self, aliases: frozenset[str], others: Mapping[str, str]) -> None:
        """Telemetry's names of this cluster, or of others, changed."""
        flows = {key: load.flow for key, load in self._loads.items()}
        self.flows({})
        self.aliases, self.others = aliases, others
        self.flows(flows)

    def cluster_of(self, name: str) -> str:
        if name in self.aliases or not name or name == UNKNOWN:
            return self.cluster
        return self.others.get(name, name)

    # --- one flow -------------------------------------------------------------------------------

    def _take(self, load: Load, stale: set[Load]) -> None:
        """Notes a flow; those that it puts behind another service become stale, as itself."""
        key = load.key
        if key.called.host and service_of(key.called.host) is None:
            self._external.setdefault(key.called.host, set()).add(load)
        load.called = self._called(key.called)
        if (source := self._workload(key.source)) is not None:
            self._sent.setdefault(source, set()).add(load)
        stale.add(load)
        target = self._workload(key.destination)
        if target is not None and load.called is not None:
            passed = self._passed.setdefault(target, {})
            passed[load.called] = passed.get(load.called, 0) + 1
            if passed[load.called] == 1:
                stale |= self._sent.get(target, set())

    def _drop(self, load: Load, stale: set[Load]) -> None:
        for view, edges in load.edges.items():
            self._unplace(view, edges, load)
        load.edges = {}
        host = load.key.called.host
        if load in self._external.get(host, ()):
            _discard(self._external, host, load)
        if (source := self._workload(load.key.source)) is not None:
            _discard(self._sent, source, load)
        target = self._workload(load.key.destination)
        if target is not None and load.called is not None:
            passed = self._passed[target]
            passed[load.called] -= 1
            if not passed[load.called]:
                del passed[load.called]
                stale |= self._sent.get(target, set())
            if not passed:
                del self._passed[target]

    def _called(self, called: Called) -> NodeKey | None:
        if not called.name or called.name == UNKNOWN:
            return None
        cluster = self.cluster_of(called.cluster)
        if cluster == self.cluster and called.host and service_of(called.host) is None:
            entry = self.catalog.external(called.host)
            if entry is not None:
                return service_node(cluster, entry)
        return service_node(cluster, called_name(called))

    def _workload(self, peer: Peer) -> NodeKey | None:
        return peer_node(View.WORKLOAD, self.cluster_of(peer.cluster), peer)

    # --- places ---------------------------------------------------------------------------------

    def _place(self, loads: Iterable[Load]) -> None:
        for load in loads:
            for view in View:
                now = self._edges(view, load)
                before = load.edges.get(view, ())
                if now == before:
                    continue
                self._unplace(view, before, load)
                in_view, touched = self.views[view], self.touched[view]
                for edge in now:
                    in_view.add(edge, load)
                    touched.add(edge)
                load.edges[view] = now

    def _unplace(self, view: View, edges: Iterable[EdgeKey], load: Load) -> None:
        for edge in edges:
            self.views[view].remove(edge, load)
            self.touched[view].add(edge)

    def _edges(self, view: View, load: Load) -> tuple[EdgeKey, ...]:
        key, called, what = load.key, load.called, load.protocol
        source = peer_node(view, self.cluster_of(key.source.cluster), key.source)
        if source is None:
            source = (NOBODY, self.cluster, "", "")
        if view is View.SERVICE:
            if called is None:
                return ()
            fronts = self._fronts(source) if source[0] != NOBODY else []
            return tuple((front, called, what) for front in fronts or (source,))
        target = peer_node(view, self.cluster_of(key.destination.cluster), key.destination)
        if target is None:
            return ((source, called or self._lost(key), what),)
        if called is None or _is_waypoint(load):
            return ((source, target, what),)
        return ((source, called, what), (called, target, what))

    def _fronts(self, workload: NodeKey) -> list[NodeKey]:
        """Services that stand for a workload: those that traffic reaches it through, or that
        select it."""
        passed = self._passed.get(workload)
        if passed:
            return sorted(passed)
        if workload[1] != self.cluster:
            return []
        names = self.catalog.fronts.get((workload[2], workload[3]), ())
        return sorted(service_node(self.cluster, name) for name in names)

    def _lost(self, key: FlowKey) -> NodeKey:
        """One node per namespace for unknown destinations."""
        space = key.called.namespace or key.destination.namespace or UNKNOWN
        return (SERVICE, self.cluster_of(key.called.cluster), space, UNKNOWN)


def _is_waypoint(load: Load) -> bool:
    """Around waypoints no service is put between."""
    return bool(load.flow.waypoint)


def _discard(index: dict[T, set[Load]], key: T, load: Load) -> None:
    found = index[key]
    found.discard(load)
    if not found:
        del index[key]
