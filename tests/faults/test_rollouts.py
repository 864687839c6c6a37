"""A rollout whose workers die in every stage, and NATS once: it goes on, no step comes twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from services.chassis.messages import Phase
from tests.testbed.fleets import LABELLED, TAGGED, mesh_labels, restarts, revisions, tags
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.rollouts import NEW, Place, rolling
from tests.testbed.stored import stored_events

_STAGES = ("precheck", "canary", "move", "gate", "switch", "soak", "remove")
_WORKERS = ("lifecycle", "another")


@pytest.fixture(params=[2, pytest.param(8, marks=pytest.mark.full)])
async def place(
    request: pytest.FixtureRequest, built: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    async with rolling(tmp_path_factory.mktemp("fleet"), request.param) as place:
        place.stack.add("lifecycle", name=_WORKERS[1])
        place.stack.wait_ready(_WORKERS[1])
        yield place


@pytest.mark.timeout(1500)
async def test_a_rollout_survives_the_death_of_anything(place: Place) -> None:
    before = {c.name: restarts(c, TAGGED) for c in place.clusters}
    rollout = await place.rollout(waves=[{"clusters": 1}, {"clusters": 3}, {}])
    for number, stage in enumerate(_STAGES):
        await place.until(rollout, stage=stage)
        # One of them conducts, and either may have the step.
        await _killed(place, _WORKERS[number % 2])
    await place.until(rollout, wave=2, stage="move")
    for worker in _WORKERS:
        place.stack.processes[worker].kill()
    place.stack.nats.kill()
    await asyncio.to_thread(place.stack.nats.start)
    for worker in _WORKERS:
        await asyncio.to_thread(place.stack.processes[worker].start)
    told = await place.over(rollout)
    assert told["state"] == "done", told
    for cluster in place.clusters:
        assert revisions(cluster) == {NEW: ISTIO_VERSION}
        assert tags(cluster) == {"prod": NEW, "default": NEW}
        assert mesh_labels(cluster, TAGGED) == {"istio.io/rev": "prod"}
        assert mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}
        assert restarts(cluster, TAGGED) == before[cluster.name] + 1
    events = await stored_events(place.stack, rollout)
    ends = Counter(event.cluster for event in events if event.is_final)
    assert ends == {cluster.token: 1 for cluster in place.clusters}
    assert all(event.phase is Phase.DONE for event in events if event.is_final)


async def _killed(place: Place, worker: str) -> None:
    process = place.stack.processes[worker]
    process.kill()
    await asyncio.to_thread(process.start)
