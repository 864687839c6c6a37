"""Questions to other services about what a rollout has changed, over the service API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import ask
from services.lifecycle.rollouts.gates import Ask

_WITHIN = timedelta(seconds=10)


def asking(bus: Bus, service: str) -> Ask:
    """Asks `mesh.<service>.<verb>`: topology how a wave does, perf for load tests."""

    async def asked(verb: str, question: Mapping[str, Any]) -> Any:
        return await ask(bus, dict(question), service=service, verb=verb, within=_WITHIN)

    return asked
