"""Which configuration a request meets on its way: the answer to `mesh.topology.path`.

Worked out from the objects as istiod reads them, not from a proxy: it tells what should be, with no
access to pods, and what is missing for it. Asked rarely, so nothing is indexed for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.forms import mapping, mappings
from services.topology.cluster.hosts import covers, expanded, service_of
from services.topology.cluster.objects import Config, Endpoints, Key, Labels, Service, Workload
from services.topology.cluster.state import State, matches
from services.topology.mesh.membership import GATEWAY_NAME
from services.topology.mesh.meshes import Mesh, mesh_of
from services.topology.mesh.registry import destination, is_visible
from services.topology.mesh.routing import (
    ROUTING,
    Way,
    gateways,
    mesh_hosts,
    subsets_of,
    ways,
)
from services.topology.mesh.security import action_of, policies_for, selector_of, workload_mtls

_ORDER = ("CUSTOM", "DENY", "ALLOW", "AUDIT")
"""In which Istio's proxies evaluate authorization; AUDIT takes no decision."""
_DEFAULT_TLS = "auto"

Answer = dict[str, Any]


def explain(
    state: State, *, source: str | None, host: str, namespace: str, port: int | None
) -> Answer:
    """What applies to a request for `host` from `source`: a workload (`namespace/name`), or a
    gateway by the name of its workload or object; None is any client in `namespace`."""
    question = _Question(state, source, host, namespace, port)
    return question.answer()


@dataclass(slots=True)
class _Question:
    state: State
    source: str | None
    asked: str
    namespace: str
    port: int | None
    missing: list[str] = field(default_factory=list)
    mesh: Mesh = field(init=False)
    host: str = field(init=False)
    gateways: list[Key] = field(init=False)
    """Gateways that the source serves; none means that it is a client in the mesh."""

    def __post_init__(self) -> None:
        if self.source and "/" in self.source:
            self.namespace = self.source.partition("/")[0]
        self.mesh = mesh_of(self.state)
        self.host = expanded(self.asked, self.namespace)
        if service_of(self.host) is None and (short := self._with_namespace()):
            self.host = short
        self.gateways = self._gateways()

    def _with_namespace(self) -> str:
        """`reviews.prod` and `reviews.prod.svc`, as a client's resolver completes them, mean a
        Service only where there is one."""
        name, _, space = self.asked.removesuffix(".svc").partition(".")
        found = self.state.get(kinds.SERVICE, space, name) if space else None
        return found.host if found is not None else ""

    def answer(self) -> Answer:
        target = self._target(self.host)
        routing = self._routing(self.host)
        if target is None and routing is None:
            self.missing.append(f"no Service or ServiceEntry has the host {self.host}")
        if isinstance(target, Service) and self.port is not None:
            numbers = [port.number for port in target.ports]
            if self.port not in numbers:
                self.missing.append(f"{target.host} has no port {self.port}")
        if routing is not None:
            routes = [self._destination(way) for way in ways(routing)]
            if not routes:
                self.missing.append(f"{routing.key} routes nowhere")
        elif target is not None:
            routes = [self._destination(Way(path="", host=self.host, details={}))]
        else:
            routes = []
        return {
            "source": self.source,
            "namespace": self.namespace,
            "host": self.host,
            "port": self.port,
            "gateways": [_ref(key) for key in self.gateways],
            "service": self._service(target),
            "routing": _ref(routing.key) if routing is not None else None,
            "destinations": routes,
            "missing": self.missing,
        }

    # --- what applies, by istiod's rules of visibility and precedence -----------------------------

    def _target(self, host: str) -> Service | Config | None:
        """The Service or ServiceEntry behind a host; of several entries the oldest."""
        found = destination(self.state, host, self.namespace)
        if found is None:
            return None
        return found.service or found.entries[0]

    def _routing(self, host: str) -> Config | None:
        """The object whose routes apply: that with the narrowest host, of several the oldest.
        A VirtualService goes before routes of the Gateway API."""
        found = []
        for order, kind in enumerate(ROUTING):
            for config in self.state.all(kind):
                pattern = (
                    self._named_by(config, host) if is_visible(config, self.namespace) else None
                )
                if pattern is not None:
                    width = (pattern.startswith("*"), -len(pattern))
                    found.append(((order > 0, *width, config.created, config.key), config))
        return min(found, key=lambda entry: entry[0])[1] if found else None

    def _named_by(self, config: Config, host: str) -> str | None:
        """The narrowest of an object's hosts that means the one that is asked for."""
        hosts: Iterable[str] = mesh_hosts(config)
        if self.gateways:
            if not set(self.gateways) & set(gateways(config)):
                return None
            name = "hosts" if config.key.kind == kinds.VIRTUAL_SERVICE else "hostnames"
            hosts = [expanded(str(h), config.namespace) for h in config.spec.get(name) or ("*",)]
        patterns = [pattern for pattern in hosts if covers(pattern, host)]
        return min(patterns, key=lambda p: (p.startswith("*"), -len(p)), default=None)

    def _rule(self, host: str) -> Config | None:
        """The DestinationRule for a host: the client's namespace before the service's before the
        root namespace, and there the narrowest host."""
        name = service_of(host)
        spaces = (self.namespace, name[0] if name else "", self.mesh.root_namespace)
        for space in dict.fromkeys(spaces):
            rules: list[Config] = list(self.state.all(kinds.DESTINATION_RULE, space))
            found: list[tuple[tuple[bool, int, str, str], Config]] = []
            for rule in rules:
                pattern = expanded(str(rule.spec.get("host") or ""), space)
                if pattern and covers(pattern, host) and is_visible(rule, self.namespace):
                    width = (pattern.startswith("*"), -len(pattern), rule.created, rule.name)
                    found.append((width, rule))
            if found:
                return min(found, key=lambda entry: entry[0])[1]
        return None

    # --- where it goes --------------------------------------------------------------------------

    def _gateways(self) -> list[Key]:
        if not self.source:
            return []
        name = self.source.rpartition("/")[2]
        for kind in (kinds.GATEWAY, kinds.K8S_GATEWAY):
            if self.state.get(kind, self.namespace, name) is not None:
                return [Key(kind, self.namespace, name)]
        labels = self._labels(name)
        if labels is None:
            self.missing.append(f"no workload or gateway is called {self.namespace}/{name}")
            return []
        found = [
            gateway.key
            for gateway in self.state.all(kinds.GATEWAY)
            if (selector := selector_of(gateway)) and matches(selector, labels)
        ]
        gateway = self.state.get(kinds.K8S_GATEWAY, self.namespace, labels.get(GATEWAY_NAME, ""))
        return sorted([*found, *([gateway.key] if gateway is not None else [])])

    def _labels(self, name: str) -> Labels | None:
        """Of a workload's pods; a pod is a workload as well."""
        for kind in (*kinds.WORKLOADS, kinds.POD):
            found = self.state.get(kind, self.namespace, name)
            if found is not None:
                labels: Labels = found.pod_labels
                return labels
        return None

    # --- one destination ------------------------------------------------------------------------

    def _destination(self, way: Way) -> Answer:
        target, rule = self._target(way.host), self._rule(way.host)
        if target is None:
            self.missing.append(f"{way.path}: no Service or ServiceEntry has the host {way.host}")
        labels: Labels = {}
        subset = self._subset(rule, way)
        if subset is not None:
            labels = mapping(subset.get("labels"))
        policy = self._policy(rule, subset)
        workloads = self._workloads(target, labels)
        answer: Answer = {"path": way.path, "host": way.host, **way.details}
        if way.subset:
            answer["subset"] = {"name": way.subset, "labels": dict(labels)}
        answer |= {
            "service": self._service(target),
            "destinationRule": _ref(rule.key) if rule is not None else None,
            "trafficPolicy": policy,
            "clientTls": str(mapping(policy.get("tls")).get("mode") or _DEFAULT_TLS),
            "workloads": [self._workload(workload) for workload in workloads],
            "readyEndpoints": self._endpoints(target),
        }
        self._note_missing(way, target, workloads, answer)
        return answer

    def _note_missing(
        self, way: Way, target: Service | Config | None, workloads: list[Workload], answer: Answer
    ) -> None:
        if not isinstance(target, Service) or target.type == "ExternalName":
            return
        what = f"{way.host}{f' subset {way.subset}' if way.subset else ''}"
        if target.selector and not workloads:
            self.missing.append(f"no workload is behind {what}")
        if not answer["readyEndpoints"]:
            self.missing.append(f"{way.host} has no ready endpoint")
        for workload in answer["workloads"]:
            mode, client = workload["mtls"]["mode"], answer["clientTls"]
            if mode == "STRICT" and client in ("DISABLE", "SIMPLE"):
                self.missing.append(f"{what} demands mutual TLS, clients are told {client}")
            if mode == "DISABLE" and client in ("ISTIO_MUTUAL", "MUTUAL"):
                self.missing.append(f"{what} has no mutual TLS, clients are told {client}")

    def _subset(self, rule: Config | None, way: Way) -> Mapping[str, Any] | None:
        if not way.subset:
            return None
        if rule is None or way.subset not in subsets_of(rule):
            self.missing.append(f"no DestinationRule has the subset {way.subset} of {way.host}")
            return None
        found = mappings(rule.spec.get("subsets"))
        return next((entry for entry in found if entry.get("name") == way.subset), None)

    def _policy(self, rule: Config | None, subset: Mapping[str, Any] | None) -> Answer:
        """The subset's traffic policy over the rule's, field by field; then that of the port."""
        policy: Answer = dict(mapping(rule.spec.get("trafficPolicy") if rule is not None else None))
        policy |= mapping((subset or {}).get("trafficPolicy"))
        for entry in mappings(policy.pop("portLevelSettings", None)):
            if mapping(entry.get("port")).get("number") == self.port:
                policy |= {name: value for name, value in entry.items() if name != "port"}
        return policy

    def _workloads(self, target: Service | Config | None, labels: Labels) -> list[Workload]:
        selector: Labels = {}
        if isinstance(target, Service):
            selector = target.selector
        elif target is not None:
            selector = selector_of(target)
        if target is None or not selector:
            return []
        found = self.state.selected_workloads(target.namespace, selector)
        meant = (workload for workload in found if matches(labels, workload.pod_labels))
        return sorted(meant, key=lambda workload: workload.key)

    def _workload(self, workload: Workload) -> Answer:
        root = self.mesh.root_namespace
        labels, space = workload.pod_labels, workload.namespace
        mtls = workload_mtls(self.state, space, labels, root=root)
        return {
            "kind": kinds.short(workload.key.kind),
            "namespace": space,
            "name": workload.name,
            "wanted": workload.wanted,
            "ready": workload.ready,
            "mtls": {
                "mode": mtls.mode.value,
                "source": _ref(mtls.source) if mtls.source is not None else None,
                "ports": {str(port): mode.value for port, mode in mtls.ports},
            },
            "authorization": list(self._authorization(space, labels)),
        }

    def _authorization(self, space: str, labels: Labels) -> Iterator[Answer]:
        """Policies in the order in which they are evaluated."""
        policies = policies_for(self.state, space, labels, root=self.mesh.root_namespace)
        for policy in sorted(policies, key=lambda p: (_rank(action_of(p)), p.key)):
            rules = policy.spec.get("rules")
            yield {
                **_ref(policy.key),
                "action": action_of(policy),
                "rules": len(rules) if isinstance(rules, list) else 0,
            }

    def _endpoints(self, target: Service | Config | None) -> int | None:
        """Ready addresses; None where Kubernetes has none to count."""
        if not isinstance(target, Service):
            return None
        slices: Iterator[Endpoints] = self.state.all(kinds.ENDPOINTS, target.namespace)
        return sum(entry.ready for entry in slices if entry.service == target.name)

    def _service(self, target: Service | Config | None) -> Answer | None:
        if target is None:
            return None
        if isinstance(target, Service):
            return {**_ref(target.key), "ports": [port.number for port in target.ports]}
        ports = mappings(target.spec.get("ports"))
        return {**_ref(target.key), "ports": [port.get("number") for port in ports]}


def _rank(action: str) -> int:
    return _ORDER.index(action) if action in _ORDER else len(_ORDER)


def _ref(key: Key) -> Answer:
    group, _, kind = key.kind.partition("/")
    return {"kind": kind, "group": group, "namespace": key.namespace, "name": key.name}
