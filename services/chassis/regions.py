"""Regions: workers near their clusters take the commands for those, and for no others.

The init job makes consumers for each region that it is told of. So it is the server that knows
which regions there are, and whoever queues a command asks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cachetools import TTLCache

from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import REGIONAL, has_consumer
from services.chassis.bus.subjects import consumer

_KNOWN_S = 30.0
_MOST_KNOWN = 1000


def _known() -> TTLCache[tuple[str, str], bool]:
    return TTLCache(maxsize=_MOST_KNOWN, ttl=_KNOWN_S)


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of the server, as of half a minute ago at most."""

    bus: Bus
    _known: TTLCache[tuple[str, str], bool] = field(default_factory=_known)

    async def serving(self, service: str, region: str) -> str:
        """The region whose workers of `service` carry out what is for a cluster of `region`: that
        one, or "" where the server knows none, and those of no region do. Raises
        `BusUnavailable`."""
        if not region or service not in REGIONAL:
            return ""
        known = self._known.get((service, region))
        if known is None:
            known = await has_consumer(self.bus.client, consumer(service, region))
            self._known[service, region] = known
        return region if known else ""
