"""The data of a node: Kiali's fields, from the catalog, the configuration and the traffic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.topology.feed.deltas import View
from services.topology.graph.catalog import Catalog, MeshWorkload
from services.topology.graph.facts import Facts, StandingHealth, merged, notes_of
from services.topology.graph.health import (
    Limits,
    Status,
    of_proxies,
    of_replicas,
    of_requests,
    tolerances,
    worst,
)
from services.topology.graph.ids import (
    APP,
    NOBODY,
    SERVICE,
    UNKNOWN,
    VERSIONED,
    WORKLOAD,
    NodeKey,
    app_of,
    node_id,
    peer_node,
    workload_form,
)
from services.topology.graph.loads import Load, node_traffic, requests
from services.topology.graph.traffic import Traffic
from services.topology.telemetry.traffic import Peer

Data = dict[str, Any]
_TYPES = {
    WORKLOAD: "workload",
    APP: "app",
    VERSIONED: "app",
    SERVICE: "service",
    NOBODY: "unknown",
}


@dataclass(slots=True)
class NodeTraffic:
    """Sums of a node's traffic; several views have the same."""

    traffic: list[Data]
    inbound: Data
    outbound: Data
    statuses: dict[Limits, Status] = field(default_factory=dict)


_IDLE = NodeTraffic([], {}, {})


@dataclass(slots=True)
class NodeMaker:
    """Makes nodes of one state; what views have in common is worked out once, so a maker is good
    until something changes."""

    cluster: str
    catalog: Catalog
    facts: Facts
    traffic: Traffic
    _busy: dict[tuple[frozenset[Load], frozenset[Load]], NodeTraffic] = field(default_factory=dict)
    _whole: dict[tuple[NodeKey, bool, frozenset[Load], frozenset[Load]], Data] = field(
        default_factory=dict
    )

    # --- what a node stands for -----------------------------------------------------------------

    def workloads(self, view: View, key: NodeKey) -> list[MeshWorkload]:
        """Workloads of this cluster behind a node. A node of another form than the view's own
        stands for something that telemetry does not name in full."""
        form, cluster, space, name = key
        if cluster != self.cluster or form != workload_form(view):
            return []
        if form == APP:
            return self.catalog.members((space, name))
        workload = self.catalog.workloads.get((space, name))
        return [workload] if workload is not None else []

    def is_service(self, key: NodeKey) -> bool:
        return key[0] == SERVICE and key[1] == self.cluster and self.catalog.is_service(key[2:4])

    def exists(self, view: View, key: NodeKey) -> bool:
        """Whether a view has a node, by objects or by traffic."""
        in_view = self.traffic.views[view]
        if key in in_view.ins or key in in_view.outs or self.is_service(key):
            return True
        return view is not View.SERVICE and bool(self.workloads(view, key))

    def app(self, view: View, key: NodeKey) -> str:
        """The app whose box a node belongs into; "" for none."""
        if key[0] == APP:
            return key[3]
        if key[0] == SERVICE:
            return self._app_of_service(key)
        workloads = self.workloads(view, key)
        if workloads:
            return workloads[0].app
        return app_of(self.peer(view, key))

    def _app_of_service(self, key: NodeKey) -> str:
        """That of the workloads that it selects, when they have one in common."""
        if key[1] != self.cluster:
            return ""
        selected = self.catalog.selected.get((key[2], key[3]), ())
        apps = {self.catalog.workloads[workload].app for workload in selected}
        return apps.pop() if len(apps) == 1 else ""

    def peer(self, view: View, key: NodeKey) -> Peer:
        """The peer by which telemetry names a workload that the cluster does not have."""
        in_view, traffic, found = self.traffic.views[view], self.traffic, []
        for load in in_view.into(key) | in_view.out_of(key):
            for peer in (load.key.source, load.key.destination):
                if peer_node(view, traffic.cluster_of(peer.cluster), peer) == key:
                    found.append(peer)
        return min(found, default=Peer())

    # --- data -----------------------------------------------------------------------------------

    def data(self, view: View, key: NodeKey, parent: NodeKey | None = None) -> Data:
        """The whole `data` of a node that exists."""
        in_view = self.traffic.views[view]
        ins, outs = in_view.into(key), in_view.out_of(key)
        if key[0] == SERVICE:
            # Three views have the same one.
            same = (key, view is View.SERVICE, ins, outs)
            rest = self._whole.get(same)
            if rest is None:
                rest = self._whole[same] = self._rest(view, key, ins, outs)
        else:
            rest = self._rest(view, key, ins, outs)
        if parent is None:
            return {"id": node_id(key), **rest}
        return {"id": node_id(key), "parent": node_id(parent), **rest}

    def _rest(self, view: View, key: NodeKey, ins: frozenset[Load], outs: frozenset[Load]) -> Data:
        form, cluster, space, name = key
        data: Data = {"nodeType": _TYPES[form], "cluster": cluster, "namespace": space}
        if form == NOBODY:
            data |= {"namespace": UNKNOWN, "workload": UNKNOWN, "app": UNKNOWN}
            data |= {"version": UNKNOWN, "healthData": None}
        elif form == SERVICE:
            app = self._app_of_service(key)
            data |= ({"app": app} if app else {}) | {"service": name, "healthData": None}
            if cluster == self.cluster:
                data |= self.facts.service((space, name))
        else:
            data |= self._workload(view, key)
        if cluster != self.cluster:
            data["isOutside"] = True
        if ins or outs:
            self._add_traffic(view, key, data, ins, outs)
        else:
            data["isIdle"] = True
        health = data["healthData"]
        if form != NOBODY and (health is not None or ins or outs):
            data["healthData"] = self._health(health or StandingHealth(), ins, outs)
        return data

    def _add_traffic(
        self, view: View, key: NodeKey, data: Data, ins: frozenset[Load], outs: frozenset[Load]
    ) -> None:
        data["traffic"] = self._busy_of(ins, outs).traffic
        if not ins:
            data["isRoot"] = True
        if key[0] != SERVICE:
            called = {load.called for load in ins} - {None}
            if called:
                data["destServices"] = [
                    {"cluster": cluster, "namespace": space, "name": name}
                    for _, cluster, space, name in sorted(called)
                ]
        elif outs and view is not View.SERVICE:
            data["isInjected"] = True

    def _busy_of(self, ins: frozenset[Load], outs: frozenset[Load]) -> NodeTraffic:
        busy = self._busy.get((ins, outs))
        if busy is None:
            busy = NodeTraffic(node_traffic(ins, outs), requests(ins), requests(outs))
            self._busy[ins, outs] = busy
        return busy

    def _health(self, known: StandingHealth, ins: frozenset[Load], outs: frozenset[Load]) -> Data:
        """Requests and replicas, and the worst of both."""
        busy = self._busy_of(ins, outs) if ins or outs else _IDLE
        limits = tolerances(known.notes)
        status = busy.statuses.get(limits)
        if status is None:
            status = max(
                of_requests(busy.inbound, limits), of_requests(busy.outbound, limits, "outbound")
            )
            busy.statuses[limits] = status
        return {
            "status": max(status, known.status).text,
            **known.replicas,
            "requests": {
                "inbound": busy.inbound,
                "outbound": busy.outbound,
                "healthAnnotations": known.notes,
            },
        }

    # --- workloads ------------------------------------------------------------------------------

    def _workload(self, view: View, key: NodeKey) -> Data:
        form, _, space, name = key
        workloads = self.workloads(view, key)
        if not workloads:
            peer = self.peer(view, key)
            app = name if form == APP else app_of(peer)
            data: Data = {"app": app} if form == APP else _named(peer.workload, app, peer.version)
            entries = self.facts.entries((space, app), "" if form == APP else peer.version)
            return data | {"healthData": None} | entries
        facts = [self.facts.workload(workload) for workload in workloads]
        status = worst(
            max(
                of_replicas(workload.wanted, workload.ready),
                of_proxies(bool(workload.troubled_proxies)),
            )
            for workload in workloads
        )
        replicas = [_replicas(workload) for workload in workloads]
        if form == APP:
            data = {"app": name, **merged([fact.data for fact in facts])}
            known = StandingHealth(status, {"workloadStatuses": replicas}, notes_of(workloads))
            breaks, version = any(fact.breaks for fact in facts), ""
        else:
            (workload,), (fact,) = workloads, facts
            data = _named(workload.name, workload.app, workload.version) | fact.data
            known = StandingHealth(status, {"workloadStatus": replicas[0]}, notes_of(workloads))
            # Kiali puts no circuit breaker on workloads, since these are of services.
            breaks, version = fact.breaks_version and form == VERSIONED, workload.version
        if breaks:
            data["hasCB"] = True
        entries = self.facts.entries((space, workloads[0].app), version)
        return data | {"healthData": known} | entries


def _replicas(workload: MeshWorkload) -> Data:
    return {
        "name": workload.name,
        "desiredReplicas": workload.wanted,
        "currentReplicas": workload.pods,
        "availableReplicas": workload.ready,
        "syncedProxies": workload.synced_proxies,
    }


def _named(workload: str, app: str, version: str) -> Data:
    found = {"workload": workload, "app": app, "version": version}
    return {name: value for name, value in found.items() if value}
