"""The translator's report of an upgrade, over the service API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import ask
from services.chassis.kube.objects import KubeObject
from services.lifecycle.mesh.prechecks import Report

# A first question reads the definitions of two versions.
_WITHIN = timedelta(seconds=20)


def upgrade_report(bus: Bus) -> Report:
    """Asks `mesh.translator.upgrade`."""

    async def report(objects: Sequence[KubeObject], current: str, target: str) -> dict[str, Any]:
        question = {"objects": list(objects), "from": current, "to": target}
        answer: dict[str, Any] = await ask(
            bus, question, service="translator", verb="upgrade", within=_WITHIN
        )
        return answer

    return report
