"""The catalogs that workers advertise: the gateway knows no operation of its own.

The bucket keeps each service's catalog when its workers are gone, so their operations can still be
listed, and accepted for later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError

from services.chassis.bus.records import Bucket
from services.chassis.bus.streams import OPERATING
from services.chassis.errors import UnknownOperation
from services.chassis.messages import AdvertisedOperation, ServiceCatalog
from services.chassis.reading.jsons import read_json

_RELOAD_PERIOD_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """An operation and the service that offers it."""

    service: str
    operation: AdvertisedOperation


@dataclass(slots=True)
class Catalogs:
    """All services' catalogs, loaded at the start and then kept up by `changed`."""

    bucket: Bucket
    clock: Callable[[], float]
    """Seconds, monotonic."""
    _catalogs: dict[str, ServiceCatalog] = field(default_factory=dict)
    _offers: dict[str, Offer] = field(default_factory=dict)
    _loaded: float | None = None

    async def load(self) -> None:
        """Reads the whole bucket; what is told meanwhile is newer, and stays."""
        before = dict(self._catalogs)
        found: dict[str, ServiceCatalog] = {}
        for service in await self.bucket.keys():
            entry = await self.bucket.get(service)
            catalog = _decoded(service, entry.value) if entry else None
            if catalog is not None:
                found[service] = catalog
        for service in before.keys() | self._catalogs.keys():
            told = self._catalogs.get(service)
            if told is before.get(service):
                continue
            if told is None:
                found.pop(service, None)
            else:
                found[service] = told
        self._catalogs = found
        self._loaded = self.clock()
        self._index()

    def changed(self, service: str, value: bytes | None) -> None:
        """Takes the new catalog of a service; None for a deleted one."""
        catalog = _decoded(service, value) if value is not None else None
        if value is None:
            self._catalogs.pop(service, None)
        elif catalog is not None:
            self._catalogs[service] = catalog
        self._index()

    async def find(self, name: str) -> Offer:
        """The offer of an operation; raises `UnknownOperation` with the names that
        people may send."""
        if name not in self._offers and self._may_reload():
            # The word of a new worker may have been lost while the connection was away.
            await self.load()
        offer = self._offers.get(name)
        if offer is None:
            listed = [one.name for one in self.operations() if one.is_listed]
            names = ", ".join(listed) or "none yet"
            if not name:
                raise UnknownOperation(
                    f"no operation was named; available: {names}",
                    cause="Meshery's page sends none where no version of the mesh was chosen",
                    remedy="choose a version beside the operation and click again; where the list "
                    "is empty, set MESHBUS_GATEWAY_MESHERY",
                )
            raise UnknownOperation(f"there is no operation {name[:64]!r}; available: {names}")
        return offer

    def operations(self) -> list[AdvertisedOperation]:
        """All operations, by category and then by name: the same order for every call."""
        offered = [offer.operation for offer in self._offers.values()]
        return sorted(offered, key=lambda operation: (operation.category, operation.name))

    def versions(self) -> list[str]:
        """Mesh versions that can be installed, each service's newest first."""
        services = sorted(self._catalogs)
        return list(dict.fromkeys(v for name in services for v in self._catalogs[name].versions))

    def _may_reload(self) -> bool:
        return self._loaded is None or self.clock() - self._loaded >= _RELOAD_PERIOD_S

    def _index(self) -> None:
        """Of several services that offer one operation the first of `OPERATING` has it: none draws
        to itself what is sent to one whose key can do more."""
        offers: dict[str, Offer] = {}
        for service in sorted(self._catalogs, key=_rank):
            for operation in self._catalogs[service].operations:
                first = offers.setdefault(operation.name, Offer(service, operation))
                if first.service != service:
                    log.warning("operation_offered_twice", operation=operation.name, by=service)
        self._offers = offers


def _rank(service: str) -> tuple[int, str]:
    return OPERATING.index(service) if service in OPERATING else len(OPERATING), service


def _decoded(service: str, value: bytes) -> ServiceCatalog | None:
    try:
        return ServiceCatalog.model_validate(read_json(value))
    except (ValueError, ValidationError):
        log.warning("catalog_unreadable", catalog=service)
        return None
