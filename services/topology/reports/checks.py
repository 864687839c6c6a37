"""What the compliance report asks of each workload, as checks that it passes or fails."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from services.topology.cluster.objects import Standing
from services.topology.mesh.security import Mode
from services.topology.reports.compliance import NOT_IN_SYNC, Line
from services.topology.reports.posture import Access, How


class Check(StrEnum):
    """One of them. A workload that it does not concern neither passes nor fails it."""

    MESH = "mesh"
    """All of its pods are in the mesh."""
    MTLS = "mtls"
    """It takes nothing but mutual TLS, on any port; a gateway's listeners are its own matter."""
    POLICY = "policy"
    """It refuses what no authorization policy allows."""
    SYNC = "sync"
    """Its proxies have what their control plane sent."""
    VERSION = "version"
    """Their version goes with their control plane's."""
    FINDINGS = "findings"
    """No finding is about it."""


def judged(line: Line) -> Iterator[tuple[Check, bool]]:
    """Whether a workload passes each check that concerns it."""
    posture = line.posture
    yield Check.MESH, posture.how is not How.NONE and posture.meshed_pods == posture.pods
    if posture.how is not How.NONE:
        if posture.mtls.mode is not Mode.LISTENER:
            modes = (posture.mtls.mode, *(mode for _, mode in posture.mtls.ports))
            yield Check.MTLS, all(mode is Mode.STRICT for mode in modes)
        yield Check.POLICY, posture.access is Access.DENIED
    if posture.proxy_version:
        if line.proxies.standing is Standing.SYNCED or line.proxies.standing in NOT_IN_SYNC:
            yield Check.SYNC, line.proxies.standing is Standing.SYNCED
        yield Check.VERSION, line.proxies.is_supported
    yield Check.FINDINGS, line.findings == 0
