"""Objects with owners, and a world for `Drifts`: what the bus keeps and what the cluster has."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from services.chassis.bus.intents import AppliedObject
from services.chassis.kube.objects import KubeObject
from services.topology.cluster.objects import Key
from services.topology.drift.watching import Drifts
from services.topology.feed.deltas import DRIFT_PART, Item, Parts

T0, T1 = "2026-11-24T10:00:00Z", "2026-11-24T10:00:01Z"
KIND = "networking.istio.io/VirtualService"
KEY = Key(KIND, "shop", "reviews")


def entry(manager: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    """One of managedFields."""
    return {
        "manager": manager,
        "operation": "Update",
        "time": T1,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **more,
    }


def own(fields: dict[str, Any], *, time: str = T0) -> dict[str, Any]:
    return entry("meshbus", fields, operation="Apply", time=time)


def live(
    obj: KubeObject, *managers: dict[str, Any], uid: str = "u1", version: str = "20"
) -> KubeObject:
    """The object as a watch brings it."""
    found = copy.deepcopy(obj)
    found["metadata"] |= {"uid": uid, "resourceVersion": version, "managedFields": list(managers)}
    return found


def intent(
    obj: KubeObject, fields: dict[str, Any], *, age: timedelta = timedelta(hours=1), **more: Any
) -> AppliedObject:
    group = obj["apiVersion"].rpartition("/")[0]
    return AppliedObject(
        **{
            "kind": f"{group}/{obj['kind']}",
            "namespace": obj["metadata"].get("namespace", ""),
            "name": obj["metadata"]["name"],
            "object": obj,
            "uid": "u1",
            "resource_version": "10",
            "fields": fields,
            "time": T0,
            "operation": "op-1",
            "when": datetime.now(timezone.utc) - age,
            **more,
        }
    )


ROUTE: KubeObject = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "reviews", "namespace": "shop", "labels": {"team": "a"}},
    "spec": {
        "hosts": ["reviews"],
        "http": [{"route": [{"destination": {"host": "reviews"}, "weight": 90}]}],
    },
}
HTTP_GONE = {"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": {"f:hosts": {}}}
ROUTE_FIELDS = {
    "f:metadata": {"f:labels": {"f:team": {}}},
    "f:spec": {"f:hosts": {}, "f:http": {}},
}


def route(**changes: Any) -> KubeObject:
    """The route with another weight or team (None for no label)."""
    obj = copy.deepcopy(ROUTE)
    if "weight" in changes:
        obj["spec"]["http"][0]["route"][0]["weight"] = changes["weight"]
    if "team" in changes:
        obj["metadata"]["labels"] = {"team": changes["team"]} if changes["team"] else {}
    return obj


def edited(weight: int = 80, *, version: str = "20") -> KubeObject:
    """The route after `kubectl edit` of its weight."""
    edit = entry("kubectl-edit", {"f:spec": {"f:http": {}}})
    return live(route(weight=weight), own(HTTP_GONE), edit, version=version)


@dataclass
class World:
    """Applied objects as `Drifts` reads them, and what it told."""

    kept: dict[Key, AppliedObject] = field(default_factory=dict)
    there: dict[Key, KubeObject] = field(default_factory=dict)
    told: list[tuple[str, Item | None]] = field(default_factory=list)
    healed: list[KubeObject] = field(default_factory=list)
    reads: int = 0
    lookups: int = 0
    on_heal: Callable[[KubeObject], None] = lambda _body: None
    on_read: Callable[[], None] = lambda: None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(5.0):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def has_read(self, times: int) -> bool:
        """Whether intents were read so often."""
        return self.reads >= times

    def tell(self, parts: Parts) -> None:
        self.told += parts[DRIFT_PART].items()
        self.changed()

    # --- what `Drifts` asks -----------------------------------------------------------------------

    async def intent(self, key: Key) -> AppliedObject | None:
        self.reads += 1
        self.on_read()
        self.changed()
        return self.kept.get(key)

    async def live(self, key: Key) -> KubeObject | None:
        self.lookups += 1
        self.changed()
        return self.there.get(key)

    async def heal(self, intent: AppliedObject, body: KubeObject) -> str:
        assert intent.name
        self.healed.append(body)
        self.on_heal(body)
        self.changed()
        return f"heal-{len(self.healed)}"

    @property
    def last(self) -> Item:
        item = self.told[-1][1]
        assert item is not None
        return item


@asynccontextmanager
async def watched(world: World, **options: Any) -> AsyncIterator[Drifts]:
    """Runs `Drifts` for a block."""
    drifts = Drifts(
        **{
            "applied": world,
            "publish": world.tell,
            "patience_s": 0.05,
            **options,
        }
    )
    running = asyncio.create_task(drifts.run())
    try:
        yield drifts
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
