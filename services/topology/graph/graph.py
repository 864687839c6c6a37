"""The graph of one cluster in all four of Kiali's views, changed in place.

A change goes through three stages: the catalog and the configuration say which things it touches,
each view turns these into nodes and edges, and each of them is made anew and told if it differs
from what was told last. Of that only a hash is kept: whoever follows has the items.
Rejected: items computed from a record of what was read, as the analysis does; tens of thousands of
nodes with ten marks each take more memory than the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from services.topology import kinds
from services.topology.feeds import EDGES, NODES, Item, Parts, View, part_of
from services.topology.graph.boxes import Boxes, box_data
from services.topology.graph.catalog import Catalog, Stirred
from services.topology.graph.configuration import Configuration, Dirty
from services.topology.graph.edges import IDLE, PROTOCOLS, Edges, Figures, Wires
from services.topology.graph.health import ANNOTATION, Limits
from services.topology.graph.ids import (
    BOX,
    SERVICE,
    EdgeKey,
    Name,
    NodeKey,
    edge_id,
    node_id,
    service_node,
    workload_node,
)
from services.topology.graph.loads import Load
from services.topology.graph.nodes import Nodes
from services.topology.graph.roads import Roads
from services.topology.graph.scopes import SCOPED
from services.topology.graph.units import Unit
from services.topology.objects import Change, Config
from services.topology.state import State
from services.topology.traffic import Flows

K = TypeVar("K", NodeKey, EdgeKey)

_BOXED = (View.APP, View.VERSIONED_APP)
SYSTEM_NAMESPACE = "istio-system"
_DEFAULT_CLUSTER = "Kubernetes"


@dataclass(slots=True)
class _Shown:
    """One view: what was told last, by hash, and what belongs to this view alone."""

    view: View
    wires: Wires
    boxes: Boxes = field(default_factory=Boxes)
    nodes: dict[NodeKey, int] = field(default_factory=dict)
    edges: dict[EdgeKey, int] = field(default_factory=dict)
    stale_nodes: set[NodeKey] = field(default_factory=set)
    stale_edges: set[EdgeKey] = field(default_factory=set)


class Graph:
    """Nodes and edges of a cluster; `changed` and `flows` return what is different after them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._cluster = state.name or state.cluster
        self._catalog = Catalog(state)
        self._configuration = Configuration(self._catalog, _root(state))
        self._roads = Roads(self._catalog, self._cluster, self._aliases())
        self._views = [_Shown(view, Wires(view, self._cluster)) for view in View]

    # --- changes --------------------------------------------------------------------------------

    def changed(self, changes: Sequence[Change]) -> Parts:
        """Takes over changes that the state has already."""
        dirty = Dirty()
        rooted = [change for change in changes if change.key.kind == kinds.CONFIG_MAP]
        self._configuration.changed(changes, dirty)
        stirred = self._catalog.changed(changes)
        self._configuration.stirred(stirred, dirty)
        if rooted:
            self._settings(dirty)
        for key in dirty.due:
            self._configuration.work_out(key)
            for shown in self._views:
                edges = shown.wires.put(key, self._configuration)
                shown.stale_edges |= edges
                if shown.view is View.SERVICE:
                    # Others have their nodes anyway.
                    shown.stale_nodes.update(node for edge in edges for node in edge[:2])
        regrouped = [self._own(View.WORKLOAD, name) for name in stirred.regrouped]
        self._roads.again(stirred.hosts, regrouped)
        self._spread(stirred, dirty)
        return self._tell()

    def flows(self, flows: Flows) -> Parts:
        """Takes over telemetry in place of what there was before."""
        self._roads.flows(flows)
        return self._tell()

    def info(self) -> dict[str, Any]:
        """How much there is."""
        return {
            "nodes": {shown.view.value: len(shown.nodes) for shown in self._views},
            "edges": {shown.view.value: len(shown.edges) for shown in self._views},
            "namespaces": self.state.count(kinds.NAMESPACE),
        }

    def _settings(self, dirty: Dirty) -> None:
        """The mesh's own settings: the one change that may touch everything."""
        root = _root(self.state)
        if root != self._configuration.root:
            self._configuration.root = root
            objects = [found for kind in SCOPED for found in self.state.all(kind)]
            self._configuration.changed([Change(o.key, o, o) for o in objects], dirty)
        aliases = self._aliases()
        if aliases != self._roads.aliases:
            self._roads.renamed(aliases)

    def _aliases(self) -> frozenset[str]:
        """Names by which telemetry may call this cluster."""
        found = self.state.get(kinds.CONFIG_MAP, SYSTEM_NAMESPACE, "istio-sidecar-injector")
        name = _DEFAULT_CLUSTER
        values: Any = found.spec.get("values") if found is not None else None
        for step in ("global", "multiCluster", "clusterName"):
            values = values.get(step) if isinstance(values, dict) else None
        if isinstance(values, str) and values:
            name = values
        return frozenset((self.state.name, self.state.cluster, name)) - {""}

    # --- from things to nodes and edges ---------------------------------------------------------

    def _own(self, view: View, name: Name, app: str = "") -> NodeKey:
        return workload_node(view, self._cluster, name, app)

    def _apps(self, name: Name, stirred: Stirred) -> set[str]:
        """Apps of a workload, now and before."""
        sides = (self._catalog.units.get(name), stirred.units.get(name))
        return {unit.app for unit in sides if unit is not None}

    def _spread(self, stirred: Stirred, dirty: Dirty) -> None:
        units = {*dirty.units, *stirred.units, *stirred.regrouped}
        services = {*dirty.services, *stirred.services}
        for name in stirred.units:
            # Its app is on their nodes.
            services |= self._fronts(name)
        for name in stirred.redefined:
            units |= self._catalog.selected.get(name, set())
        links = {
            *stirred.links,
            *((service, unit) for unit in stirred.units for service in self._fronts(unit)),
        }
        for shown in self._views:
            view = shown.view
            shown.stale_nodes.update(service_node(self._cluster, name) for name in services)
            for name in units:
                for app in self._apps(name, stirred):
                    shown.stale_nodes.add(self._own(view, name, app))
            for app_name in dirty.apps:
                shown.stale_nodes |= self._of_app(shown, app_name)
            if view is not View.SERVICE:
                shown.stale_edges.update(
                    (service_node(self._cluster, service), self._own(view, unit, app), IDLE)
                    for service, unit in links
                    for app in self._apps(unit, stirred)
                )
        self._annotated(stirred)

    def _fronts(self, unit: Name) -> set[Name]:
        return self._catalog.fronts.get(unit, set())

    def _of_app(self, shown: _Shown, app: Name) -> set[NodeKey]:
        """Nodes of an app's workloads, those of telemetry alone among them."""
        found = {
            self._own(shown.view, (app[0], unit), app[1])
            for unit in self._catalog.apps.get(app, ())
        }
        road = self._roads.views[shown.view]
        found |= {
            node
            for index in (road.ins, road.outs)
            for node in index
            if node[0] != SERVICE and node[2] == app[0]
        }
        return found

    def _annotated(self, stirred: Stirred) -> None:
        """Health of edges depends on the annotations of what stands at their ends."""
        for shown in self._views:
            road = self._roads.views[shown.view]
            nodes = [service_node(self._cluster, name) for name in stirred.redefined]
            for name, before in stirred.units.items():
                after = self._catalog.units.get(name)
                if before and after and _notes(before) == _notes(after):
                    continue
                nodes += [self._own(shown.view, name, app) for app in self._apps(name, stirred)]
            for node in nodes:
                shown.stale_edges |= road.ins.get(node, set())
                shown.stale_edges |= road.outs.get(node, set())

    # --- items ----------------------------------------------------------------------------------

    def _tell(self) -> Parts:
        maker = Nodes(self._cluster, self._catalog, self._configuration, self._roads)
        figures: dict[tuple[frozenset[Load], Limits, Limits], Figures] = {}
        parts: dict[str, dict[str, Item | None]] = {}
        for shown in self._views:
            self._follow_traffic(shown)
            told = self._tell_nodes(shown, maker)
            if told:
                parts[part_of(shown.view, NODES)] = told
            told = self._tell_edges(shown, Edges(shown.view, maker, figures))
            if told:
                parts[part_of(shown.view, EDGES)] = told
        return parts

    def _follow_traffic(self, shown: _Shown) -> None:
        """From edges whose flows changed to all that shows it: their ends, the shares of the
        source's other edges, idle edges that come and go."""
        road, touched = self._roads.views[shown.view], self._roads.touched[shown.view]
        sources = set()
        for key in touched:
            sources.add(key[0])
            shown.stale_nodes.update(key[:2])
            if key[0][0] == SERVICE:
                shown.stale_edges.add((key[0], key[1], IDLE))
        shown.stale_edges |= touched
        for source in sources:
            shown.stale_edges |= road.outs.get(source, set())
        touched.clear()

    def _tell_nodes(self, shown: _Shown, maker: Nodes) -> dict[str, Item | None]:
        view, stale = shown.view, shown.stale_nodes
        exists = {key: self._exists(shown, maker, key) for key in stale}
        if view in _BOXED:
            for key, is_there in exists.items():
                stale |= shown.boxes.put(key, maker.app(view, key) if is_there else "")
        told: dict[str, Item | None] = {}
        for key in stale:
            item: Item | None = None
            if key[0] == BOX:
                item = box_data(key) if shown.boxes.exists(key) else None
            elif exists.get(key, True):
                item = maker.data(view, key, shown.boxes.parent(key))
            if _is_news(shown.nodes, key, item):
                told[node_id(key) if item is None else item["id"]] = item
        stale.clear()
        return told

    def _exists(self, shown: _Shown, maker: Nodes, key: NodeKey) -> bool:
        if maker.exists(shown.view, key):
            return True
        return shown.view is View.SERVICE and key in shown.wires.ends and bool(maker.units(key))

    def _tell_edges(self, shown: _Shown, maker: Edges) -> dict[str, Item | None]:
        told: dict[str, Item | None] = {}
        for key in shown.stale_edges:
            if key[2] == IDLE:
                item = maker.idle(key)
            elif key[2] in PROTOCOLS:
                item = maker.traffic(key)
            else:
                item = shown.wires.data(key)
            if _is_news(shown.edges, key, item):
                told[edge_id(key) if item is None else item["id"]] = item
        shown.stale_edges.clear()
        return told


def _is_news(known: dict[K, int], key: K, item: Item | None) -> bool:
    """Whether an item differs from what was told last; it is told now."""
    if item is None:
        return known.pop(key, None) is not None
    digest = hash(orjson.dumps(item))
    if known.get(key) == digest:
        return False
    known[key] = digest
    return True


def _notes(unit: Unit) -> tuple[str, str | None]:
    return unit.app, unit.annotations.get(ANNOTATION)


def _root(state: State) -> str:
    """The namespace whose policies act on the whole mesh."""
    found: Config | None = state.get(kinds.CONFIG_MAP, SYSTEM_NAMESPACE, "istio")
    mesh = found.spec.get("mesh") if found is not None else None
    root = mesh.get("rootNamespace") if isinstance(mesh, dict) else None
    return str(root or SYSTEM_NAMESPACE)
