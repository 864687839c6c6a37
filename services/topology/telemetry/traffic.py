"""Flows between workloads: the contract between telemetry and the graph.

One `Flow` for each pair of workloads, destination service and protocol. Rates are per second over
the window that was asked for. Semantics are those of Kiali's telemetry (knowledge of reporters,
unknown peers and double reports is in `telemetry/`), so the graph only adds up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol as Interface

from services.chassis.prometheus import Metrics


class Protocol(StrEnum):
    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """One end of a flow. Istio's `unknown` is "" here."""

    cluster: str = ""
    namespace: str = ""
    workload: str = ""
    app: str = ""
    """Canonical service."""
    version: str = ""
    """Canonical revision."""

    @property
    def is_unknown(self) -> bool:
        return not self.workload and not self.app


@dataclass(frozen=True, slots=True, order=True)
class Called:
    """The service that was called; `name` may be `PassthroughCluster` or `BlackHoleCluster`."""

    cluster: str = ""
    namespace: str = ""
    name: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, order=True)
class FlowKey:
    source: Peer
    called: Called
    destination: Peer
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests per second that ended with one code, flags and host."""

    code: str
    """HTTP status, gRPC status, or `-` for none."""
    flags: str
    """Envoy's response flags, `-` for none."""
    host: str
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The traffic along one edge."""

    answers: tuple[Answers, ...] = ()
    """HTTP and gRPC."""
    sent: float = 0.0
    """TCP bytes, or gRPC messages, from source to destination, per second."""
    received: float = 0.0
    response_ms: Mapping[str, float] = field(default_factory=dict)
    """Response time by quantile: `50`, `95`, `99`, and `avg`, in milliseconds."""
    mtls_share: float | None = None
    """0 to 1; None when no proxy reports it."""
    source_principal: str = ""
    destination_principal: str = ""
    waypoint: str = ""
    """`to` or `from` when one end is a waypoint, as in the vendor JSON."""


Flows = Mapping[FlowKey, Flow]


class Telemetry(Interface):
    """Where flows come from."""

    name: str
    """What a person reads: `Prometheus (configured)`, `Envoy`; "" before it is known."""
    missing: tuple[str, ...]
    """What the last answer lacks, for people."""
    tried: tuple[str, ...]
    """Other sources, and why they do not tell the traffic, for people."""
    metrics: Metrics | None
    """Answers other queries about the cluster; None where there is no Prometheus."""
    is_shared: bool
    """Whether these answers may tell of other clusters, too."""

    async def flows(self, *, at: datetime, window_s: float) -> Flows:
        """All flows of the mesh in the window that ends `at`.

        Raises `TelemetryUnavailable` when the source cannot tell.
        """
        ...
