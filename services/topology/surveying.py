"""Keeping up what is known of one cluster's proxies, over failures of those who are asked.

Each istiod is asked one question every turn: mostly for its proxies, now and then what it counts.
Agents are asked in turn, each of them once in some minutes. What comes of it goes into the state
like objects of the cluster, so that the graph and the rules hear of what has changed, and of
nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from services.chassis.errors import ClusterForbidden, MeshbusError
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Pod
from services.topology.observing import Observer
from services.topology.proxies.surveys import Survey
from services.topology.proxies.told import Figures, ToldProxy, Word

log = structlog.get_logger(__name__)

_FIGURES_EVERY = 4
_AGENT_TURNS = 40
_MOST_AGENTS = 16
_REFUSED_FOR_TURNS = 40
"""How long a right that is missing is not asked for again."""
_AT_ONCE = 4
# A turn takes a twentieth of the processor's time at most: of an answer of megabytes, decoding is
# the most. Waiting does not count.
_PAUSE_FACTOR = 19
_LONGEST_PAUSE_S = 45.0
_RIGHT = (
    "may not read how proxies stand with {where}: it needs get and create on pods/portforward in "
    "namespace {namespace} (docs/reference/rbac.md)"
)
OK, PARTLY, UNAVAILABLE, NONE = "ok", "partly", "unavailable", "none"
"""Whether all control planes tell, some, or none; or there is none."""


class Source(Protocol):
    """Who is asked; each question may raise a `MeshbusError`."""

    async def proxies(self, istiod: Pod) -> list[ToldProxy]: ...

    async def figures(self, istiod: Pod) -> Figures: ...

    async def word(self, pod: Pod) -> Word: ...


@dataclass(slots=True, kw_only=True)
class Surveying:
    """Asks again and again."""

    survey: Survey
    source: Source
    observer: Observer
    every: timedelta
    _turn: int = 0
    _refused: dict[Key, int] = field(default_factory=dict)
    """Istiods that may not be asked for their proxies, and until which turn."""
    _spaces: set[str] = field(default_factory=set)
    """Namespaces with proxies that something is known of."""

    async def run(self) -> None:
        """Asks until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began, busy = loop.time(), time.thread_time()
            await self.turn()
            took, busy = loop.time() - began, time.thread_time() - busy
            pause = min(_PAUSE_FACTOR * busy, _LONGEST_PAUSE_S)
            await asyncio.sleep(max(self.every.total_seconds() - took, pause))

    async def turn(self) -> None:
        """One question to each istiod, and one to each of some agents."""
        istiods = self.survey.control_planes()
        for gone in self._refused.keys() - {istiod.key for istiod in istiods}:
            del self._refused[gone]
        agents = self.survey.agents(most=_MOST_AGENTS, turns=_AGENT_TURNS)
        loop = asyncio.get_running_loop()
        # Agents that do not answer must not keep istiod from being asked again in time.
        last = loop.time() + self.every.total_seconds() / 2
        few, some = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_AT_ONCE)

        async def ask_istiod(pod: Pod) -> None:
            async with few:
                await self._ask_istiod(pod)

        async def ask_agent(pod: Pod) -> None:
            async with some:
                if loop.time() <= last:
                    await self._ask_agent(pod)

        async with asyncio.TaskGroup() as asking:
            for pod in istiods:
                asking.create_task(ask_istiod(pod))
            for pod in agents:
                asking.create_task(ask_agent(pod))
        self._turn += 1
        await self._tell(has_istiods=bool(istiods))

    async def _ask_istiod(self, istiod: Pod) -> None:
        key = istiod.key
        where = f"istiod {istiod.namespace}/{istiod.name}"
        if self._refused.get(key, -1) > self._turn or self._turn % _FIGURES_EVERY == 1:
            await self._count(istiod)
            return
        try:
            self.survey.told(key, await self.source.proxies(istiod))
            self._refused.pop(key, None)
        except ClusterForbidden as error:
            if key not in self._refused:
                log.warning("proxies_refused", istiod=str(key), reason=error.summary)
            self._refused[key] = self._turn + _REFUSED_FOR_TURNS
            self.survey.failed(key, _RIGHT.format(where=where, namespace=istiod.namespace))
        except MeshbusError as error:
            self.survey.failed(key, error.summary)
        except Exception:
            # An unforeseen answer must not end the watching of the cluster.
            log.exception("survey_failed", istiod=str(key))
            self.survey.failed(key, f"what {where} tells cannot be read")

    async def _count(self, istiod: Pod) -> None:
        """Figures are told where they can be had, and missing otherwise."""
        try:
            self.survey.counted(istiod.key, await self.source.figures(istiod))
        except MeshbusError as error:
            log.debug("figures_missing", istiod=str(istiod.key), reason=error.summary)
        except Exception:
            log.exception("figures_failed", istiod=str(istiod.key))

    async def _ask_agent(self, pod: Pod) -> None:
        try:
            self.survey.said(pod, await self.source.word(pod))
        except MeshbusError:
            self.survey.said(pod, None)
        except Exception:
            log.exception("agent_failed", pod=str(pod.key))
            self.survey.said(pod, None)

    async def _tell(self, *, has_istiods: bool) -> None:
        self.observer.listed(kinds.ISTIOD, self.survey.istiods())
        before, self._spaces = self._spaces, set()
        standings: Counter[str] = Counter()
        for space, records in self.survey.records():
            self.observer.listed(kinds.PROXY, records, namespace=space)
            standings.update(record.standing.value for record in records)
            self._spaces.add(space)
            await asyncio.sleep(0)
        for space in before - self._spaces:
            self.observer.listed(kinds.PROXY, (), namespace=space)
        problems = self.survey.problems
        self.observer.control_plane(
            state=self._state(has_istiods, problems),
            detail="; ".join(sorted(set(problems))[:3]),
            planes=self.survey.versions(),
            proxies=standings,
        )

    def _state(self, has_istiods: bool, problems: Iterable[str]) -> str:
        if not has_istiods:
            return NONE
        if all(plane.told_s is None for plane in self.survey.planes.values()):
            return UNAVAILABLE
        return PARTLY if any(problems) else OK
