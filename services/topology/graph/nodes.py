"""The data of a node: Kiali's fields, from the catalog, the configuration and the traffic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.topology import kinds
from services.topology.feeds import View
from services.topology.graph.catalog import Catalog, hosts_of
from services.topology.graph.configuration import Configuration
from services.topology.graph.health import (
    Limits,
    Status,
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
    Name,
    NodeKey,
    app_of,
    node_id,
    peer_node,
)
from services.topology.graph.loads import Load, node_traffic, requests
from services.topology.graph.roads import Roads
from services.topology.graph.routing import ROUTING, badges, breaks_circuits
from services.topology.graph.scopes import GATEWAY_NAME
from services.topology.graph.units import Unit
from services.topology.objects import Config, Key, Labels
from services.topology.traffic import Peer

Data = dict[str, Any]
_TYPES = {
    WORKLOAD: "workload",
    APP: "app",
    VERSIONED: "app",
    SERVICE: "service",
    NOBODY: "unknown",
}
_MANAGED = "gateway.istio.io/managed"
_WAYPOINT = "istio.io-mesh-controller"
_EGRESS = ("egressgateway", "EgressGateways")
_HASH = "pod-template-hash"


@dataclass(slots=True)
class Busy:
    """What flows in and out of a node come to; several views have the same."""

    traffic: list[Data]
    inbound: Data
    outbound: Data
    statuses: dict[Limits, Status] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """Health without traffic: replicas, and the annotations that set tolerances."""

    status: Status = Status.NA
    replicas: Data = field(default_factory=dict)
    notes: Labels = field(default_factory=dict)


_IDLE = Busy([], {}, {})


@dataclass(slots=True)
class Nodes:
    """Makes nodes of one state; what views have in common is worked out once, so a maker is good
    until something changes."""

    cluster: str
    catalog: Catalog
    configuration: Configuration
    roads: Roads
    _services: dict[Name, Data] = field(default_factory=dict)
    _units: dict[Name, Data] = field(default_factory=dict)
    _rules: dict[Name, list[Config]] = field(default_factory=dict)
    """DestinationRules of a workload's services."""
    _busy: dict[tuple[frozenset[Load], frozenset[Load]], Busy] = field(default_factory=dict)
    _whole: dict[tuple[NodeKey, bool, frozenset[Load], frozenset[Load]], Data] = field(
        default_factory=dict
    )

    # --- what a node stands for -----------------------------------------------------------------

    def units(self, key: NodeKey) -> list[Unit]:
        """Workloads of this cluster behind a node."""
        form, cluster, space, name = key
        if cluster != self.cluster:
            return []
        if form == APP:
            return self.catalog.members((space, name))
        if form in (WORKLOAD, VERSIONED):
            unit = self.catalog.units.get((space, name))
            return [unit] if unit is not None else []
        return []

    def is_service(self, key: NodeKey) -> bool:
        return key[0] == SERVICE and key[1] == self.cluster and self.catalog.is_service(key[2:4])

    def exists(self, view: View, key: NodeKey) -> bool:
        """Whether a view has a node, by what is there or by traffic."""
        road = self.roads.views[view]
        if key in road.ins or key in road.outs or self.is_service(key):
            return True
        return view is not View.SERVICE and bool(self.units(key))

    def app(self, view: View, key: NodeKey) -> str:
        """The app whose box a node belongs into; "" for none."""
        if key[0] == APP:
            return key[3]
        if key[0] == SERVICE:
            return self._app_of_service(key)
        units = self.units(key)
        if units:
            return units[0].app
        return app_of(self.peer(view, key))

    def _app_of_service(self, key: NodeKey) -> str:
        """That of the workloads that it selects, when they have one in common."""
        if key[1] != self.cluster:
            return ""
        selected = self.catalog.selected.get((key[2], key[3]), ())
        apps = {self.catalog.units[unit].app for unit in selected}
        return apps.pop() if len(apps) == 1 else ""

    def peer(self, view: View, key: NodeKey) -> Peer:
        """What telemetry says about a workload that the cluster does not have."""
        road, roads, found = self.roads.views[view], self.roads, []
        for load in road.into(key) | road.out_of(key):
            for peer in (load.key.source, load.key.destination):
                if peer_node(view, roads.cluster_of(peer.cluster), peer) == key:
                    found.append(peer)
        return min(found, default=Peer())

    # --- data -----------------------------------------------------------------------------------

    def data(self, view: View, key: NodeKey, parent: NodeKey | None = None) -> Data:
        """The whole `data` of a node that exists."""
        road = self.roads.views[view]
        ins, outs = road.into(key), road.out_of(key)
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
                data |= self._service((space, name))
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
            data["healthData"] = self._health(health or Known(), ins, outs)
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

    def _busy_of(self, ins: frozenset[Load], outs: frozenset[Load]) -> Busy:
        busy = self._busy.get((ins, outs))
        if busy is None:
            busy = Busy(node_traffic(ins, outs), requests(ins), requests(outs))
            self._busy[ins, outs] = busy
        return busy

    def _health(self, known: Known, ins: frozenset[Load], outs: frozenset[Load]) -> Data:
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
            "status": max(status, known.status).told,
            **known.replicas,
            "requests": {
                "inbound": busy.inbound,
                "outbound": busy.outbound,
                "healthAnnotations": known.notes,
            },
        }

    # --- services -------------------------------------------------------------------------------

    def _service(self, name: Name) -> Data:
        found = self._services.get(name)
        if found is None:
            found = self._services[name] = self._service_facts(name)
        return found

    def _service_facts(self, name: Name) -> Data:
        service, entry = self.catalog.service(name), self.catalog.entry(name)
        if service is None and entry is None:
            return {}
        annotations = (service or entry).annotations  # type: ignore[union-attr]
        data: Data = {"healthData": Known(notes=_health_notes(annotations))}
        labels = dict(service.labels) if service is not None else {}
        if labels:
            data["labels"] = labels
        if service is not None:
            if service.type != "ExternalName" and not self.catalog.ready_endpoints(name):
                data["isDead"] = entry is None
            if labels.get("istio.io/ingress-use-waypoint") == "true":
                data["hasIngressWaypoint"] = True
            if labels.get(_MANAGED, "").startswith(_WAYPOINT):
                data["isWaypoint"] = True
            if GATEWAY_NAME in labels:
                data["isK8sGatewayAPI"] = True
        if entry is not None:
            data["isServiceEntry"] = {
                "hosts": sorted(hosts_of(entry)),
                "location": str(entry.spec.get("location") or "MESH_EXTERNAL"),
                "namespace": entry.namespace,
            }
        acting = self.configuration.on_service(name)
        configs = [c for key in sorted(acting) if (c := self.catalog.state.at(key)) is not None]
        for config in configs:
            _merge(data, self._badges(config))
        data["configs"] = _configs(acting)
        return {k: v for k, v in data.items() if v or k == "healthData"}

    def _badges(self, config: Config) -> Data:
        if config.key.kind == kinds.DESTINATION_RULE:
            return {"hasCB": True} if breaks_circuits(config, None) else {}
        return badges(config) if config.key.kind in ROUTING else {}

    # --- workloads ------------------------------------------------------------------------------

    def _workload(self, view: View, key: NodeKey) -> Data:
        form, _, space, name = key
        units = self.units(key)
        if not units:
            peer = self.peer(view, key)
            app = name if form == APP else app_of(peer)
            data: Data = {"app": app} if form == APP else _named(peer.workload, app, peer.version)
            entries = self._entries((space, app), "" if form == APP else peer.version)
            return data | {"healthData": None} | entries
        facts = [self._unit(unit) for unit in units]
        if form == APP:
            data = {"app": name, **_merged(facts)}
            replicas: Data = {"workloadStatuses": [_replicas(unit) for unit in units]}
        else:
            unit = units[0]
            data = _named(unit.name, unit.app, unit.version) | facts[0]
            replicas = {"workloadStatus": _replicas(unit)}
        notes = [note for unit in units if (note := _health_notes(unit.annotations))]
        status = worst(of_replicas(unit.wanted, unit.ready) for unit in units)
        health = Known(status, replicas, notes[0] if notes else {})
        version = "" if form == APP else units[0].version
        if form != WORKLOAD and any(
            self._breaks(unit, with_version=bool(version)) for unit in units
        ):
            data["hasCB"] = True
        return data | {"healthData": health} | self._entries((space, units[0].app), version)

    def _breaks(self, unit: Unit, *, with_version: bool) -> bool:
        """Whether connections to a workload are limited, or to any version of its services."""
        rules = self._rules.get(unit.key)
        if rules is None:
            services = sorted(self.catalog.fronts.get(unit.key, ()))
            rules = [rule for name in services for rule in self.configuration.rules_on(name)]
            self._rules[unit.key] = rules
        version = unit.version if with_version else None
        return any(breaks_circuits(rule, version) for rule in rules)

    def _entries(self, app: Name, version: str) -> Data:
        """WorkloadEntries of an app, with a version those of it."""
        keys = sorted(self.configuration.entries.get(app, ()))
        found = [
            {"name": key.name}
            for key in keys
            if (entry := self.catalog.state.at(key)) is not None
            and version in ("", entry.spec["labels"].get("version") or "latest")
        ]
        return {"hasWorkloadEntry": found} if found else {}

    def _unit(self, unit: Unit) -> Data:
        found = self._units.get(unit.key)
        if found is None:
            found = self._units[unit.key] = self._unit_facts(unit)
        return found

    def _unit_facts(self, unit: Unit) -> Data:
        labels = {k: v for k, v in unit.labels.items() if k != _HASH}
        acting = set(self.configuration.scopes.on_workload(unit.namespace, unit.labels))
        data: Data = {
            "labels": labels,
            "isDead": unit.pods == 0,
            "isOutOfMesh": unit.without_proxy > 0,
            "isAmbient": unit.is_ambient,
            "isGateway": self._gateway(unit, acting),
            "isWaypoint": labels.get(_MANAGED, "").startswith(_WAYPOINT),
            "isK8sGatewayAPI": GATEWAY_NAME in labels,
            "configs": _configs(acting),
        }
        return {k: v for k, v in data.items() if v}

    def _gateway(self, unit: Unit, acting: Iterable[Key]) -> Data:
        hosts: dict[str, set[str]] = {}
        for key in acting:
            config: Config | None = self.catalog.state.at(key)
            if config is None or key.kind not in (kinds.GATEWAY, kinds.K8S_GATEWAY):
                continue
            if key.kind == kinds.K8S_GATEWAY:
                listeners = config.spec.get("listeners") or ()
                found = {str(entry.get("hostname") or "*") for entry in listeners}
                hosts.setdefault("gatewayAPIInfo", set()).update(found)
                continue
            egress = unit.labels.get("istio"), unit.labels.get("operator.istio.io/component")
            kind = "egressInfo" if any(name in _EGRESS for name in egress) else "ingressInfo"
            hosts.setdefault(kind, set())
            for server in config.spec.get("servers") or ():
                found = {str(host) for host in server.get("hosts") or ()}
                hosts.setdefault(kind, set()).update(found)
        return {kind: {"hostnames": sorted(names)} for kind, names in sorted(hosts.items())}


def _replicas(unit: Unit) -> Data:
    return {
        "name": unit.name,
        "desiredReplicas": unit.wanted,
        "currentReplicas": unit.pods,
        "availableReplicas": unit.ready,
    }


def _named(workload: str, app: str, version: str) -> Data:
    found = {"workload": workload, "app": app, "version": version}
    return {name: value for name, value in found.items() if value}


def _configs(keys: Iterable[Key]) -> list[Data]:
    """Objects as the side panel lists them; the group tells apart two kinds of Gateway."""
    return [
        {
            "kind": kinds.short(key.kind),
            "group": key.kind.partition("/")[0],
            "namespace": key.namespace,
            "name": key.name,
        }
        for key in sorted(keys)
    ]


def _health_notes(annotations: Labels) -> dict[str, str]:
    return {k: v for k, v in annotations.items() if k.startswith("health.kiali.io/")}


def _merge(data: Data, more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if name == "hasVS" and name in data:
            names = {*data[name]["hostnames"], *value["hostnames"]}
            data[name] = {"hostnames": sorted(names)}
        else:
            data[name] = value


def _merged(facts: Sequence[Data]) -> Data:
    """Facts of an app whose workloads have these."""
    if len(facts) == 1:
        return facts[0]
    labels: dict[str, set[str]] = {}
    configs: dict[tuple[str, ...], Data] = {}
    data: Data = {}
    for fact in facts:
        for name, value in fact.get("labels", {}).items():
            labels.setdefault(name, set()).add(value)
        configs |= {tuple(config.values()): config for config in fact.get("configs", ())}
        data |= {k: v for k, v in fact.items() if k not in ("labels", "configs", "isDead")}
    found = {
        "labels": {name: ",".join(sorted(values)) for name, values in sorted(labels.items())},
        **dict(sorted(data.items())),
        "isDead": all(fact.get("isDead") for fact in facts),
        "configs": [configs[key] for key in sorted(configs)],
    }
    return {k: v for k, v in found.items() if v}
