"""Quotas: what one identity may have waiting, so that a flood is refused and no loss for others.

What waits is counted by the gateway that accepted it, and leaves the count with the final event of
the operation on that cluster. Events may be missed, so nobody is refused by the count alone: before
that the records are read, which are always right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from services.chassis.bus import subjects
from services.chassis.bus.records import Records
from services.chassis.errors import QuotaExceeded
from services.chassis.messages import OperationRecord

# Whoever is over a quota and asks again and again must not make the gateway read all the time.
_READ_AGAIN_AFTER = timedelta(seconds=2)
_READ_AT_ONCE = 64

Counted: TypeAlias = tuple[str, str]
"""One operation on one cluster: the tokens of both."""
HasEnded = Callable[[str, str], Awaitable[bool]]
"""Whether the record of an operation on a cluster says that it has ended."""


def parts_ended(records: Records[OperationRecord]) -> HasEnded:
    """Reads it from the bucket `ops`."""

    async def has_ended(operation: str, cluster: str) -> bool:
        stored = await records.get(f"{operation}.{cluster}")
        return stored is not None and stored[0].state.is_terminal

    return has_ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one identity may have waiting or running."""

    commands: int
    clusters: int
    size: int
    """Bytes of bodies and kubeconfigs."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What one part weighs, and when it is over at the latest."""

    size: int
    until: datetime


@dataclass(slots=True)
class Quotas:
    """What waits, by who asked for it."""

    quota: Quota
    has_ended: HasEnded
    now: Callable[[], datetime]
    _waiting: dict[str, dict[Counted, _Load]] = field(default_factory=dict)
    _owners: dict[Counted, str] = field(default_factory=dict)
    _read: dict[str, datetime] = field(default_factory=dict)
    """When the records of an identity's parts were read."""

    async def admit(
        self, identity: str, operation: str, sizes: Mapping[str, int], *, until: datetime
    ) -> list[Counted]:
        """Counts an operation's parts, by cluster; returns those that were not counted before.

        Raises `QuotaExceeded` when the identity would have more waiting than it may.
        """
        if self._excess(identity, operation, sizes):
            await self._forget_ended(identity)
        excess = self._excess(identity, operation, sizes)
        if excess:
            raise QuotaExceeded(f"{identity} has {excess}", subject=identity)
        return self._count(identity, operation, sizes, until)

    def counts(self, operation: str, cluster: str) -> bool:
        """Whether a part is counted: no end of it was heard."""
        return (subjects.token(operation), cluster) in self._owners

    def release(self, operation: str, cluster: str) -> None:
        """Takes a part out of the count: it has ended, or was never accepted."""
        part = (operation, cluster)
        identity = self._owners.pop(part, None)
        if identity is None:
            return
        waiting = self._waiting[identity]
        del waiting[part]
        if not waiting:
            del self._waiting[identity]
            self._read.pop(identity, None)

    def _count(
        self, identity: str, operation: str, sizes: Mapping[str, int], until: datetime
    ) -> list[Counted]:
        new = []
        for cluster, size in sizes.items():
            part = (subjects.token(operation), cluster)
            if part not in self._owners:
                self._owners[part] = identity
                self._waiting.setdefault(identity, {})[part] = _Load(size, until)
                new.append(part)
        return new

    def _excess(self, identity: str, operation: str, sizes: Mapping[str, int]) -> str:
        """Which quota the identity would exceed, in words; "" when none."""
        waiting, quota = self._waiting.get(identity, {}), self.quota
        token = subjects.token(operation)
        new = {c: size for c, size in sizes.items() if (token, c) not in self._owners}
        clusters = {cluster for _, cluster in waiting} | new.keys()
        size = sum(load.size for load in waiting.values()) + sum(new.values())
        if not new:
            return ""
        if len(waiting) + len(new) > quota.commands:
            return f"{len(waiting)} commands waiting, of {quota.commands} that it may have"
        if len(clusters) > quota.clusters:
            return f"work for more clusters than it may have at a time ({quota.clusters})"
        if size > quota.size:
            return f"more than {quota.size} bytes of bodies and kubeconfigs waiting"
        return ""

    async def _forget_ended(self, identity: str) -> None:
        """Reads which of the identity's parts have ended without their event being heard."""
        now = self.now()
        read = self._read.get(identity)
        if read is not None and now - read < _READ_AGAIN_AFTER:
            return
        self._read[identity] = now
        parts = list(self._waiting.get(identity, {}).items())
        for start in range(0, len(parts), _READ_AT_ONCE):
            chunk = parts[start : start + _READ_AT_ONCE]
            ended = await asyncio.gather(*(self._is_over(part, load) for part, load in chunk))
            for (part, _), is_over in zip(chunk, ended, strict=True):
                if is_over:
                    self.release(*part)

    async def _is_over(self, part: Counted, load: _Load) -> bool:
        return load.until <= self.now() or await self.has_ended(*part)
