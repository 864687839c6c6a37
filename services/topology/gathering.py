"""One question about many clusters: the answers that come in time and fit, and who did not answer.

A cluster that cannot be asked is named with the reason. Nothing is left out without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.chassis.errors import (
    ClusterNotWatched,
    ClusterUnreachable,
    MeshbusError,
    RequestTooLarge,
    WorkerUnavailable,
)
from services.topology.feed import rendering
from services.topology.feed.views import ClusterView
from services.topology.observing import UNREACHABLE, UNWATCHED

WITHIN_S = 8.0
"""Less than whoever asked waits."""
MOST_BYTES = 64 * 1024 * 1024
"""Of all answers together, as JSON."""
_AT_ONCE = 64

One = Callable[[ClusterView], Awaitable[Any]]
"""The answer about one cluster; may raise a `MeshbusError`."""


@dataclass(slots=True)
class Gathered:
    """What came."""

    answers: dict[str, Any] = field(default_factory=dict)
    """By cluster."""
    missing: list[dict[str, str]] = field(default_factory=list)
    _bytes: int = 0

    def _add(self, view: ClusterView, answer: Any) -> None:
        is_view = isinstance(answer, ClusterView)
        self._bytes += answer.size if is_view else len(orjson.dumps(answer))
        if self._bytes > MOST_BYTES:
            raise RequestTooLarge(
                f"the answers of all clusters take more than {MOST_BYTES >> 20} MiB",
                cause="several clusters are asked at once",
                remedy='ask for some of them: send {"clusters": [NAME, ...]}',
            )
        self.answers[view.cluster] = answer

    def miss(self, cluster: str, name: str, error: MeshbusError) -> None:
        """Names a cluster that is not in the answer."""
        told = {"why": error.summary, "code": error.code, "remedy": error.remedy}
        self.missing.append({"cluster": cluster, "name": name, **told})


def name_of(view: ClusterView) -> str:
    """What people call a cluster."""
    return str(rendering.info(view).get("name") or view.cluster)


async def gathered(
    views: Iterable[ClusterView], one: One, *, within_s: float = WITHIN_S
) -> Gathered:
    """Asks about each cluster side by side.

    Raises `RequestTooLarge` when the answers are too many, and what is no `MeshbusError`.
    """
    found, few = Gathered(), asyncio.Semaphore(_AT_ONCE)

    async def asked(view: ClusterView) -> Any:
        info = rendering.info(view)
        if info.get("state") == UNREACHABLE:
            raise ClusterUnreachable(str(info.get("detail") or "it cannot be reached"))
        if info.get("state") == UNWATCHED:
            raise ClusterNotWatched(str(info.get("detail") or "nobody watches it"))
        async with few:
            return await one(view)

    asking = {
        asyncio.create_task(asked(view), name=f"gather-{view.cluster}"): view for view in views
    }
    if not asking:
        return found
    try:
        _, late = await asyncio.wait(asking, timeout=within_s)
        # In the order of the clusters, whichever answered first.
        for task, view in asking.items():
            if task in late:
                found.miss(
                    view.cluster,
                    name_of(view),
                    WorkerUnavailable(f"no answer within {within_s:g} s"),
                )
                continue
            error = task.exception()
            if isinstance(error, MeshbusError):
                found.miss(view.cluster, name_of(view), error)
            elif error is not None:
                raise error
            else:
                found._add(view, task.result())
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return found
