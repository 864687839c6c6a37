"""All tables together."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.cases import (
    destinationrules,
    gateways,
    pods,
    policies,
    proxies,
    routes,
    virtualservices,
    workloads,
)

ALL = (
    *virtualservices.CASES,
    *destinationrules.CASES,
    *gateways.CASES,
    *proxies.CASES,
    *workloads.CASES,
    *pods.CASES,
    *routes.CASES,
    *policies.CASES,
)
