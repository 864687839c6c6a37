"""Small clusters for tests of the graph: records as the watches make them, and a follower that
accumulates what a graph tells, as a client does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import (
    Change,
    Config,
    Container,
    Endpoints,
    Key,
    Object,
    Pod,
    Port,
    Service,
    Workload,
)
from services.topology.cluster.state import State
from services.topology.feed.deltas import EDGES, NODES, Parts, View, part_of
from services.topology.graph.graph import Graph
from services.topology.graph.ids import NodeKey, node_id
from services.topology.telemetry.traffic import Answers, Called, Flow, FlowKey, Peer, Protocol

CLUSTER = "east"
NS = "shop"
PROXY = (Container("app"), Container("istio-proxy"))
PLAIN = (Container("app"),)


def service(name: str, namespace: str = NS, **more: Any) -> Service:
    more = {"selector": {"app": name}, "ports": (Port(80),)} | more
    return Service(key=Key(kinds.SERVICE, namespace, name), **more)


def endpoints(name: str, ready: int = 1, namespace: str = NS, of: str = "") -> Endpoints:
    key = Key(kinds.ENDPOINTS, namespace, f"{name}-abc")
    return Endpoints(key=key, service=of or name, ready=ready)


def workload(
    name: str, app: str = "", version: str = "v1", namespace: str = NS, **more: Any
) -> Workload:
    labels = {"app": app or name, "version": version} | more.pop("labels", {})
    known: dict[str, Any] = {"wanted": 1, "ready": 1, "containers": PLAIN}
    return Workload(key=Key(kinds.DEPLOYMENT, namespace, name), pod_labels=labels, **(known | more))


def pod(of: Workload, number: int = 0, **more: Any) -> Pod:
    known: dict[str, Any] = {
        "labels": of.pod_labels,
        "pod_labels": of.pod_labels,
        "containers": PROXY,
        "owner": of.key,
        "phase": "Running",
        "is_ready": True,
    }
    return Pod(key=Key(kinds.POD, of.namespace, f"{of.name}-{number}"), **(known | more))


def config(kind: str, name: str, spec: Mapping[str, Any], namespace: str = NS) -> Config:
    return Config(key=Key(kind, namespace, name), spec=spec)


def deployed(name: str, app: str = "", version: str = "v1", **more: Any) -> list[Object]:
    """A workload and its pod."""
    found = workload(name, app, version, **more)
    return [found, pod(found)]


def peer(workload: str, app: str = "", version: str = "v1", namespace: str = NS) -> Peer:
    return Peer(CLUSTER, namespace, workload, app or workload.rpartition("-")[0], version)


UNKNOWN = Peer()


def called(name: str, namespace: str = NS, host: str = "") -> Called:
    return Called(CLUSTER, namespace, name, host or f"{name}.{namespace}.svc.cluster.local")


def http(
    source: Peer,
    to: Called,
    destination: Peer,
    rates: Mapping[str, float] | None = None,
    **more: Any,
) -> tuple[FlowKey, Flow]:
    answers = tuple(
        Answers(code, "-", to.host, rate) for code, rate in (rates or {"200": 1.0}).items()
    )
    return FlowKey(source, to, destination, Protocol.HTTP), Flow(answers=answers, **more)


@dataclass
class Followed:
    """A cluster, its graph, and what a follower has of it."""

    state: State = field(default_factory=lambda: State("tok", CLUSTER))
    items: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = Graph(self.state)

    def put(self, *objects: Object) -> Parts:
        changes = [change for obj in objects if (change := self.state.put(obj)) is not None]
        return self.follow(self.graph.changed(changes))

    def put_first(self, *objects: Object, slice_of: int) -> None:
        """Puts all into the state before the graph hears of any, a slice at a time."""
        changes = [change for obj in objects if (change := self.state.put(obj)) is not None]
        for at in range(0, len(changes), slice_of):
            self.follow(self.graph.changed(changes[at : at + slice_of]))

    def drop(self, *keys: Key) -> Parts:
        changes = [change for key in keys if (change := self.state.drop(key)) is not None]
        return self.follow(self.graph.changed(changes))

    def flows(self, *flows: tuple[FlowKey, Flow]) -> Parts:
        return self.follow(self.graph.flows(dict(flows)))

    def follow(self, parts: Parts) -> Parts:
        for part, items in parts.items():
            known = self.items.setdefault(part, {})
            for ident, item in items.items():
                if item is None:
                    del known[ident]  # what was never told cannot go
                else:
                    assert item["id"] == ident
                    assert known.get(ident) != item, "told again without being different"
                    known[ident] = item
        return parts

    # --- questions ------------------------------------------------------------------------------

    def node(self, *key: str, view: View = View.WORKLOAD) -> dict[str, Any]:
        """A node by form, namespace and name."""
        return self.nodes(view)[ident(*key)]

    def nodes(self, view: View = View.WORKLOAD) -> dict[str, dict[str, Any]]:
        return self.items.get(part_of(view, NODES), {})

    def edges(self, view: View = View.WORKLOAD) -> list[dict[str, Any]]:
        return list(self.items.get(part_of(view, EDGES), {}).values())

    def drawn(self, view: View = View.WORKLOAD) -> set[tuple[str, str, str]]:
        """Edges as source, target and what they are."""
        names = {i: told(item) for i, item in self.nodes(view).items()}
        return {(names[e["source"]], names[e["target"]], what(e)) for e in self.edges(view)}

    def edge(self, source: str, target: str, view: View = View.WORKLOAD) -> dict[str, Any]:
        """The one edge between two nodes."""
        names = {i: told(item) for i, item in self.nodes(view).items()}
        (found,) = (
            edge
            for edge in self.edges(view)
            if (names[edge["source"]], names[edge["target"]]) == (source, target)
        )
        return found


def ident(form: str, namespace: str, name: str) -> str:
    key: NodeKey = (form, CLUSTER, namespace, name)
    return node_id(key)


def told(item: Mapping[str, Any]) -> str:
    """A node's name with the initial of its kind."""
    kind = item["nodeType"]
    name = item.get("workload") or item.get("service") or item.get("app")
    return f"{kind[0]}:{name}" if kind != "unknown" else "unknown"


def what(edge: Mapping[str, Any]) -> str:
    if "config" in edge:
        told = edge["config"]
        return f"{told['kind']} {told['path']}"
    return edge["traffic"]["protocol"] if "traffic" in edge else "idle"


def fresh(state: State, flows: Iterable[tuple[FlowKey, Flow]] = ()) -> Followed:
    """What a new graph tells of a state."""
    found = Followed(state)
    objects = [obj for kind in state.kinds() for obj in state.all(kind)]
    found.follow(found.graph.changed([Change(obj.key, None, obj) for obj in objects]))
    found.follow(found.graph.flows(dict(flows)))
    return found
