"""Traffic intents: their objects, their defaults, and one VirtualService for a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import MANAGED_BY, MANAGER, KubeObject, Ref, labels_of
from services.chassis.messages import ClusterFacts, Command, Verb
from services.translator.catalog import offered
from services.translator.intents import routing
from services.translator.intents.operations import Words, route
from services.translator.intents.routing import RoutingOptions
from tests.unit.translator.worlds import World

INTENTS: dict[str, Callable[..., list[KubeObject]]] = {
    "bookinfo-subsets": routing.subsets,
    "bookinfo-route-version": routing.to_version,
    "bookinfo-route-weights": routing.by_weight,
    "bookinfo-delay": routing.delayed,
    "bookinfo-abort": routing.aborted,
    "bookinfo-mirror": routing.mirrored,
    "bookinfo-retries": routing.retried,
    "bookinfo-circuit-breaking": routing.circuit_broken,
}


def made(intent: Callable[..., list[KubeObject]], **options: Any) -> list[KubeObject]:
    return intent(RoutingOptions(**options), namespace="shop")


def of_kind(objects: list[KubeObject], kind: str) -> list[dict[str, Any]]:
    return [obj["spec"] for obj in objects if obj["kind"] == kind]


def http(intent: Callable[..., list[KubeObject]], **options: Any) -> list[dict[str, Any]]:
    """The routes of the only VirtualService."""
    [spec] = of_kind(made(intent, **options), "VirtualService")
    routes: list[dict[str, Any]] = spec["http"]
    return routes


def to(service: str, subset: str, weight: int | None = None) -> dict[str, Any]:
    route: dict[str, Any] = {"destination": {"host": service, "subset": subset}}
    return route if weight is None else {**route, "weight": weight}


# ---- Each intent ---------------------------------------------------------------------------------


def test_subsets_are_one_for_each_version() -> None:
    assert [obj["spec"] for obj in made(routing.subsets, service="reviews")] == [
        {
            "host": "reviews",
            "subsets": [
                {"name": version, "labels": {"version": version}} for version in ("v1", "v2", "v3")
            ],
        }
    ]
    every = made(routing.subsets)
    assert [Ref.of(obj).name for obj in every] == ["productpage", "reviews", "ratings", "details"]


def test_all_requests_go_to_the_first_version() -> None:
    assert http(routing.to_version, service="reviews") == [{"route": [to("reviews", "v1")]}]
    assert http(routing.to_version, service="reviews", versions=["v3", "v1"]) == [
        {"route": [to("reviews", "v3")]}
    ]
    assert len(of_kind(made(routing.to_version), "VirtualService")) == 4


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, [to("reviews", "v1", 50), to("reviews", "v3", 50)]),
        ({"service": "ratings"}, [to("ratings", "v1", 50), to("ratings", "v2", 50)]),
        ({"service": "productpage"}, [to("productpage", "v1")]),
        ({"service": "other"}, [to("other", "v1")]),
        (
            {"service": "other", "versions": ["a", "b", "c"]},
            [to("other", "a", 50), to("other", "c", 50)],
        ),
        (
            {"weights": {"v1": 75, "v3": 25}},
            [to("reviews", "v1", 75), to("reviews", "v3", 25)],
        ),
        ({"weights": {"v1": 3, "v2": 1}}, [to("reviews", "v1", 3), to("reviews", "v2", 1)]),
        (
            {"weights": {"v1": 9, "v2": 0, "v3": 1}},
            [to("reviews", "v1", 9), to("reviews", "v3", 1)],
        ),
        ({"weights": {"v1": 0, "v2": 5}}, [to("reviews", "v2")]),
        ({"weights": {"v1": 7}}, [to("reviews", "v1")]),
    ],
)
def test_requests_are_shared_by_weight(
    options: dict[str, Any], shares: list[dict[str, Any]]
) -> None:
    assert http(routing.by_weight, **options) == [{"route": shares}]


def test_a_version_of_weight_nought_keeps_its_subset() -> None:
    [rule] = of_kind(made(routing.by_weight, weights={"v1": 1, "v9": 0}), "DestinationRule")
    assert [subset["name"] for subset in rule["subsets"]] == ["v1", "v2", "v3", "v9"]


def test_a_delay() -> None:
    assert http(routing.delayed, delay="1.5s", percentage=10) == [
        {
            "route": [to("ratings", "v1")],
            "fault": {"delay": {"fixedDelay": "1.5s", "percentage": {"value": 10}}},
        }
    ]


def test_an_abort() -> None:
    [route] = http(routing.aborted, abortStatus=503)
    assert route["fault"] == {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}


@pytest.mark.parametrize("intent", [routing.delayed, routing.aborted])
def test_a_fault_for_one_user_leaves_the_others_alone(
    intent: Callable[..., list[KubeObject]],
) -> None:
    faulty, plain = http(intent, user="jason")
    assert faulty["match"] == [{"headers": {"end-user": {"exact": "jason"}}}]
    assert faulty["fault"]
    assert plain == {"route": [to("ratings", "v1")]}


@pytest.mark.parametrize(
    ("options", "service", "subset"),
    [
        ({}, "reviews", "v3"),
        ({"service": "ratings"}, "ratings", "v2"),
        ({"mirrorTo": "v2"}, "reviews", "v2"),
        ({"service": "other", "mirrorTo": "canary"}, "other", "canary"),
    ],
)
def test_a_mirror_gets_copies(options: dict[str, Any], service: str, subset: str) -> None:
    objects = made(routing.mirrored, **options)
    [spec] = of_kind(objects, "VirtualService")
    [route] = spec["http"]
    assert route["route"] == [to(service, "v1")]
    assert route["mirrors"] == [{**to(service, subset), "percentage": {"value": 100}}]
    [rule] = of_kind(objects, "DestinationRule")
    assert subset in [one["name"] for one in rule["subsets"]]


def test_retries() -> None:
    [route] = http(routing.retried, attempts=5, perTryTimeout="250ms")
    assert route["retries"] == {
        "attempts": 5,
        "perTryTimeout": "250ms",
        "retryOn": "connect-failure,refused-stream,unavailable,5xx",
    }


def test_circuit_breaking() -> None:
    [rule] = made(
        routing.circuit_broken,
        service="ratings",
        maxConnections=4,
        maxPendingRequests=5,
        consecutive5xxErrors=6,
        baseEjectionTime="30s",
    )
    assert rule["kind"] == "DestinationRule"
    assert rule["spec"]["trafficPolicy"] == {
        "connectionPool": {
            "tcp": {"maxConnections": 4},
            "http": {"http1MaxPendingRequests": 5, "maxRequestsPerConnection": 1},
        },
        "outlierDetection": {
            "consecutive5xxErrors": 6,
            "interval": "1s",
            "baseEjectionTime": "30s",
            "maxEjectionPercent": 100,
        },
    }


# ---- What all have in common ---------------------------------------------------------------------

words = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
weights = st.dictionaries(words, st.integers(0, 1000), min_size=1, max_size=4)
any_options = st.fixed_dictionaries(
    {},
    optional={
        "service": words,
        "versions": st.lists(words, min_size=1, max_size=4),
        "weights": weights.filter(lambda shares: any(shares.values())),
        "mirrorTo": words,
        "user": st.sampled_from(["", "jason"]),
    },
)


@given(st.sampled_from(sorted(INTENTS)), any_options)
def test_every_route_leads_to_a_subset_that_is_there(name: str, options: dict[str, Any]) -> None:
    objects = made(INTENTS[name], **options)
    subsets = {
        (rule["host"], subset["name"])
        for rule in of_kind(objects, "DestinationRule")
        for subset in rule["subsets"]
    }
    for spec in of_kind(objects, "VirtualService"):
        for rule in spec["http"]:
            for one in (*rule["route"], *rule.get("mirrors", [])):
                where = one["destination"]
                assert (where["host"], where["subset"]) in subsets
            shares = [one.get("weight") for one in rule["route"]]
            assert shares == [None] or all(isinstance(w, int) and w > 0 for w in shares)


@given(st.sampled_from(sorted(INTENTS)), any_options)
def test_a_host_has_one_object_of_each_kind_whatever_the_intent(
    name: str, options: dict[str, Any]
) -> None:
    objects = made(INTENTS[name], **options)
    hosts = {rule["host"] for rule in of_kind(objects, "DestinationRule")}
    assert len({Ref.of(obj) for obj in objects}) == len(objects)
    for obj in objects:
        spec = obj["spec"]
        assert [Ref.of(obj).name] == (spec["hosts"] if "hosts" in spec else [spec["host"]])
        assert Ref.of(obj).name in hosts
        assert Ref.of(obj).namespace == "shop"
        assert labels_of(obj) == {MANAGED_BY: MANAGER}
    assert objects == made(INTENTS[name], **options)


# ---- The operations ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(INTENTS))
async def test_every_intent_is_offered(name: str) -> None:
    operation = offered()[name]
    facts = ClusterFacts(served={"networking.istio.io/VirtualService": ["v1beta1"]})
    plan = await World(facts).plan(operation.run)
    [step] = plan.steps
    expected = made(INTENTS[name])
    assert [Ref.of(obj).name for obj in step.objects] == [Ref.of(obj).name for obj in expected]
    versions = {obj["kind"]: obj["apiVersion"] for obj in step.objects}
    assert versions.get("VirtualService", "") in ("", "networking.istio.io/v1beta1")
    assert versions["DestinationRule"] == "networking.istio.io/v1"
    removal = await World(facts).plan(operation.run, verb=Verb.DELETE)
    assert all(step.is_deletion for step in removal.steps)
    assert [s.objects for s in removal.steps] == [s.objects for s in plan.steps]
    assert removal.summary.endswith("removed successfully")
    command = Command(operation="op", kind=name, verb=Verb.DELETE)
    assert "removed" not in operation.doing(command)


async def test_options_come_from_the_body() -> None:
    body = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n"
        "apiVersion: meshbus.io/v1\nkind: RoutingOptions\n"
        "spec: {service: ratings, weights: {v1: 1, v2: 3}}\n"
    )
    plan = await World().plan(route(routing.by_weight, Words("Weights")), body)
    [step] = plan.steps
    [spec] = of_kind(step.objects, "VirtualService")
    assert spec["http"] == [{"route": [to("ratings", "v1", 1), to("ratings", "v2", 3)]}]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{weights: {v1: 0, v3: 0}}", "spec.weights of the RoutingOptions: at least one weight"),
        ("{weights: {v1: 0}}", "at least one weight"),
        ("{weights: {}}", "spec.weights"),
        ("{weights: {v1: -1}}", "spec.weights.v1"),
        ("{weights: {v1: 0.5}}", "spec.weights.v1"),
        ("{weights: {V1: 1}}", "spec.weights.V1"),
        ("{weights: [v1]}", "spec.weights"),
        ("{versions: []}", "spec.versions"),
        ("{versions: [a_b]}", "spec.versions.0"),
        ("{service: 'reviews.shop'}", "spec.service"),
        ("{service: '*'}", "spec.service"),
        ("{percentage: 0}", "spec.percentage"),
        ("{percentage: 101}", "spec.percentage"),
        ("{delay: 7}", "spec.delay"),
        ("{delay: soon}", "spec.delay"),
        ("{abortStatus: 700}", "spec.abortStatus"),
        ("{attempts: 0}", "spec.attempts"),
        ("{mirrorTo: ''}", "spec.mirrorTo"),
        ("{maxConnections: 0}", "spec.maxConnections"),
        ("{host: reviews}", "spec.host"),
    ],
)
async def test_options_that_are_wrong_are_refused(spec: str, words: str) -> None:
    body = f"apiVersion: meshbus.io/v1\nkind: RoutingOptions\nspec: {spec}\n"
    world = World()
    with pytest.raises(OptionsMalformed) as caught:
        await world.run(route(routing.by_weight, Words("Weights")), body)
    assert words in caught.value.summary
    assert world.cluster.asked == []
