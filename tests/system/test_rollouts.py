"""The operation `istio-rollout` over simulated clusters: waves, gates, the way back, wishes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from services.chassis.bus.intents import AppliedObject, key_of, unpacked
from services.chassis.bus.records import Bucket
from services.chassis.messages import Phase
from services.lifecycle.rollouts.records import rollout_key
from tests.testbed import loopback
from tests.testbed.backends import Backends
from tests.testbed.bodies import config_map, namespace, options
from tests.testbed.clusters import Cluster
from tests.testbed.fleets import (
    LABELLED,
    PLAIN,
    TAGGED,
    MeshlessWebhooks,
    deployment,
    mesh_labels,
    restarts,
    revisions,
    tags,
)
from tests.testbed.perfrigs import smp
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.rollouts import NEW, WITHIN_S, Place, rolling
from tests.testbed.stored import admin_bus, stored_events
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
    assert told["state"] == "done", told["reason"]
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
    await asyncio.to_thread(place.ask, "rolloutback", rollout=first, cluster=leaving.token)
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


async def test_a_way_back_keeps_at_it_and_leaves_what_others_have(place: Place) -> None:
    held, noted = place.clusters[:2]
    before = {c.name: revisions(c) for c in place.clusters}
    # Left by a way back that was given up: not this rollout's to bring back.
    left = json.dumps({"istio.io/rev": "ancient", "istio-injection": None, "rollout": "another"})
    note(noted, LABELLED, left)
    gate = {"errorRatio": 0.02, "windowSeconds": 3600}
    rollout = await place.rollout(
        revision="fifth", waves=[{}], gate=gate, disruptionTimeoutSeconds=1
    )
    await place.until(rollout, stage="gate")
    assert mesh_labels(noted, LABELLED) == {"istio.io/rev": "fifth"}
    guest = deployment("guest", replicas=1)
    guest["spec"]["template"]["metadata"]["labels"]["istio.io/rev"] = "fifth"
    held.api.create_or_keep(f"/apis/apps/v1/namespaces/{PLAIN}/deployments", guest)
    status = ("rollout", "status", "deployment/guest", f"--namespace={PLAIN}")
    await asyncio.to_thread(held.kubectl, *status)
    least_available(held, 2)
    await asyncio.to_thread(place.ask, "rolloutabort", rollout=rollout)
    await told_by(place, rollout, "does not get back yet")
    await asyncio.to_thread(place.ask, "cancel", operation=rollout, cluster=held.token)
    least_available(held, 1)
    told = await place.over(rollout)
    assert {c["state"] for c in told["clusters"]} == {"rolled back"}, told
    for cluster in place.clusters:
        assert mesh_labels(cluster, TAGGED) == {"istio.io/rev": "prod"}
        assert mesh_labels(cluster, LABELLED) == {"istio-injection": "enabled"}
        assert set(tags(cluster).values()) == set(before[cluster.name])
        stays = {"fifth": ISTIO_VERSION} if cluster is held else {}
        assert revisions(cluster) == {**before[cluster.name], **stays}
    finals = await place.meshery.finals(rollout, count=len(place.clusters))
    [why] = [f.event.details for f in finals if "revision fifth stays" in f.event.details]
    assert f"{PLAIN}/guest" in why
    held.kubectl("delete", "deployment/guest", f"--namespace={PLAIN}")
    gone = await place.meshery.apply(
        "istio",
        delete=True,
        body=options(revision="fifth"),
        kubeconfigs=[held.kubeconfig_text],
    )
    [end] = await place.meshery.finals(gone, within_s=WITHIN_S)
    assert not end.failed, end.event


async def told_by(place: Place, rollout: str, words: str) -> None:
    async def is_told() -> bool:
        events = await stored_events(place.stack, rollout)
        return any(words in event.summary for event in events)

    await eventually(is_told, what=f"the rollout to tell: {words}", within_s=WITHIN_S)


def note(cluster: Cluster, of: str, text: str) -> None:
    annotated = f"meshbus.io/rollout-former-labels={text}"
    cluster.kubectl("annotate", "namespace", of, annotated, "--overwrite")


def least_available(cluster: Cluster, pods: int) -> None:
    """Lets the workload of the tag's namespace be disrupted, or not."""
    patch = json.dumps({"spec": {"minAvailable": pods}})
    cluster.kubectl("patch", "pdb", "web", f"--namespace={TAGGED}", "--patch", patch)


@pytest.mark.full
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


_POLICY = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication"}


async def test_a_manifest_goes_back_where_nobody_has_changed_it_since(place: Place) -> None:
    edited, calm = place.clusters[:2]
    for cluster in place.clusters:
        for name in ("edited", "shared"):
            written = config_map(name, namespace=PLAIN, value="1")
            cluster.kubectl("apply", "--filename=-", stdin=written)
    policy = {**_POLICY, "metadata": {"name": "kept", "namespace": TAGGED}}
    mild, strict = ({**policy, "spec": {"mtls": {"mode": m}}} for m in ("PERMISSIVE", "STRICT"))
    first = await place.rollout_of(json.dumps(mild))
    assert (await place.over(first))["state"] == "done"
    documents = [
        json.dumps(namespace("fresh")),
        json.dumps(strict),
        *(config_map(name, namespace=PLAIN, value="2") for name in ("edited", "shared", "extra")),
        config_map("own", namespace="fresh"),
    ]
    gate = {"errorRatio": 0.02, "windowSeconds": 3600}
    second = await place.rollout_of("\n---\n".join(documents), waves=[{}], gate=gate)
    await place.until(second, stage="gate")
    assert {data(c, "edited")["v"] for c in place.clusters} == {"2"}
    for name, changed in (("edited", {"v": "3"}), ("shared", {"w": "9"})):
        patch = json.dumps({"data": changed})
        edited.kubectl("patch", "configmap", name, f"--namespace={PLAIN}", "--patch", patch)
    edited.kubectl("apply", "--filename=-", stdin=config_map("theirs", namespace="fresh"))

    await asyncio.to_thread(place.ask, "rolloutabort", rollout=second)
    told = await place.over(second)
    assert {c["state"] for c in told["clusters"]} == {"rolled back"}, told
    assert data(edited, "edited") == {"v": "3"}
    assert data(edited, "shared") == {"v": "1", "w": "9"}
    assert data(calm, "edited") == data(calm, "shared") == {"v": "1"}
    found = edited.api.request("GET", "/api/v1/namespaces/fresh/configmaps")["items"]
    assert {"theirs"} == {one["metadata"]["name"] for one in found} - {"kube-root-ca.crt"}
    for cluster in place.clusters:
        assert "extra" not in cluster.kubectl("get", "configmaps", f"--namespace={PLAIN}")
        if cluster is not edited:
            assert "fresh" not in cluster.kubectl("get", "namespaces")
        # What is wanted of an object is what was wanted before.
        meant = await intent(place, cluster, "security.istio.io/PeerAuthentication", TAGGED, "kept")
        assert meant is not None
        assert meant.operation == first
        assert meant.object["spec"]["mtls"]["mode"] == "PERMISSIVE"
        assert await intent(place, cluster, "/ConfigMap", PLAIN, "shared") is None
    events = await stored_events(place.stack, second)
    [left] = [event for event in events if "objects are left as they are" in event.summary]
    assert left.cluster == edited.token
    for words in (
        f"ConfigMap {PLAIN}/edited: somebody has changed it",
        "fresh: it holds ConfigMap",
    ):
        assert words in left.details


def data(cluster: Cluster, name: str) -> dict[str, str]:
    path = f"/api/v1/namespaces/{PLAIN}/configmaps/{name}"
    found: dict[str, str] = cluster.api.request("GET", path)["data"]
    return found


async def intent(
    place: Place, cluster: MeshlessWebhooks, kind: str, in_namespace: str, name: str
) -> AppliedObject | None:
    key = key_of(cluster.token, kind=kind, namespace=in_namespace, name=name)
    async with admin_bus(place.stack) as bus:
        entry = await Bucket(bus, "intents").get(key)
    return unpacked(entry.value) if entry is not None else None


_OBJECTIVE = {"errorRatio": 0.5, "rateRatio": 0.0}
"""That no busy machine breaks."""


async def test_load_tests_before_and_after_are_a_gate(place: Place) -> None:
    place.stack.add("perf")
    place.stack.wait_ready("perf")
    with Backends() as backends:
        shop = backends.add("shop")
        url = f"http://{loopback.HOST}:{shop.port}/"
        test = smp(url, rps=20, duration="1s", connections=1, objective=_OBJECTIVE)
        gate = {"windowSeconds": 5, "performance": {"test": test, "runs": 1}}
        written = config_map("tried", namespace=PLAIN)
        first = await place.rollout_of(written, waves=[{}], gate=gate)
        told = await place.over(first)
        assert told["state"] == "done", told["reason"]
        events = await stored_events(place.stack, first)
        compared = [event.cluster for event in events if event.summary.startswith("Load tests: ")]
        assert sorted(compared) == sorted(cluster.token for cluster in place.clusters)

        second = await place.rollout(revision="sixth", waves=[{}], gate=gate)
        await place.until(second, stage="canary")
        shop.fails_every = 1
        told = await place.over(second)
    assert told["reason"]["code"] == "MB-4016"
    assert "objective does not hold any more" in told["reason"]["summary"]
    assert {one["state"] for one in told["clusters"]} == {"rolled back"}
    assert all("sixth" not in revisions(cluster) for cluster in place.clusters)
    # A test may hold what others must not read.
    async with admin_bus(place.stack) as bus:
        entry = await Bucket(bus, "rollouts").get(rollout_key(second))
    assert entry is not None
    assert b"performance" in entry.value
    assert url.encode() not in entry.value
