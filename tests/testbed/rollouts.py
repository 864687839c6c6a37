"""A stack, a fleet of simulated clusters, and rollouts over them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import loopback
from tests.testbed.bodies import options
from tests.testbed.fleets import MeshlessWebhooks, Traffic, fleet
from tests.testbed.meshery import Meshery
from tests.testbed.processes import BedError
from tests.testbed.prometheus import Prometheus
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

WITHIN_S = 400.0
OLD = ISTIO_OLDER_VERSION.replace(".", "-")
NEW = ISTIO_VERSION.replace(".", "-")


@dataclass(slots=True)
class Place:
    """A stack, a fleet, and the traffic that the fleet's Prometheus tells of."""

    stack: Stack
    clusters: list[MeshlessWebhooks]
    traffic: Traffic
    meshery: Meshery

    def ask(self, verb: str, **asked: Any) -> dict[str, Any]:
        text = self.stack.nats_cli("req", "--raw", f"mesh.lifecycle.{verb}", json.dumps(asked))
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def stands(self, rollout: str) -> dict[str, Any]:
        return await asyncio.to_thread(self.ask, "rollout", rollout=rollout)

    async def until(self, rollout: str, **wanted: Any) -> dict[str, Any]:
        """Waits until the rollout says all that; who should answer may be away meanwhile."""
        told: dict[str, Any] = {}

        async def says() -> bool:
            nonlocal told
            try:
                told = await self.stands(rollout)
            except (BedError, json.JSONDecodeError):
                return False
            return all(told.get(name) == value for name, value in wanted.items())

        await eventually(says, what=f"the rollout to say {wanted}", within_s=WITHIN_S)
        return told

    async def installed(self, revision: str, version: str) -> None:
        """The fleet with one revision, its tags and its namespaces as they are at first."""
        body = options(revision=revision, tags=["prod", "default"], profile="minimal")
        operation = await self.meshery.apply("istio", version=version, body=body)
        count = len(self.clusters)
        ends = await self.meshery.finals(operation, count=count, within_s=WITHIN_S)
        assert not any(end.failed for end in ends), [end.event for end in ends]

    async def rollout(self, *, revision: str = "", **spec: Any) -> str:
        """Begins one to the newer version."""
        body = _body(revision, **spec)
        return await self.meshery.apply("istio-rollout", body=body)

    async def rollout_of(self, manifest: str, **spec: Any) -> str:
        """Begins one of a manifest."""
        body = f"{_options(what='manifest', **spec)}\n---\n{manifest}\n"
        return await self.meshery.apply("istio-rollout", body=body)

    async def over(self, rollout: str) -> dict[str, Any]:
        """Waits for its end on every cluster, and until it knows of it."""
        await self.meshery.finals(rollout, count=len(self.clusters), within_s=WITHIN_S)
        return await self.until(rollout, stage="over")


def _body(revision: str, **spec: Any) -> str:
    own = options(profile="minimal", **({"revision": revision} if revision else {}))
    return f"{_options(version=ISTIO_VERSION, **spec)}\n---\n{own}\n"


def _options(**spec: Any) -> str:
    soon = {"gate": {"errorRatio": 0.02, "windowSeconds": 8, "withinSeconds": 6}, "soakSeconds": 1}
    document = {"apiVersion": "meshbus.io/v1", "kind": "RolloutOptions", "spec": {**soon, **spec}}
    return json.dumps(document)


@asynccontextmanager
async def rolling(folder: Path, count: int) -> AsyncIterator[Place]:
    """So many clusters with the older Istio, its tags and namespaces, and a stack that has them."""
    names = [f"fleet-{number}" for number in range(1, count + 1)]
    with Traffic(names) as traffic, fleet(folder / "clusters", count) as clusters:
        targets = {"fleet": [f"{loopback.HOST}:{traffic.port}"]}
        with (
            Prometheus(folder / "prometheus", targets) as prometheus,
            _stack(folder / "stack", prometheus) as stack,
        ):
            texts = [cluster.kubeconfig_text for cluster in clusters]
            async with Meshery(stack.gateway_address, texts).connected() as meshery:
                place = Place(stack, clusters, traffic, meshery)
                await place.installed(OLD, ISTIO_OLDER_VERSION)
                yield place


def _stack(folder: Path, prometheus: Prometheus) -> Stack:
    return Stack(
        folder,
        services=("lifecycle", "translator", "topology", "gateway"),
        settings={
            "MESHBUS_ACK_WAIT": "4s",
            "MESHBUS_TOPOLOGY_PROMETHEUS": prometheus.url,
            "MESHBUS_TOPOLOGY_PROMETHEUS_LABELS": "cluster={name}",
        },
    )
