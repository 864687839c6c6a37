"""Renewing the traffic of one cluster's graph, whatever becomes of the source.

One source of telemetry may know several clusters by the names that Istio has for them; here a
cluster has its token. A flow belongs to a cluster's graph when one of its ends does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.errors import MeshbusError
from services.topology import kinds
from services.topology.observing import Observer
from services.topology.state import State
from services.topology.traffic import Flow, FlowKey, Flows, Peer, Telemetry

DEFAULT_NAME = "Kubernetes"
"""What Istio calls a cluster that nobody named."""

OK, UNAVAILABLE, STARTING = "ok", "unavailable", "starting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """Asks a source again and again."""

    telemetry: Telemetry
    observer: Observer
    every: timedelta
    window: timedelta
    now: Callable[[], datetime]

    async def run(self) -> None:
        """For as long as it runs; a source that cannot tell leaves the last flows to fade."""
        source = self.telemetry.name
        self.observer.telemetry(source=source, state=STARTING)
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                flows = await self.telemetry.flows(
                    at=self.now(), window_s=self.window.total_seconds()
                )
            except MeshbusError as error:
                failures += 1
                self.observer.telemetry(source=source, state=UNAVAILABLE, detail=error.summary)
                # Rates of a source that has been away for long are no one's traffic of now.
                if failures * self.every > self.window:
                    self.observer.flowed({})
            else:
                failures = 0
                self.observer.flowed(own(flows, self.observer.state))
                detail = "; ".join(self.telemetry.missing)
                self.observer.telemetry(source=source, state=OK, detail=detail)
            took = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(1.0, self.every.total_seconds() - took))


def own(flows: Flows, state: State) -> dict[FlowKey, Flow]:
    """The flows of one cluster, its own ends under its token."""
    name = istio_name(state)
    found: dict[FlowKey, Flow] = {}
    for key, flow in flows.items():
        source, destination = key.source, key.destination
        if not any(cluster in ("", name) for cluster in (source.cluster, destination.cluster)):
            continue
        known = FlowKey(
            _under(source, name, state.cluster),
            replace(key.called, cluster=_token(key.called.cluster, name, state.cluster)),
            _under(destination, name, state.cluster),
            key.protocol,
        )
        found[known] = flow
    return found


def istio_name(state: State) -> str:
    """What Istio calls the cluster: from the injector's values, which every istiod has."""
    for config in state.all(kinds.CONFIG_MAP):
        if not config.name.startswith("istio-sidecar-injector"):
            continue
        values = config.spec.get("values")
        given = ((values or {}).get("global") or {}).get("multiCluster") or {}
        if given.get("clusterName"):
            return str(given["clusterName"])
    return DEFAULT_NAME


def _under(peer: Peer, name: str, token: str) -> Peer:
    return replace(peer, cluster=_token(peer.cluster, name, token))


def _token(cluster: str, name: str, token: str) -> str:
    return token if cluster in ("", name) else cluster
