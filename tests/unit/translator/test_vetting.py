"""`istio-vet`: what is told about a cluster's configuration, and that nothing of it is written."""

from __future__ import annotations

import pytest

from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, Event, MeshFact, Phase, Severity
from services.chassis.operations.completion import Result
from services.translator.vetting import run_vet
from tests.unit.translator.objects import destination_rule, envoy_filter, networking, patch
from tests.unit.translator.worlds import World

SERVED = {
    "networking.istio.io/VirtualService": ["v1", "v1beta1"],
    "gateway.networking.k8s.io/HTTPRoute": ["v1"],
    "gateway.networking.x-k8s.io/XListenerSet": ["v1alpha1"],
    "split.smi-spec.io/TrafficSplit": ["v1alpha2"],
    "security.istio.io/PeerAuthentication": ["v1"],
    "/Service": ["v1"],
}
MESH = MeshFact(revision="default", version="1.31.0")
ROUTED = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]}
FINE = networking("VirtualService", ROUTED, name="fine")
# Wrong by its definition alone.
WEIGHED = {"destination": {"host": "a"}, "weight": "many"}
WRONG = networking("VirtualService", {"hosts": 7, "http": [{"route": [WEIGHED]}]}, name="wrong")
UNTYPED = envoy_filter(patch("INSERT_FIRST", {"name": "x"}))
OLD = networking("VirtualService", ROUTED, name="old", version="v1beta1")


def having(*objects: KubeObject, meshes: tuple[MeshFact, ...] = (MESH,)) -> ClusterFacts:
    return ClusterFacts(meshes=list(meshes), served=SERVED, objects=list(objects))


async def vetted(world: World) -> Result:
    result = await world.run(run_vet)
    assert isinstance(result, Result)
    return result


def about(world: World, name: str) -> list[Event]:
    return [event for event in world.events if f"shop/{name}" in event.summary]


async def test_every_finding_is_an_event_and_the_result_counts_them() -> None:
    world = World(having(FINE, OLD, WRONG))
    result = await vetted(world)
    assert about(world, "fine") == []
    [remark] = about(world, "old")
    assert (remark.phase, remark.severity) == (Phase.NOTE, Severity.INFO)
    errors = about(world, "wrong")
    assert [event.severity for event in errors] == [Severity.WARN] * 2
    assert [event.summary.split(": ")[:3] for event in errors] == [
        ["schema", "VirtualService shop/wrong", "spec.hosts"],
        ["schema", "VirtualService shop/wrong", "spec.http[0].route[0].weight"],
    ]
    assert result.summary == "Vetting ran successfully"
    assert result.details.startswith("3 objects: 2 wrong, 0 warnings, 1 notes.")
    counts = {"objects": 3, "findings": 3, "wrong": 2, "warnings": 0, "notes": 1}
    assert dict(result.numbers) == counts


async def test_what_the_webhook_would_refuse_is_told() -> None:
    world = World(having(networking("VirtualService", {"hosts": ["a"]}, name="idle")))
    result = await vetted(world)
    [remark] = about(world, "idle")
    assert remark.summary.startswith("webhook: VirtualService shop/idle: spec: has no routes")
    assert dict(result.numbers)["wrong"] == 1


async def test_what_is_not_checked_is_named() -> None:
    result = await vetted(World(having(FINE)))
    for vetter in ("podsinmesh", "serviceassociation", "conflictingvirtualservicehost"):
        assert vetter in result.details


async def test_what_topology_sees_is_told_once() -> None:
    place = {"kind": "VirtualService", "namespace": "shop", "name": "wrong"}
    finding = {"object": place, "path": "", "message": "again", "remedy": "mend it"}
    world = World(having(WRONG))
    world.cluster.running = {
        "findings": [
            {"code": "schema", "level": "error", **finding},
            {"code": "IST0101", "level": "error", **finding, "message": "host nowhere"},
        ],
        "notes": [{"vetter": "applabel", "level": "warning", "text": "no app label on a"}],
    }
    result = await vetted(world)
    summaries = [event.summary for event in world.events]
    assert "IST0101: VirtualService shop/wrong: host nowhere" in summaries
    assert "applabel: no app label on a" in summaries
    assert not any("again" in summary for summary in summaries)
    counts = {"objects": 1, "findings": 4, "wrong": 3, "warnings": 1, "notes": 0}
    assert dict(result.numbers) == counts
    assert "Not checked" not in result.details


async def test_filters_are_looked_at_too() -> None:
    world = World(having(UNTYPED))
    result = await vetted(world)
    assert dict(result.numbers)["wrong"] == 1
    assert "typed_config" in world.told


async def test_it_asks_for_what_the_cluster_serves_and_writes_nothing() -> None:
    world = World(having(FINE))
    await vetted(world)
    assert [question["kinds"] for question in world.cluster.asked] == [
        [],
        having().configuration_kinds(),
    ]
    assert world.cluster.tried == []


def test_the_kinds_that_hold_a_mesh_s_configuration() -> None:
    assert having().configuration_kinds() == [
        "gateway.networking.k8s.io/HTTPRoute",
        "networking.istio.io/VirtualService",
        "security.istio.io/PeerAuthentication",
    ]
    assert ClusterFacts().configuration_kinds() == []


async def test_a_cluster_without_a_mesh_is_told_so() -> None:
    result = await vetted(World(having(FINE, meshes=())))
    assert result.details.startswith("Istio is not installed in this cluster; 1 objects: 0 wrong")


@pytest.mark.parametrize("version", ["1.20.0", "latest", ""])
async def test_without_definitions_the_rest_is_still_looked_at(version: str) -> None:
    mesh = MeshFact(revision="default", version=version)
    world = World(having(WRONG, UNTYPED, meshes=(mesh,)), versions=())
    result = await vetted(world)
    [warning, *_] = world.events
    assert warning.severity is Severity.WARN
    assert warning.summary.startswith("Validation: there are no definitions of")
    assert about(world, "wrong") == []
    assert dict(result.numbers)["wrong"] == 1


async def test_what_is_wrong_is_not_crowded_out_by_remarks() -> None:
    old = [
        networking("VirtualService", ROUTED, name=f"old{n}", version="v1alpha3") for n in range(300)
    ]
    world = World(having(*old, WRONG))
    result = await vetted(world)
    assert len(about(world, "wrong")) == 2
    *told, last = world.events
    assert len(told) == 200
    assert last.summary == "102 more findings were not told one by one"
    assert dict(result.numbers)["findings"] == 302


async def test_an_older_mesh_is_not_told_of_forms_that_it_does_not_read() -> None:
    rule = {**destination_rule({}), "apiVersion": "networking.istio.io/v1alpha3"}
    told: list[int] = []
    for version in ("1.20.0", "1.31.0"):
        world = World(having(rule, meshes=(MeshFact(revision="default", version=version),)))
        await vetted(world)
        told.append(len([event for event in world.events if "apiVersion" in event.summary]))
    assert told == [0, 1]
