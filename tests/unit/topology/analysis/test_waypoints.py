"""Policies that are attached to what no proxy reads for: code MBS0201."""

from __future__ import annotations

import pytest

from tests.unit.topology.analysis.kia.ambients import (
    OF_REQUESTS,
    OPTED_IN,
    REFS,
    TO_WAYPOINT,
    policy,
)
from tests.unit.topology.analysis.kia.cases import (
    AMBIENT,
    ENROLLED,
    GATEWAY_API,
    SIDECARS,
    WAYPOINT,
    analysis_of,
    of_code,
    one,
    place,
    pod,
    service,
    space,
)

BY_SERVICE = policy(f"{OF_REQUESTS}, {REFS}")
BY_WAYPOINT = policy(f"{OF_REQUESTS}, {TO_WAYPOINT}")
BY_BOTH = policy(
    f"{OF_REQUESTS}, targetRefs: [{{kind: Service, group: '', name: a}},"
    " {kind: Gateway, group: gateway.networking.k8s.io, name: wp}]"
)
SHARED = one(
    GATEWAY_API,
    "Gateway",
    "wp",
    "{gatewayClassName: istio-waypoint,"
    " listeners: [{name: mesh, allowedRoutes: {namespaces: {from: All}}}]}",
)


@pytest.mark.parametrize(
    "text",
    [
        # Sidecars read no `targetRefs`.
        SIDECARS + service("a") + BY_SERVICE,
        AMBIENT + WAYPOINT + BY_WAYPOINT,
        SIDECARS + WAYPOINT + service("a") + BY_BOTH,
        # It admits nobody from elsewhere.
        AMBIENT + WAYPOINT + space("other", "{istio.io/use-waypoint: wp}") + BY_WAYPOINT,
    ],
    ids=("by Service", "by waypoint", "by both", "used elsewhere"),
)
def test_a_policy_that_nobody_reads_is_told(text: str) -> None:
    [found] = of_code(analysis_of(text).findings, "MBS0201")
    assert place(found) == ("AuthorizationPolicy default/ap", "spec.targetRefs")
    assert found.remedy


@pytest.mark.parametrize(
    "text",
    [
        ENROLLED + WAYPOINT + BY_WAYPOINT,
        AMBIENT + WAYPOINT + OPTED_IN + BY_WAYPOINT,
        AMBIENT + WAYPOINT + OPTED_IN + BY_BOTH,
        AMBIENT + WAYPOINT + pod("a", "{istio.io/use-waypoint: wp}") + BY_WAYPOINT,
        # What is told otherwise: no waypoint in ambient, and references to nothing.
        AMBIENT + service("a") + BY_SERVICE,
        SIDECARS + BY_SERVICE,
        AMBIENT + BY_WAYPOINT,
        policy(OF_REQUESTS) + SIDECARS,
    ],
    ids=range(8),
)
def test_a_policy_that_somebody_reads_is_not(text: str) -> None:
    assert of_code(analysis_of(text).findings, "MBS0201") == []


def test_a_shared_waypoint_is_used_from_elsewhere() -> None:
    labels = "{istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: default}"
    other = space("other", labels)
    assert of_code(analysis_of(AMBIENT + SHARED + BY_WAYPOINT).findings, "MBS0201")
    assert not of_code(analysis_of(AMBIENT + SHARED + other + BY_WAYPOINT).findings, "MBS0201")
