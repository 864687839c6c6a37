"""The clients of each identity, apart from those of others.

An audience has its own reader and its own mark: what it may not see goes past it, and what it has
got is still to come for the others. Where nobody is told apart there is one audience, of the local
user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cachetools import LRUCache

from services.chassis.bus import subjects
from services.chassis.bus.records import Records
from services.chassis.errors import BusUnavailable, MeshbusError, QuotaExceeded
from services.chassis.messages import Event, RequestRecord
from services.chassis.messages.following import followed_operation
from services.chassis.policy import LOCAL, Identity, Policy
from services.gateway.streaming.events import Events, Joined, Sees, Write
from services.gateway.streaming.marks import KEY

_MOST_OWNERS = 10_000
_RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class Owners:
    """Whose operations are whose, by the requests' records."""

    records: Records[RequestRecord]
    _known: LRUCache[str, str] = field(default_factory=lambda: LRUCache(maxsize=_MOST_OWNERS))

    async def of(self, operation: str) -> str:
        """The identity that asked for it, or sent the source that it follows; "" for what nobody
        asked the gateway for."""
        operation = followed_operation(operation) or operation
        if operation in self._known:
            return str(self._known[operation])
        while True:
            try:
                stored = await self.records.get(subjects.operation_key(operation))
            except BusUnavailable:
                # Neither shown to a stranger nor kept from its owner.
                await asyncio.sleep(_RETRY_AFTER_S)
                continue
            if stored is None:
                return ""
            self._known[operation] = stored[0].identity or LOCAL.name
            return str(self._known[operation])


@dataclass(slots=True)
class Audiences:
    """All streams of this process."""

    make: Callable[[str, Sees], Events]
    """The clients whose mark has this key, and who see these events."""
    policy: Callable[[], Policy]
    owners: Owners
    most_streams: int
    """Of one identity, in this process."""
    local: Events = field(init=False)
    _others: dict[Identity, Events] = field(default_factory=dict)
    _streams: dict[Identity, int] = field(default_factory=dict)
    _closed: MeshbusError | None = None

    def __post_init__(self) -> None:
        self.local = self.make(KEY, self.sight(LOCAL))

    @property
    def open_streams(self) -> int:
        return sum(events.open_streams for events in self._all())

    async def serve(self, identity: Identity, write: Write, *, joined: Joined) -> None:
        """Writes to one client of the identity what it may see, until the client leaves.

        Raises `QuotaExceeded` when the identity has as many clients as it may.
        """
        if sum(e.open_streams for e in self._of(identity)) >= self.most_streams:
            raise QuotaExceeded(
                f"{identity.name} has {self.most_streams} streams of events open",
                remedy="close some of them, or raise MESHBUS_GATEWAY_QUOTA_STREAMS",
            )
        if identity == LOCAL:
            await self.local.serve(write, joined=joined)
            return
        if self._closed is not None:
            raise self._closed
        events = self._others.get(identity) or self.make(_key(identity), self.sight(identity))
        self._others[identity] = events
        self._streams[identity] = self._streams.get(identity, 0) + 1
        try:
            await events.serve(write, joined=joined)
        finally:
            self._streams[identity] -= 1
            if not self._streams[identity]:
                del self._streams[identity], self._others[identity]

    def close(self, error: MeshbusError) -> None:
        """Ends all streams with `error`, and those that come later."""
        self._closed = error
        for events in self._all():
            events.close(error)

    def recheck(self) -> None:
        """NATS is back, perhaps with another stream than before."""
        for events in self._all():
            events.recheck()

    def _of(self, identity: Identity) -> Iterator[Events]:
        """Those of one name: a caller chooses no further groups to have further streams."""
        if identity.name == LOCAL.name:
            yield self.local
        yield from (e for other, e in self._others.items() if other.name == identity.name)

    def _all(self) -> Iterator[Events]:
        yield self.local
        yield from list(self._others.values())

    def sight(self, identity: Identity) -> Sees:
        """Which events it may see."""

        async def sees(event: Event) -> bool:
            policy = self.policy()
            if policy.is_open:
                return True
            owner = await self.owners.of(event.operation)
            return policy.may_see(identity, cluster=event.cluster, owner=owner)

        return sees


def _key(identity: Identity) -> str:
    """With the groups: in others it may see other events, which its mark has not passed."""
    if not identity.groups:
        return f"identity.{subjects.token(identity.name)}"
    words = "\n".join([identity.name, *sorted(identity.groups)])
    return f"identity.{subjects.token(identity.name)}.{subjects.hash_token(words.encode())}"
