"""`smi_conformance`: the result that Meshery parses, and what its verdicts rest on."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest

from services.chassis.errors import ClusterUnreachable
from services.chassis.kube.objects import Ref
from services.chassis.messages import ClusterFacts, MeshFact, Severity
from services.chassis.operations.completion import Result
from services.translator.conformance import (
    cases,
    run_conformance,
    smi_result,
    with_applications,
)
from services.translator.smi import is_smi
from tests.unit.translator.worlds import NOW, World

MESH = MeshFact(revision="default", version="1.31.0")
READY = ClusterFacts(
    meshes=[MESH],
    served={
        "networking.istio.io/VirtualService": ["v1beta1"],
        "split.smi-spec.io/TrafficSplit": ["v1alpha4"],
    },
)
FIELDS = {
    "id",
    "date",
    "mesh_name",
    "mesh_version",
    "cases_passed",
    "passing_percentage",
    "status",
    "more_details",
}
DETAIL_FIELDS = {
    "smi_specification",
    "smi_version",
    "time",
    "assertions",
    "result",
    "reason",
    "capability",
    "status",
}


async def conformed(world: World, **asked: Any) -> tuple[Result, dict[str, Any]]:
    result = await world.run(run_conformance, **asked)
    assert isinstance(result, Result)
    details: dict[str, Any] = orjson.loads(result.details)
    return result, details


async def test_the_result_is_what_meshery_parses() -> None:
    result, told = await conformed(World(READY))
    # Meshery looks for these words, in this case, before it parses the details.
    assert "Smi conformance test" in result.summary
    assert set(told) == FIELDS
    assert all(isinstance(value, str) for name, value in told.items() if name != "more_details")
    assert str(uuid.UUID(told["id"])) == told["id"]
    assert told["date"] == "2026-11-24T08:30:05Z"
    assert (told["mesh_name"], told["mesh_version"]) == ("Istio", "1.31.0")
    assert told["status"] == "completed"
    for detail in told["more_details"]:
        assert set(detail) == DETAIL_FIELDS
        assert all(isinstance(value, str) for value in detail.values())
        assert detail["time"].endswith("s")


async def test_every_case_passes_on_a_sound_cluster() -> None:
    world = World(READY)
    result, told = await conformed(world)
    count = len(cases("shop"))
    assert [detail["status"] for detail in told["more_details"]] == ["PASSED"] * count
    assert {detail["capability"] for detail in told["more_details"]} == {"FULL"}
    assert [detail["reason"] for detail in told["more_details"]] == [""] * count
    assert (told["cases_passed"], told["passing_percentage"]) == (str(count), "100.00")
    numbers = dict(result.numbers)
    assert (numbers["cases"], numbers["passed"]) == (count, count)
    assert {detail["smi_specification"] for detail in told["more_details"]} == {
        "traffic-access",
        "traffic-spec",
        "traffic-split",
    }


async def test_what_was_done_and_not_done_is_said() -> None:
    _, told = await conformed(World(READY))
    for detail in told["more_details"]:
        assert "accepted in a dry run, no requests sent" in detail["result"]


async def test_only_what_smi_becomes_is_shown_to_the_cluster() -> None:
    """Even where SMI objects are served: a dry run keeps none that others could refer to."""
    world = World(READY)
    await conformed(world)
    assert {name.partition(" ")[0] for name in world.cluster.tried} == {
        "VirtualService",
        "AuthorizationPolicy",
    }
    assert all(" shop/" in name for name in world.cluster.tried)


async def test_what_the_cluster_refuses_has_failed_with_its_reason() -> None:
    world = World(READY, refusals=["the webhook is away"])
    result, told = await conformed(world)
    assert {detail["status"] for detail in told["more_details"]} == {"FAILED"}
    assert {detail["capability"] for detail in told["more_details"]} == {"NONE"}
    assert {detail["reason"] for detail in told["more_details"]} == {"the webhook is away"}
    assert not any("accepted" in detail["result"] for detail in told["more_details"])
    assert (told["cases_passed"], told["passing_percentage"]) == ("0", "0.00")
    # The test itself has run.
    assert "completed successfully" in result.summary


async def test_what_cannot_be_translated_has_failed_and_is_not_shown() -> None:
    """Policies in the mesh's own namespace would hold for all of it."""
    world = World(READY)
    _, told = await conformed(world, namespace="istio-system")
    by_specification: dict[str, set[str]] = {}
    for detail in told["more_details"]:
        by_specification.setdefault(detail["smi_specification"], set()).add(detail["status"])
    assert by_specification == {
        "traffic-access": {"FAILED"},
        "traffic-spec": {"FAILED"},
        "traffic-split": {"PASSED"},
    }
    assert "whole mesh" in told["more_details"][0]["reason"]
    assert not any(name.startswith("AuthorizationPolicy") for name in world.cluster.tried)


async def test_a_cluster_without_istio_has_no_version() -> None:
    _, told = await conformed(World(ClusterFacts(), versions=()))
    assert told["mesh_version"] == ""


async def test_a_repeat_tells_the_same_result() -> None:
    results = [(await conformed(World(READY)))[1] for _ in range(2)]
    for told in results:
        for detail in told["more_details"]:
            detail.pop("time")
    assert results[0] == results[1]
    _, other = await conformed(World(READY), operation="other")
    assert other["id"] != results[0]["id"]


@pytest.mark.parametrize("namespace", ["shop", "default"])
def test_the_cases_stand_in_the_request_s_namespace(namespace: str) -> None:
    objects = [obj for case in cases(namespace) for obj in case.objects]
    assert all(is_smi(obj) for obj in objects)
    assert {Ref.of(obj).namespace for obj in objects} == {namespace}
    assert len({case.assertion for case in cases(namespace)}) == len(cases(namespace))


def test_the_applications_stand_for_all_that_is_there() -> None:
    known = with_applications(READY, "shop")
    assert {service.name for service in known.services} == {"app-svc", "app-a", "app-b", "app-c"}
    assert {workload.service_account for workload in known.workloads} == {
        "service-a",
        "service-b",
        "service-c",
    }
    assert known.knows("shop")
    assert list(known.served) == ["networking.istio.io/VirtualService"]
    assert known.meshes == READY.meshes


def test_no_case_at_all_is_no_percentage_of_nothing() -> None:
    told = smi_result([], identity="i", version="", date=NOW)
    assert (told["cases_passed"], told["passing_percentage"]) == ("0", "0.00")
    assert told["more_details"] == []


async def test_an_ordinary_event_tells_the_result_first() -> None:
    """Meshery drops the result itself where it has nowhere to store it."""
    world = World(READY, refusals=["the webhook is away"])
    await conformed(world)
    [told] = world.events
    assert told.severity is Severity.WARN
    assert told.summary.startswith("SMI: 0 of ")
    assert "the webhook is away" in told.details
    # By these words the server takes an event for the result.
    assert "Smi conformance test" not in told.summary
    world = World(READY)
    await conformed(world)
    [told] = world.events
    assert (told.severity, told.details) == (Severity.INFO, "")


async def test_a_failure_is_told_in_an_ordinary_event_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(**_: Any) -> ClusterFacts:
        raise ClusterUnreachable("the cluster does not answer")

    world = World(READY)
    monkeypatch.setattr(world.cluster, "facts", away)
    with pytest.raises(ClusterUnreachable):
        await world.run(run_conformance)
    [told] = world.events
    assert told.summary == "SMI could not be tested: the cluster does not answer"
