"""A rollout whose workers die in any stage, and NATS once: it goes on, no step comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from services.chassis.messages import Event, Phase
from tests.testbed.fleets import (
    LABELLED,
    TAGGED,
    MeshlessWebhooks,
    mesh_labels,
    restarts,
    revisions,
    tags,
)
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION
from tests.testbed.rollouts import NEW, OLD, WITHIN_S, Place, rolling
from tests.testbed.stored import stored_events
from tests.testbed.waiting import eventually

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
@pytest.mark.parametrize(
    "stages",
    [("move", "switch"), pytest.param(_STAGES, marks=pytest.mark.full)],
    ids=["in two stages", "in each stage"],
)
async def test_a_rollout_survives_the_death_of_anything(
    place: Place, stages: Sequence[str]
) -> None:
    before = {c.name: restarts(c, TAGGED) for c in place.clusters}
    rollout = await place.rollout(waves=[{"clusters": 1}, {"clusters": 3}, {}])
    for number, stage in enumerate(stages):
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
    times = {name: number + 1 for name, number in before.items()}
    ends = await _ended(place, rollout, revision=NEW, version=ISTIO_VERSION, restarted=times)
    assert {event.phase for event in ends} == {Phase.DONE}


@pytest.mark.timeout(1500)
async def test_a_way_back_survives_the_death_of_anything(place: Place) -> None:
    before = {c.name: restarts(c, TAGGED) for c in place.clusters}
    gate = {"errorRatio": 0.02, "windowSeconds": 3600}
    rollout = await place.rollout(waves=[{}], gate=gate)
    await place.until(rollout, stage="gate")
    await asyncio.to_thread(place.ask, "rolloutabort", rollout=rollout)
    for number, is_at in enumerate((_labelled_again, _restarted_again, _removed)):
        last = place.clusters[-1]
        await eventually(
            lambda is_at=is_at, last=last: is_at(last, before[last.name]),
            what=f"the way back to get to {is_at.__name__}",
            within_s=WITHIN_S,
        )
        await _killed(place, _WORKERS[number % 2])
        await _killed(place, _WORKERS[(number + 1) % 2])
    told = await place.over(rollout)
    assert {one["state"] for one in told["clusters"]} == {"rolled back"}, told
    # There and back, each once.
    times = {name: number + 2 for name, number in before.items()}
    await _ended(place, rollout, revision=OLD, version=ISTIO_OLDER_VERSION, restarted=times)


async def _ended(
    place: Place, rollout: str, *, revision: str, version: str, restarted: Mapping[str, int]
) -> list[Event]:
    """All clusters are with one revision, and each has one end, which are returned; `restarted` is
    how often its workload was restarted, by its name."""
    for cluster in place.clusters:
        assert revisions(cluster) == {revision: version}
        assert tags(cluster) == {"prod": revision, "default": revision}
        assert mesh_labels(cluster, TAGGED) == {"istio.io/rev": "prod"}
        assert mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}
        assert restarts(cluster, TAGGED) == restarted[cluster.name]
    ends = [event for event in await stored_events(place.stack, rollout) if event.is_final]
    assert sorted(event.cluster for event in ends) == sorted(c.token for c in place.clusters)
    return ends


def _labelled_again(cluster: MeshlessWebhooks, _: int) -> bool:
    return mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}


def _restarted_again(cluster: MeshlessWebhooks, before: int) -> bool:
    return restarts(cluster, TAGGED) == before + 2


def _removed(cluster: MeshlessWebhooks, _: int) -> bool:
    """The removal of the new revision has begun, at the least."""
    return NEW not in revisions(cluster)


async def _killed(place: Place, worker: str) -> None:
    process = place.stack.processes[worker]
    process.kill()
    await asyncio.to_thread(process.start)
