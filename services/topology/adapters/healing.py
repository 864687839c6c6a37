"""Drift healing through lifecycle: topology itself writes to no cluster."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from services.chassis.bus.publishing import Publisher
from services.chassis.kube.manifests import dump_manifest
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import Command, SlotKind
from services.chassis.messages.applied import AppliedObject, healing_id

_PUBLISH_WITHIN = timedelta(seconds=5)
_BEGUN_WITHIN = timedelta(seconds=30)
"""Later the object is looked at again anyway."""


@dataclass(frozen=True, slots=True)
class LifecycleHealer:
    """Implements `drift.ports.Healer`, with the credential of the registered cluster."""

    publisher: Publisher
    cluster_name: str = ""

    async def heal(self, cluster: str, intent: AppliedObject, body: KubeObject) -> str:
        operation = healing_id(intent, number=uuid.uuid4().hex)
        command = Command(
            operation=operation,
            kind="manifest",
            cluster=cluster,
            cluster_name=self.cluster_name,
            namespace=intent.namespace or "default",
            username=intent.username,
            body=dump_manifest([body]),
            deadline=datetime.now(timezone.utc) + _BEGUN_WITHIN,
        )
        await self.publisher.command(
            command, service="lifecycle", slot=SlotKind.APPLY, within=_PUBLISH_WITHIN
        )
        return operation
