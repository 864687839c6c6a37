"""Why a workload is not ready: the reason that people can act on comes first."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.lifecycle.manifests import readiness as diagnosing


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"reason": reason} | ({"message": message} if message else {})
    return {"name": "discovery", "state": {"waiting": state}}


def ended(code: int, reason: str = "") -> dict[str, Any]:
    state = {"exitCode": code} | ({"reason": reason} if reason else {})
    return {"name": "discovery", "state": {"terminated": state}}


RUNNING = {"name": "discovery", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
SCHEDULED = {"type": "PodScheduled", "status": "True"}
NOT_SCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}


def pod(**status: Any) -> KubeObject:
    return {"metadata": {"name": "istiod-1"}, "status": status}


PODS: dict[str, tuple[KubeObject, str]] = {
    "image cannot be pulled": (
        pod(containerStatuses=[waiting("ErrImagePull", "no\n such image")]),
        "pod istiod-1, container discovery: ErrImagePull no such image",
    ),
    "waiting without a message": (
        pod(containerStatuses=[waiting("CrashLoopBackOff")]),
        "pod istiod-1, container discovery: CrashLoopBackOff",
    ),
    "ended badly": (
        pod(containerStatuses=[ended(137, "OOMKilled")]),
        "pod istiod-1, container discovery: ended with 137 OOMKilled",
    ),
    "ended badly without a reason": (
        pod(containerStatuses=[ended(1)]),
        "pod istiod-1, container discovery: ended with 1",
    ),
    "first container fine, second not": (
        pod(containerStatuses=[RUNNING, {**waiting("ErrImagePull"), "name": "proxy"}]),
        "pod istiod-1, container proxy: ErrImagePull",
    ),
    "init container before the others": (
        pod(
            initContainerStatuses=[{**ended(2), "name": "init"}],
            containerStatuses=[waiting("PodInitializing")],
        ),
        "pod istiod-1, container init: ended with 2",
    ),
    "not scheduled": (
        pod(conditions=[NOT_SCHEDULED]),
        "pod istiod-1 is not scheduled: 0/1 nodes are available: 1 Insufficient memory.",
    ),
    "not scheduled without words": (
        pod(conditions=[{"type": "PodScheduled", "status": "False"}]),
        "pod istiod-1 is not scheduled: ",
    ),
    "being created": (pod(containerStatuses=[waiting("ContainerCreating")]), ""),
    "initializing": (pod(containerStatuses=[waiting("PodInitializing")]), ""),
    "ended well": (pod(containerStatuses=[ended(0, "Completed")]), ""),
    "running": (pod(containerStatuses=[RUNNING], conditions=[SCHEDULED]), ""),
    "nothing known": ({"metadata": {"name": "istiod-1"}}, ""),
    "nulls": (pod(containerStatuses=None, initContainerStatuses=None, conditions=None), ""),
}


@pytest.mark.parametrize("case", PODS)
def test_what_a_pod_says(case: str) -> None:
    obj, reason = PODS[case]
    assert diagnosing._pod_reason(obj) == reason


def test_a_long_message_is_cut() -> None:
    reason = diagnosing._pod_reason(pod(containerStatuses=[waiting("ErrImagePull", "x" * 9000)]))
    assert len(reason) < 400
    assert reason.endswith("…")


def condition(kind: str, status: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status} | ({"message": message} if message else {})


WORKLOADS: dict[str, tuple[list[dict[str, str]], str]] = {
    "quota": (
        [
            condition("Available", "False", "no minimum availability"),
            condition("ReplicaFailure", "True", "exceeded quota: pods"),
        ],
        "exceeded quota: pods",
    ),
    "not available": (
        [condition("Available", "False", "no minimum availability")],
        "no minimum availability",
    ),
    "no progress": (
        [condition("Available", "True"), condition("Progressing", "False", "deadline exceeded")],
        "deadline exceeded",
    ),
    "no failure": ([condition("ReplicaFailure", "False", "x")], "its pods gave no reason"),
    "no message": ([condition("Available", "False")], "its pods gave no reason"),
    "all well": ([condition("Available", "True")], "its pods gave no reason"),
    "no conditions": ([], "its pods gave no reason"),
}


@pytest.mark.parametrize("case", WORKLOADS)
def test_what_a_workload_says(case: str) -> None:
    conditions, reason = WORKLOADS[case]
    assert diagnosing._workload_reason({"status": {"conditions": conditions}}) == reason


def test_a_workload_without_status_says_nothing() -> None:
    assert diagnosing._workload_reason({}) == "its pods gave no reason"
