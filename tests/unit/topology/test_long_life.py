"""What a worker keeps after everything in its cluster has come and gone many times: nothing of it.

A process that watches for weeks sees more objects than its cluster ever has at a time. All is
counted that can be reached from what it keeps: a cache that forgets nothing shows there, however
small its entries are.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from typing import Any

from services.topology.analysis.engine import Analysis
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Key
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State
from services.topology.feed.deltas import Delta
from services.topology.feed.views import ClusterView
from services.topology.graph.graph import Graph
from services.topology.telemetry.edges import Edges
from tests.unit.topology.graph.clusters import CLUSTER, called, http, peer
from tests.unit.topology.telemetry.told import text

_NO_DATA = (type, types.ModuleType, types.FunctionType, types.MethodType, types.CodeType)


def kept(*roots: Any) -> int:
    """Objects that can be reached from these."""
    seen: dict[int, Any] = {}
    left = list(roots)
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, _NO_DATA):
            seen[id(one)] = one
            left += gc.get_referents(one)
    return len(seen)


def objects(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A namespace with an app of its own: services, a route, a policy, a workload and its pod."""
    space, name, rollout = f"team-{number}", f"app-{number}", f"{number:010x}"
    labels = {"app": name, "version": "v1"}

    def metadata(of: str, **more: Any) -> dict[str, Any]:
        return {"name": of, "namespace": space, "uid": f"{of}-{number}", **more}

    yield kinds.NAMESPACE, {"metadata": {"name": space, "labels": {"istio-injection": "enabled"}}}
    spec = {"ports": [{"name": "http", "port": 80}], "selector": {"app": name}}
    yield kinds.SERVICE, {"metadata": metadata(name), "spec": spec}
    of_service = {"kubernetes.io/service-name": name}
    yield kinds.ENDPOINTS, {"metadata": metadata(f"{name}-e", labels=of_service), "endpoints": []}
    routes = [{"route": [{"destination": {"host": name, "subset": "v1"}}]}]
    yield (
        kinds.VIRTUAL_SERVICE,
        {"metadata": metadata(name), "spec": {"hosts": [name], "http": routes}},
    )
    selector = {"selector": {"matchLabels": labels}}
    yield kinds.AUTHORIZATION_POLICY, {"metadata": metadata(name), "spec": selector}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name}]}}
    yield kinds.DEPLOYMENT, {"metadata": metadata(name), "spec": {"template": template}}
    pod = metadata(
        f"{name}-{rollout}-x",
        labels=labels | {"pod-template-hash": rollout},
        ownerReferences=[
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"{name}-{rollout}",
                "controller": True,
            }
        ],
    )
    yield kinds.POD, {"metadata": pod, "spec": template["spec"]}


class World:
    """All that is kept of one cluster, but for the reader of its objects."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.state = State("tok", CLUSTER)
        self.graph = Graph(self.state)
        self.analysis = Analysis(self.state, RULES)
        self.view = ClusterView("tok")

    def live_through(self, number: int) -> None:
        """An app comes, has traffic, and goes with its namespace."""
        records = [self.reader.read(kind, obj) for kind, obj in objects(number)]
        self._settle([self.state.put(record) for record in records])
        name, space = f"app-{number}", f"team-{number}"
        flow = http(peer("page-v1"), called(name, space), peer(f"{name}-v1", name, "v1", space))
        for flows in (dict([flow]), {}):
            self.view.apply(Delta(cluster="tok", epoch=1, number=1, parts=self.graph.flows(flows)))
        self._settle([self.state.drop(record.key) for record in records])

    def _settle(self, found: list[Change | None]) -> None:
        changes = [change for change in found if change is not None]
        assert changes
        parts = self.graph.changed(changes)
        self.view.apply(Delta(cluster="tok", epoch=1, number=1, parts=parts))
        self.analysis.touch(changes)
        while self.analysis.is_due:
            self.analysis.evaluate()

    def kept(self) -> int:
        return kept(self.state, self.graph, self.analysis, self.view)


def test_nothing_is_kept_of_apps_that_came_and_went() -> None:
    world = World()
    for number in range(10):
        world.live_through(number)
    before = world.kept()
    for number in range(10, 60):
        world.live_through(number)
    # Some counters are numbers that Python makes anew, or not.
    assert world.kept() <= before + 10


def test_what_records_share_is_let_go() -> None:
    reader = Reader()

    def watch(first: int) -> int:
        for number in range(first, first + 4000):
            labels = {"app": "a", "pod-template-hash": str(number)}
            reader.read(kinds.POD, {"metadata": {"name": "a", "labels": labels}})
        return kept(reader)

    first = watch(0)
    assert watch(4000) <= first * 1.1
    assert watch(8000) <= first * 1.1


def test_copies_of_a_pod_share_what_they_have_in_common() -> None:
    reader = Reader()

    def labels(name: str) -> Any:
        obj = {"metadata": {"name": name, "labels": {"app": "a"}}}
        record = reader.read(kinds.POD, obj)
        assert record.key == Key(kinds.POD, "", name)
        return record.labels

    first = labels("a")
    for number in range(3000):
        reader.read(kinds.POD, {"metadata": {"name": "b", "labels": {"app": str(number)}}})
    assert labels("b") is first
    assert labels("c") is first


def test_edges_of_workloads_that_are_gone_are_dropped() -> None:
    edges = Edges()
    for answer in range(40):
        for number in range(50):
            assert edges.of[text(source_workload=f"w-{answer}-{number}")] is not None
        edges.forget()
    assert len(edges.of) <= 1150


def test_edges_that_are_asked_for_again_are_read_once() -> None:
    edges = Edges()
    first = []
    for answer in range(40):
        found = [edges.of[text(source_workload=f"w-{number}")] for number in range(1200)]
        if answer == 2:
            first = found
        edges.forget()
    assert all(a is b for a, b in zip(found, first, strict=True))
