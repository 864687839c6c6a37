"""The operation `istio-rollout` over simulated clusters: waves, gates, the way back, wishes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from services.chassis.messages import Phase
from tests.testbed.fleets import LABELLED, PLAIN, TAGGED, mesh_labels, restarts, revisions, tags
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.rollouts import NEW, WITHIN_S, Place, rolling
from tests.testbed.stored import stored_events
from tests.testbed.waiting import eventually


@pytest.fixture(scope="module", params=[2, pytest.param(8, marks=pytest.mark.full)])
async def place(
    request: pytest.FixtureRequest, built: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    async with rolling(tmp_path_factory.mktemp("fleet"), request.param) as place:
        yield place


async def test_a_fleet_moves_in_waves(place: Place) -> None:
    before = {c.name: restarts(c, TAGGED) for c in place.clusters}
    rollout = await place.rollout()
    told = await place.over(rollout)
    assert told["state"] == "done", told
    assert [len(wave) for wave in told["waves"]] == [1, len(place.clusters) - 1]
    for cluster in place.clusters:
        assert revisions(cluster) == {NEW: ISTIO_VERSION}
        assert tags(cluster) == {"prod": NEW, "default": NEW}
        # The labels are those from before: they mean the new revision now.
        assert mesh_labels(cluster, TAGGED) == {"istio.io/rev": "prod"}
        assert mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}
        assert restarts(cluster, TAGGED) == before[cluster.name] + 1
        assert restarts(cluster, PLAIN) == 0
    for final in await place.meshery.finals(rollout, count=len(place.clusters)):
        assert not final.failed, final.event
    events = await stored_events(place.stack, rollout)
    took = [datetime.fromisoformat(told[name]) for name in ("begun", "ended")]
    worked = sum(event.numbers["seconds"] for event in events if event.phase is Phase.DONE)
    print(f"{len(place.clusters)} clusters: {took[1] - took[0]}, their steps {worked:.1f} s")
    for cluster in place.clusters:
        own = [event.summary for event in events if event.cluster == cluster.token]
        order = [
            *("Waits for its wave", "Wave ", "prechecks: done", "the new revision comes up: done"),
            *("namespaces move: done", "The gate holds"),
            *("tags and gateways move: done", "The gate holds after the soak"),
            *("the old revision goes: done", "rolled out successfully"),
        ]
        places = [next(i for i, text in enumerate(own) if words in text) for words in order]
        assert places == sorted(places), own


async def test_a_gate_that_fails_in_the_second_wave_brings_it_back(place: Place) -> None:
    """With eight clusters: in waves 1, 3, 4."""
    current = next(iter(revisions(place.clusters[0])))
    rollout = await place.rollout(revision="second", waves=[{"clusters": 1}, {"clusters": 3}, {}])
    told = await place.until(rollout, wave=2)
    bad = next(c for c in told["clusters"] if c["wave"] == 2)
    place.traffic.failing[bad["name"]] = 0.3
    told = await place.over(rollout)
    place.traffic.failing[bad["name"]] = 0.0
    assert told["state"] == "stopped"
    assert told["reason"]["code"] == "MB-4016"
    assert f"{bad['name']}: " in told["reason"]["summary"]
    by_wave = {c["name"]: (c["wave"], c["state"]) for c in told["clusters"]}
    for cluster in place.clusters:
        wave, state = by_wave[cluster.name]
        assert state == {1: "done", 2: "rolled back", 3: "left as it was"}[wave]
        revision = "second" if wave == 1 else current
        assert revisions(cluster) == {revision: ISTIO_VERSION}
        assert tags(cluster) == {"prod": revision, "default": revision}
        assert mesh_labels(cluster, TAGGED) == {"istio.io/rev": "prod"}
        assert mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}
    finals = await place.meshery.finals(rollout, count=len(place.clusters))
    assert sum(final.failed for final in finals) == len(place.clusters) - 1
    events = await stored_events(place.stack, rollout)
    ends = [e for e in events if e.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)]
    assert len(ends) == len(place.clusters)


async def test_no_cluster_has_two_rollouts_and_people_have_the_last_word(place: Place) -> None:
    first = await place.rollout(revision="third", waves=[{}])
    await place.until(first, stage="precheck")
    assert (await asyncio.to_thread(place.ask, "rolloutpause", rollout=first))["state"] == "paused"
    second = await place.rollout(revision="fourth", waves=[{}])
    for refused in await place.meshery.finals(second, count=len(place.clusters)):
        assert refused.failed
        assert first in refused.event.details
    await asyncio.to_thread(place.ask, "rolloutresume", rollout=first)
    await place.until(first, stage="gate")
    leaving = place.clusters[0]
    await asyncio.to_thread(place.ask, "rolloutback", rollout=first, cluster=leaving.name)
    await eventually(
        lambda: "third" not in revisions(leaving), what="one cluster back", within_s=WITHIN_S
    )
    await asyncio.to_thread(place.ask, "rolloutabort", rollout=first)
    told = await place.over(first)
    assert told["state"] == "stopped"
    assert {c["state"] for c in told["clusters"]} == {"rolled back"}
    for cluster in place.clusters:
        assert "third" not in revisions(cluster)
        assert mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}


async def test_a_policy_goes_in_waves_and_back(place: Place) -> None:
    def policy(mode: str) -> str:
        metadata = {"name": "default", "namespace": TAGGED}
        kind = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication"}
        return json.dumps({**kind, "metadata": metadata, "spec": {"mtls": {"mode": mode}}})

    def modes() -> set[str]:
        path = f"/apis/security.istio.io/v1/namespaces/{TAGGED}/peerauthentications/default"
        return {c.api.request("GET", path)["spec"]["mtls"]["mode"] for c in place.clusters}

    first = await place.rollout_of(policy("PERMISSIVE"))
    assert (await place.over(first))["state"] == "done"
    assert modes() == {"PERMISSIVE"}
    second = await place.rollout_of(policy("STRICT"), waves=[{}])
    await place.until(second, stage="gate")
    assert modes() == {"STRICT"}
    for cluster in place.clusters:
        place.traffic.failing[cluster.name] = 0.5
    told = await place.over(second)
    assert told["reason"]["code"] == "MB-4016"
    assert modes() == {"PERMISSIVE"}
    for cluster in place.clusters:
        place.traffic.failing[cluster.name] = 0.0
