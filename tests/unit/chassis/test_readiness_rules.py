"""When an object counts as ready: the rules of `kubectl rollout status`, one row each."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.chassis.kube.readiness import is_ready


def workload(kind: str, *, generation: int = 2, spec: Any = None, **status: int) -> KubeObject:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "a", "namespace": "b", "generation": generation},
        "spec": {"replicas": 2} if spec is None else spec,
        "status": status,
    }


def deployment(**changed: Any) -> KubeObject:
    fields = {
        "observedGeneration": 2,
        "replicas": 2,
        "updatedReplicas": 2,
        "availableReplicas": 2,
    }
    return workload("Deployment", **{**fields, **changed})


def daemon_set(**changed: Any) -> KubeObject:
    fields = {
        "observedGeneration": 2,
        "desiredNumberScheduled": 3,
        "updatedNumberScheduled": 3,
        "numberAvailable": 3,
    }
    return workload("DaemonSet", **{**fields, **changed})


def stateful_set(**changed: Any) -> KubeObject:
    fields = {"observedGeneration": 2, "readyReplicas": 2, "updatedReplicas": 2}
    return workload("StatefulSet", **{**fields, **changed})


def crd(*conditions: tuple[str, str]) -> KubeObject:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "a"},
        "status": {"conditions": [{"type": name, "status": value} for name, value in conditions]},
    }


def plain(kind: str, **fields: Any) -> KubeObject:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **fields}


READY: dict[str, KubeObject] = {
    "deployment": deployment(),
    "deployment of no replica": deployment(
        spec={"replicas": 0}, replicas=0, updatedReplicas=0, availableReplicas=0
    ),
    "deployment of one by default": deployment(
        spec={}, replicas=1, updatedReplicas=1, availableReplicas=1
    ),
    "deployment seen later than asked": deployment(observedGeneration=3),
    "deployment with more than asked": deployment(
        replicas=3, updatedReplicas=3, availableReplicas=3
    ),
    "daemon set": daemon_set(),
    "daemon set for no node": daemon_set(
        desiredNumberScheduled=0, updatedNumberScheduled=0, numberAvailable=0
    ),
    "stateful set": stateful_set(),
    "definition": crd(("NamesAccepted", "True"), ("Established", "True")),
    "namespace": plain("Namespace", status={"phase": "Active"}),
    "config map": plain("ConfigMap"),
    "service": plain("Service", status={"loadBalancer": {}}),
    "custom deployment": {**deployment(availableReplicas=0), "apiVersion": "example.org/v1"},
}

NOT_READY: dict[str, KubeObject] = {
    "deployment without status": workload("Deployment"),
    "deployment whose change is not seen": deployment(observedGeneration=1),
    "deployment with old pods": deployment(replicas=3),
    "deployment half updated": deployment(updatedReplicas=1),
    "deployment half available": deployment(availableReplicas=1),
    "deployment of one, none available": deployment(spec={}, availableReplicas=0),
    "daemon set without status": workload("DaemonSet"),
    "daemon set whose change is not seen": daemon_set(observedGeneration=1),
    "daemon set half updated": daemon_set(updatedNumberScheduled=2),
    "daemon set half available": daemon_set(numberAvailable=2),
    "stateful set without status": workload("StatefulSet"),
    "stateful set half ready": stateful_set(readyReplicas=1),
    "stateful set half updated": stateful_set(updatedReplicas=1),
    "stateful set whose change is not seen": stateful_set(observedGeneration=1),
    "definition without conditions": crd(),
    "definition not established": crd(("NamesAccepted", "True"), ("Established", "False")),
    "definition without status": {**crd(), "status": None},
    "namespace that goes": plain("Namespace", status={"phase": "Terminating"}),
    "namespace without status": plain("Namespace"),
}


@pytest.mark.parametrize("case", READY)
def test_ready(case: str) -> None:
    assert is_ready(READY[case])


@pytest.mark.parametrize("case", NOT_READY)
def test_not_ready(case: str) -> None:
    assert not is_ready(NOT_READY[case])


def test_a_status_of_nulls_is_not_ready() -> None:
    obj = deployment()
    obj["status"] = dict.fromkeys(obj["status"])
    assert not is_ready(obj)
