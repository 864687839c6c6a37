"""The graph of one cluster in all four of Kiali's views, changed in place.

A change goes through three stages: the catalog and the configuration say which things it touches,
each view turns these into nodes and edges, and each of them is made anew and published if it
differs from the last one. Of that only a hash is kept: followers have the items.
Rejected: items computed from a record of what was read, as the analysis does; tens of thousands of
nodes with ten marks each take more memory than the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Key
from services.topology.cluster.state import State
from services.topology.feed.deltas import EDGES, NODES, Item, Parts, View, part_of
from services.topology.graph.catalog import Affected, Catalog, MeshWorkload
from services.topology.graph.configuration import Configuration, Dirty
from services.topology.graph.edges import IDLE, ConfigEdges, EdgeMaker, FiguresOf
from services.topology.graph.facts import Facts
from services.topology.graph.health import ANNOTATION
from services.topology.graph.ids import (
    SERVICE,
    Name,
    NodeKey,
    service_node,
    workload_node,
)
from services.topology.graph.nodes import NodeMaker
from services.topology.graph.scopes import SCOPED
from services.topology.graph.traffic import Traffic
from services.topology.graph.views import ViewGraph
from services.topology.mesh.meshes import istio_name, mesh_of
from services.topology.telemetry.traffic import Flows

log = structlog.get_logger(__name__)


class Graph:
    """Nodes and edges of a cluster; `changed` and `flows` return the items that differ."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._cluster = state.name or state.cluster
        self._catalog = Catalog(state)
        self._configuration = Configuration(self._catalog, mesh_of(state).root_namespace)
        self._facts = Facts(self._catalog, self._configuration)
        self._traffic = Traffic(self._catalog, self._cluster, self._aliases())
        self._moment = 0
        """Counts what was taken over; makers are good for one."""
        self._views = [ViewGraph(view, ConfigEdges(view, self._cluster)) for view in View]

    # --- changes --------------------------------------------------------------------------------

    def changed(self, changes: Sequence[Change]) -> Parts:
        """Takes over changes that the state has already."""
        self._moment += 1
        dirty = Dirty()
        rooted = [change for change in changes if change.key.kind == kinds.CONFIG_MAP]
        self._configuration.changed(changes, dirty)
        affected = self._catalog.changed(changes)
        self._configuration.affected(affected, dirty)
        if rooted:
            self._settings(dirty)
        for key in dirty.due:
            try:
                self._wire(key)
            except Exception:
                # A route of an unforeseen form makes no edges; all others do.
                log.exception("route_not_drawn", object=str(key))
        regrouped = [self._own(View.WORKLOAD, name) for name in affected.regrouped]
        self._traffic.again(affected.hosts, regrouped)
        self._spread(affected, dirty)
        return self._all_changes()

    def flows(self, flows: Flows) -> Parts:
        """Takes over telemetry in place of the earlier one."""
        self._moment += 1
        self._traffic.flows(flows)
        return self._all_changes()

    def flows_by_parts(self, flows: Flows) -> Iterator[Parts]:
        """As `flows`, a part at a time, for a caller who lets others work in between: thousands of
        items take a while. `changed` and `flows` may be called before the end is reached; they
        tell what is left."""
        self._moment += 1
        self._traffic.flows(flows)
        yield from self._changes()

    def neighbours(self, names: Mapping[str, str]) -> Parts:
        """Takes over what other clusters of the mesh are called, by Istio's names of them."""
        if names == self._traffic.others:
            return {}
        self._moment += 1
        self._traffic.renamed(self._traffic.aliases, names)
        return self._all_changes()

    def info(self) -> dict[str, Any]:
        """How much there is."""
        return {
            "nodes": {shown.view.value: len(shown.nodes) for shown in self._views},
            "edges": {shown.view.value: len(shown.edges) for shown in self._views},
            "namespaces": self.state.count(kinds.NAMESPACE),
        }

    def _wire(self, key: Key) -> None:
        """Makes the edges of a configuration object anew."""
        self._configuration.links.work_out(key)
        for shown in self._views:
            edges = shown.config_edges.put(key, self._configuration)
            shown.stale_edges |= edges
            if shown.view is View.SERVICE:
                # Others have their nodes anyway.
                shown.stale_nodes.update(node for edge in edges for node in edge[:2])

    def _settings(self, dirty: Dirty) -> None:
        """The mesh's own settings: the one change that may touch everything."""
        root = mesh_of(self.state).root_namespace
        if root != self._configuration.root:
            self._configuration.root = root
            objects = [found for kind in SCOPED for found in self.state.all(kind)]
            self._configuration.changed([Change(o.key, o, o) for o in objects], dirty)
        aliases = self._aliases()
        if aliases != self._traffic.aliases:
            self._traffic.renamed(aliases, self._traffic.others)

    def _aliases(self) -> frozenset[str]:
        """Names by which telemetry may call this cluster."""
        return frozenset((self.state.name, self.state.cluster, istio_name(self.state))) - {""}

    # --- from things to nodes and edges ---------------------------------------------------------

    def _own(self, view: View, name: Name, app: str = "") -> NodeKey:
        return workload_node(view, self._cluster, name, app)

    def _apps(self, name: Name, affected: Affected) -> set[str]:
        """Apps of a workload, now and before."""
        sides = (self._catalog.workloads.get(name), affected.workloads.get(name))
        return {workload.app for workload in sides if workload is not None}

    def _spread(self, affected: Affected, dirty: Dirty) -> None:
        workloads = {*dirty.workloads, *affected.workloads, *affected.regrouped}
        services = {*dirty.services, *affected.services}
        for name in affected.workloads:
            # Its app is on their nodes.
            services |= self._fronts(name)
        for name in affected.redefined:
            workloads |= self._catalog.selected.get(name, set())
        self._facts.forget(workloads, services)
        links = {
            *affected.links,
            *(
                (service, workload)
                for workload in affected.workloads
                for service in self._fronts(workload)
            ),
        }
        # All views have the same names of services: tens of thousands of them, kept once.
        fronts = {
            name: service_node(self._cluster, name) for name in {*services, *(s for s, _ in links)}
        }
        apps = {name: self._apps(name, affected) for name in {*workloads, *(w for _, w in links)}}
        for shown in self._views:
            view = shown.view
            shown.stale_nodes.update(fronts[name] for name in services)
            own = {
                name: [self._own(view, name, app) for app in apps_of]
                for name, apps_of in apps.items()
            }
            for name in workloads:
                shown.stale_nodes.update(own[name])
            for app_name in dirty.apps:
                shown.stale_nodes |= self._of_app(shown, app_name)
            if view is not View.SERVICE:
                shown.stale_edges.update(
                    (fronts[service], node, IDLE)
                    for service, workload in links
                    for node in own[workload]
                )
        self._annotated(affected)

    def _fronts(self, workload: Name) -> set[Name]:
        return self._catalog.fronts.get(workload, set())

    def _of_app(self, shown: ViewGraph, app: Name) -> set[NodeKey]:
        """Nodes of an app's workloads, those of telemetry alone among them."""
        found = {
            self._own(shown.view, (app[0], workload), app[1])
            for workload in self._catalog.apps.get(app, ())
        }
        in_view = self._traffic.views[shown.view]
        found |= {
            node
            for index in (in_view.ins, in_view.outs)
            for node in index
            if node[0] != SERVICE and node[2] == app[0]
        }
        return found

    def _annotated(self, affected: Affected) -> None:
        """Marks edges stale whose health depends on annotations that changed at their ends."""
        for shown in self._views:
            in_view = self._traffic.views[shown.view]
            nodes = [service_node(self._cluster, name) for name in affected.redefined]
            for name, before in affected.workloads.items():
                after = self._catalog.workloads.get(name)
                if before and after and _notes(before) == _notes(after):
                    continue
                nodes += [self._own(shown.view, name, app) for app in self._apps(name, affected)]
            for node in nodes:
                shown.stale_edges |= in_view.ins.get(node, set())
                shown.stale_edges |= in_view.outs.get(node, set())

    # --- items ----------------------------------------------------------------------------------

    def _all_changes(self) -> Parts:
        parts: dict[str, Mapping[str, Item | None]] = {}
        for step in self._changes():
            parts |= step
        return parts

    def _changes(self) -> Iterator[Parts]:
        """Makes the stale items, a part at a time."""
        moment, makers = self._moment, self._makers()
        for shown in self._views:
            for of in (NODES, EDGES):
                if moment != self._moment:
                    moment, makers = self._moment, self._makers()
                nodes, figures = makers
                if of == NODES:
                    view = shown.view
                    shown.follow_traffic(self._traffic.views[view], self._traffic.touched[view])
                    changes = shown.node_changes(nodes)
                else:
                    changes = shown.edge_changes(EdgeMaker(shown.view, nodes, figures))
                if changes:
                    yield {part_of(shown.view, of): changes}
        self._facts.trim()

    def _makers(self) -> tuple[NodeMaker, FiguresOf]:
        """The makers that views share until the next change."""
        return NodeMaker(self._cluster, self._catalog, self._facts, self._traffic), {}


def _notes(workload: MeshWorkload) -> tuple[str, str | None]:
    return workload.app, workload.annotations.get(ANNOTATION)
