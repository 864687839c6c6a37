"""Telling the gateway which operations a service offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket, Records
from services.chassis.messages import AdvertisedOperation, ServiceCatalog


async def advertise(
    bus: Bus,
    service: str,
    operations: Iterable[AdvertisedOperation],
    *,
    versions: Sequence[str] = (),
) -> None:
    """The catalog entry stays when the worker goes: its operations wait for the next one."""
    catalog = ServiceCatalog(service=service, operations=list(operations), versions=list(versions))
    await Records(Bucket(bus, "catalog"), ServiceCatalog).put(service, catalog)
