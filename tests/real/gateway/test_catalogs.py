"""The catalog of operations that the gateway keeps, while services come and go."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket
from services.chassis.errors import UnknownOperation
from services.chassis.messages import AdvertisedOperation, Category, ServiceCatalog, SlotKind
from services.gateway.catalogs import Catalogs
from tests.testbed.waiting import eventually


def catalog(service: str, operation: str, *, is_listed: bool = True) -> bytes:
    offered = AdvertisedOperation(
        name=operation,
        description="",
        category=Category.CUSTOM,
        slot=SlotKind.APPLY,
        is_listed=is_listed,
    )
    return ServiceCatalog(service=service, operations=[offered]).model_dump_json().encode()


@dataclass(frozen=True, slots=True)
class Interrupted(Bucket):
    """A bucket whose listing is followed by the word of a service before it can be read."""

    told: list[Catalogs] = field(default_factory=list)

    async def keys(self, *, matching: str = ">") -> list[str]:
        found = await Bucket.keys(self, matching=matching)
        for catalogs in self.told:
            catalogs.changed("new", catalog("new", "arrived"))
            catalogs.changed("gone", None)
        return found


async def test_what_is_told_while_the_bucket_is_read_stays(bus: Bus) -> None:
    bucket = Interrupted(bus, "catalog")
    await bucket.put("old", catalog("old", "here"))
    await bucket.put("gone", catalog("gone", "left"))
    catalogs = Catalogs(bucket, time.monotonic)
    await catalogs.load()
    bucket.told.append(catalogs)
    await catalogs.load()
    assert [operation.name for operation in catalogs.operations()] == ["arrived", "here"]
    assert (await catalogs.find("arrived")).service == "new"
    bucket.told.clear()
    await bucket.delete("gone")

    async def is_as_stored() -> bool:
        await catalogs.load()
        return [operation.name for operation in catalogs.operations()] == ["here"]

    await eventually(is_as_stored, what="the catalogs as the bucket has them")


async def test_whoever_misspells_an_operation_is_told_those_that_he_may_send(bus: Bus) -> None:
    bucket = Bucket(bus, "catalog")
    await bucket.put("some", catalog("some", "offered"))
    await bucket.put("other", catalog("other", "internal", is_listed=False))
    catalogs = Catalogs(bucket, time.monotonic)
    await catalogs.load()
    assert (await catalogs.find("internal")).service == "other"
    with pytest.raises(UnknownOperation) as refused:
        await catalogs.find("ofered")
    assert "offered" in refused.value.summary
    assert "internal" not in refused.value.summary
    await bucket.delete("some")
    await bucket.delete("other")


async def test_nobody_draws_to_itself_what_another_service_is_sent(bus: Bus) -> None:
    """A key that may advertise must not be worth the bodies of everybody's requests."""
    bucket = Bucket(bus, "catalog")
    await bucket.put("translator", catalog("translator", "custom"))
    await bucket.put("perf", catalog("perf", "custom"))
    catalogs = Catalogs(bucket, time.monotonic)
    await catalogs.load()
    assert (await catalogs.find("custom")).service == "translator"
    catalogs.changed("translator", catalog("translator", "istio"))
    catalogs.changed("lifecycle", catalog("lifecycle", "istio"))
    assert (await catalogs.find("istio")).service == "lifecycle"
    await bucket.delete("translator")
    await bucket.delete("perf")
