"""What an operation works with: one command, one cluster, one story."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from services.chassis.bus.leases import Fence
from services.chassis.kube.client import KubeClient
from services.chassis.kube.resources import Resources
from services.chassis.messages import AdvertisedOperation, Command
from services.chassis.operations.endings import Result
from services.chassis.operations.progress import Progress
from services.lifecycle.cluster.inventory import Surveyor
from services.lifecycle.manifests.engine import Engine

__all__ = ["Operation", "Result", "Run", "Work"]


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
    mesh: Callable[[], AbstractAsyncContextManager[None]]
    """Holds the cluster's mesh for a block; raises `ClusterBusy` when another operation does."""


Run = Callable[[Work], Awaitable[Result]]
"""Carries one operation out on one cluster."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that this worker offers."""

    advertised: AdvertisedOperation
    run: Run
