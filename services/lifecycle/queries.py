"""What lifecycle answers over the service API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.bus import subjects
from services.chassis.bus.queries import Query
from services.chassis.errors import MalformedRequest, ObjectNotFound
from services.lifecycle.handlers import Handlers


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one worker; any replica can give them."""

    handlers: Handlers
    versions: Sequence[str]

    def queries(self) -> list[Query]:
        return [
            Query("versions", "{}", self.list_versions),
            Query("status", '{"operation": ID, "cluster": TOKEN}', self.status),
            Query("cancel", '{"operation": ID, "cluster": TOKEN}', self.cancel),
        ]

    async def list_versions(self, _asked: dict[str, Any]) -> dict[str, Any]:
        """Istio versions that can be installed, newest first."""
        return {"versions": list(self.versions)}

    async def status(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The record of an operation on one cluster."""
        operation, cluster = _names(asked)
        stored = await self.handlers.records.get(subjects.operation_key(operation, cluster))
        if stored is None:
            raise ObjectNotFound(f"no worker has seen operation {operation} on cluster {cluster}")
        record: dict[str, Any] = stored[0].model_dump(mode="json", exclude={"final"})
        return record

    async def cancel(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Asks a running operation to stop at its next step."""
        operation, cluster = _names(asked)
        return {"cancelling": await self.handlers.cancel(operation, cluster)}


def _names(asked: dict[str, Any]) -> tuple[str, str]:
    operation, cluster = asked.get("operation"), asked.get("cluster")
    if not isinstance(operation, str) or not isinstance(cluster, str):
        raise MalformedRequest(
            "operation and cluster are missing",
            remedy='send {"operation": ID, "cluster": TOKEN}; both stand in every event',
        )
    return operation, subjects.token(cluster)
