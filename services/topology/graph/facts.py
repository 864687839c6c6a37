"""The fields of nodes that do not depend on traffic: badges, labels, gateways, configuration.

Four views say it of the same things, and new telemetry changes none of it, so it is kept for the
things that are asked about often; what a change touches is forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key, Labels
from services.topology.graph.catalog import Catalog, MeshWorkload, hosts_of
from services.topology.graph.configuration import Configuration
from services.topology.graph.health import Status
from services.topology.graph.ids import Name
from services.topology.mesh.membership import GATEWAY_NAME, is_waypoint
from services.topology.mesh.routing import ROUTING, badges, breaks_circuits

Data = dict[str, Any]
_MOST_KEPT = 2_000
_EGRESS = ("egressgateway", "EgressGateways")
_HASH = "pod-template-hash"
_MERGED = ("labels", "configs", "isDead", "proxyStatus")
"""Facts of an app that its workloads' are put together for."""


@dataclass(frozen=True, slots=True)
class StandingHealth:
    """Health without traffic: replicas, and the annotations that set tolerances."""

    status: Status = Status.NA
    replicas: Data = field(default_factory=dict)
    notes: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    data: Data
    breaks: bool
    """Whether a DestinationRule of its services limits connections to any version."""
    breaks_version: bool
    """Or to its own version."""


@dataclass(slots=True)
class Facts:
    catalog: Catalog
    configuration: Configuration
    _services: dict[Name, Data] = field(default_factory=dict)
    _workloads: dict[Name, WorkloadFacts] = field(default_factory=dict)

    def forget(self, workloads: Iterable[Name], services: Iterable[Name]) -> None:
        for name in workloads:
            self._workloads.pop(name, None)
        for name in services:
            self._services.pop(name, None)

    def trim(self) -> None:
        """Empties the caches when they are too large. An LRU would evict each fact before its next
        use, as a pass over a large mesh asks for all of them once per view."""
        if len(self._workloads) > _MOST_KEPT:
            self._workloads.clear()
        if len(self._services) > _MOST_KEPT:
            self._services.clear()

    # --- services -------------------------------------------------------------------------------

    def service(self, name: Name) -> Data:
        """Of a Service or ServiceEntry, or of both where they share a name."""
        found = self._services.get(name)
        if found is None:
            found = self._services[name] = self._service(name)
        return found

    def _service(self, name: Name) -> Data:
        service, entry = self.catalog.service(name), self.catalog.entry(name)
        known = service or entry
        if known is None:
            return {}
        data: Data = {"healthData": StandingHealth(notes=_health_notes(known.annotations))}
        if service is not None:
            labels = service.labels
            is_alive = entry is not None or service.type == "ExternalName"
            data |= {
                "labels": dict(sorted(labels.items())),
                "isDead": not is_alive and not self.catalog.ready_endpoints(name),
                "hasIngressWaypoint": labels.get("istio.io/ingress-use-waypoint") == "true",
                "isWaypoint": is_waypoint(labels),
                "isK8sGatewayAPI": GATEWAY_NAME in labels,
            }
        if entry is not None:
            data["isServiceEntry"] = {
                "hosts": sorted(hosts_of(entry)),
                "location": str(entry.spec.get("location") or "MESH_EXTERNAL"),
                "namespace": entry.namespace,
            }
        acting = sorted(self.configuration.on_service(name))
        for key in acting:
            if (config := self.catalog.state.at(key)) is not None:
                _merge(data, _badges(config))
        data["configs"] = _configs(acting)
        return {k: v for k, v in data.items() if v}

    # --- workloads ------------------------------------------------------------------------------

    def workload(self, workload: MeshWorkload) -> WorkloadFacts:
        found = self._workloads.get(workload.key)
        if found is None:
            found = self._workloads[workload.key] = self._workload(workload)
        return found

    def _workload(self, workload: MeshWorkload) -> WorkloadFacts:
        labels = {k: v for k, v in sorted(workload.labels.items()) if k != _HASH}
        acting = sorted(self.configuration.scopes.on_workload(workload.namespace, workload.labels))
        data: Data = {
            "labels": labels,
            "isDead": workload.pods == 0,
            "isOutOfMesh": workload.without_proxy > 0,
            "isAmbient": workload.is_ambient,
            "isGateway": self._gateway(workload, acting),
            "isWaypoint": is_waypoint(labels),
            "isK8sGatewayAPI": GATEWAY_NAME in labels,
            "proxyStatus": {how.value: count for how, count in workload.troubled_proxies.items()},
            "configs": _configs(acting),
        }
        services = self.catalog.fronts.get(workload.key, ())
        rules = [rule for name in services for rule in self.configuration.rules_on(name)]
        return WorkloadFacts(
            {k: v for k, v in data.items() if v},
            breaks=any(breaks_circuits(rule, None) for rule in rules),
            breaks_version=any(breaks_circuits(rule, workload.version) for rule in rules),
        )

    def _gateway(self, workload: MeshWorkload, acting: Iterable[Key]) -> Data:
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
            egress = (
                workload.labels.get("istio"),
                workload.labels.get("operator.istio.io/component"),
            )
            kind = "egressInfo" if any(name in _EGRESS for name in egress) else "ingressInfo"
            hosts.setdefault(kind, set())
            for server in config.spec.get("servers") or ():
                hosts[kind].update(str(host) for host in server.get("hosts") or ())
        return {kind: {"hostnames": sorted(names)} for kind, names in sorted(hosts.items())}

    def entries(self, app: Name, version: str) -> Data:
        """WorkloadEntries of an app, with a version those of it."""
        keys = sorted(self.configuration.entries.get(app, ()))
        found = [
            {"name": key.name}
            for key in keys
            if (entry := self.catalog.state.at(key)) is not None
            and version in ("", (entry.spec.get("labels") or {}).get("version") or "latest")
        ]
        return {"hasWorkloadEntry": found} if found else {}


def notes_of(workloads: Sequence[MeshWorkload]) -> Labels:
    """Annotations about health, of the first workload that has any."""
    notes = [found for workload in workloads if (found := _health_notes(workload.annotations))]
    return notes[0] if notes else {}


def merged(facts: Sequence[Data]) -> Data:
    """Facts of an app whose workloads have these."""
    if len(facts) == 1:
        return facts[0]
    labels: dict[str, set[str]] = {}
    configs: dict[tuple[str, ...], Data] = {}
    proxies: Counter[str] = Counter()
    data: Data = {}
    for fact in facts:
        proxies.update(fact.get("proxyStatus", {}))
        for name, value in fact.get("labels", {}).items():
            labels.setdefault(name, set()).add(value)
        configs |= {tuple(config.values()): config for config in fact.get("configs", ())}
        data |= {k: v for k, v in fact.items() if k not in _MERGED}
    found = {
        "labels": {name: ",".join(sorted(values)) for name, values in sorted(labels.items())},
        **dict(sorted(data.items())),
        "isDead": all(fact.get("isDead") for fact in facts),
        "proxyStatus": dict(sorted(proxies.items())),
        "configs": [configs[key] for key in sorted(configs)],
    }
    return {k: v for k, v in found.items() if v}


def _badges(config: Config) -> Data:
    if config.key.kind == kinds.DESTINATION_RULE:
        return {"hasCB": True} if breaks_circuits(config, None) else {}
    return badges(config) if config.key.kind in ROUTING else {}


def _configs(keys: Iterable[Key]) -> list[Data]:
    """Objects as the side panel lists them; the group distinguishes the two kinds of Gateway."""
    return [
        {
            "kind": kinds.short(key.kind),
            "group": key.kind.partition("/")[0],
            "namespace": key.namespace,
            "name": key.name,
        }
        for key in keys
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
