"""SMI objects by chance, sound ones: what a translation has to turn into objects that are taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, ServiceFact, ServicePort, WorkloadFact

NAMESPACE = "default"
_PORTS = (
    ServicePort(port=80, name="http"),
    ServicePort(port=8443, name="https"),
    ServicePort(port=9000, name="tcp-data"),
    ServicePort(port=9090, name="metrics", app_protocol="grpc"),
    ServicePort(port=7000),
)
_PATHS = ("/", "/api", "/api/.*", "/v[0-9]+/items", "^/exact$", "/a|/b", ".*", "/x/[^/]+")
_SAYABLE_PATHS = ("/", "/api", "/api/.*", "/exact$", "/a|/b", ".*", "/x/[^/]+")
_METHODS = ("GET", "POST", "PUT", "*")


def random_objects(seed: int) -> tuple[list[KubeObject], ClusterFacts]:
    """A few splits and targets with their route groups, and the services that they are about."""
    dice = random.Random(seed)
    names = [f"service-{number}" for number in range(6)]
    objects = [_groups(dice, "split-routes", _PATHS), _groups(dice, "routes", _SAYABLE_PATHS)]
    objects.append(_named("specs", "TCPRoute", "ports", {"matches": {"ports": _numbers(dice)}}))
    objects += [
        _split(dice, root=root, others=[name for name in names if name != root])
        for root in dice.sample(names[:3], k=dice.randint(1, 3))
    ]
    objects += [_target(dice, name) for name in dice.sample(names, k=dice.randint(1, 4))]
    return objects, _facts(dice, names)


def _split(dice: random.Random, *, root: str, others: Sequence[str]) -> KubeObject:
    backends = [
        {"service": name, "weight": dice.choice((0, 1, 10, 75, 1000))}
        for name in dice.sample(others, k=dice.randint(1, 3))
    ]
    spec: dict[str, Any] = {"service": root, "backends": backends}
    if dice.random() < 0.5:
        spec["matches"] = [{"kind": "HTTPRouteGroup", "name": "split-routes"}]
    return _named("split", "TrafficSplit", f"split-{root}", spec)


def _target(dice: random.Random, name: str) -> KubeObject:
    rules = [{"kind": "HTTPRouteGroup", "name": "routes"}]
    if dice.random() < 0.5:
        rules.append({"kind": "TCPRoute", "name": "ports"})
    sources = [_account(f"caller-{number}") for number in range(dice.randint(1, 3))]
    spec = {"destination": _account(name), "sources": sources, "rules": dice.sample(rules, 1)}
    return _named("access", "TrafficTarget", f"target-{name}", spec)


def _groups(dice: random.Random, name: str, paths: Sequence[str]) -> KubeObject:
    matches = []
    for number in range(dice.randint(1, 4)):
        match: dict[str, Any] = {"name": f"match-{number}", "pathRegex": dice.choice(paths)}
        if dice.random() < 0.6:
            match["methods"] = dice.sample(_METHODS, k=dice.randint(1, 3))
        if dice.random() < 0.3:
            match["headers"] = [{"x-user": dice.choice(("admin", "team-.*"))}]
        matches.append(match)
    return _named("specs", "HTTPRouteGroup", name, {"matches": matches})


def _facts(dice: random.Random, names: Sequence[str]) -> ClusterFacts:
    services = [
        ServiceFact(namespace=NAMESPACE, name=name, ports=dice.sample(_PORTS, k=dice.randint(1, 4)))
        for name in names
    ]
    workloads = [
        WorkloadFact(
            namespace=NAMESPACE,
            kind="Deployment",
            name=name,
            service_account=name,
            labels={"app": name},
            selector={"app": name},
        )
        for name in names
    ]
    return ClusterFacts(
        services=services,
        workloads=workloads,
        read_namespaces=[NAMESPACE],
        served={"gateway.networking.k8s.io/TCPRoute": ["v1"]},
    )


def _numbers(dice: random.Random) -> list[int]:
    return dice.sample((80, 8080, 9000), k=dice.randint(0, 3))


def _account(name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}


def _named(group: str, kind: str, name: str, spec: dict[str, Any]) -> KubeObject:
    version = "v1alpha3" if group == "access" else "v1alpha4"
    return {
        "apiVersion": f"{group}.smi-spec.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
