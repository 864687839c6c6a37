"""What an operation works with: one command, one cluster, one story."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.bus.leases import Fence
from services.chassis.kube.client import KubeClient
from services.chassis.kube.resources import Resources
from services.chassis.messages import Command
from services.lifecycle.engine import Engine
from services.lifecycle.inventory import Surveyor
from services.lifecycle.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One command on one cluster, in one attempt."""

    command: Command
    client: KubeClient
    resources: Resources
    engine: Engine
    surveyor: Surveyor
    fence: Fence
    progress: Progress


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished operation tells its caller."""

    summary: str
    details: str = ""
    numbers: tuple[tuple[str, float], ...] = ()
