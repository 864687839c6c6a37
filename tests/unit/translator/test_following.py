"""What a translation keeps of the facts that it used, for each form that a source comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.chassis.errors import InvalidMessage, UnknownOperation
from services.chassis.kube.manifests import dump_manifest
from services.chassis.messages import (
    ClusterFacts,
    Command,
    Fact,
    FollowMode,
    FollowRequest,
    MeshFact,
    Verb,
)
from services.chassis.messages.following import (
    account_fact,
    changed,
    followed_operation,
    followed_revision,
    following_id,
    mesh_fact,
    service_fact,
    versions_fact,
)
from services.translator.catalog import offered
from services.translator.following import authorize
from services.translator.manifests import run_custom, run_design
from services.translator.work import Follows
from tests.unit.translator.designs import samples as designs
from tests.unit.translator.smi import samples
from tests.unit.translator.worlds import World

SPLIT = "TrafficSplit.split.smi-spec.io shop/canary"
TARGET = "TrafficTarget.access.smi-spec.io shop/reach-api"
SERVED = {
    "networking.istio.io/VirtualService": ["v1", "v1beta1"],
    "security.istio.io/AuthorizationPolicy": ["v1"],
    "gateway.networking.k8s.io/HTTPRoute": ["v1"],
}
MESH = mesh_fact(root_namespace="istio-system", trust_domain="cluster.local")


def there(*names: str, **more: Any) -> ClusterFacts:
    found = [samples.service(name, samples.port(80)) for name in names]
    return samples.facts(services=found, served=SERVED, **more)


def places(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(fact.kind, fact.name) for fact in facts]


async def test_a_split_keeps_the_services_that_it_names_also_those_that_are_not_there() -> None:
    plan = await World(there("web", "web-v1")).plan(run_custom, dump_manifest([samples.split()]))
    [follow] = plan.follow
    assert (follow.source, follow.mode) == (SPLIT, "apply")
    assert places(follow.facts) == [
        ("Service", "web"),
        ("Service", "web-v1"),
        ("Service", "web-v2"),
        ("versions", "networking.istio.io/VirtualService"),
    ]
    assert [bool(fact.digest) for fact in follow.facts] == [True, True, False, True]
    assert plan.ends == []


async def test_the_form_says_which_versions_count() -> None:
    options = (
        "\n---\napiVersion: meshbus.io/v1\nkind: TranslationOptions\nspec: {form: gateway-api}"
    )
    body = dump_manifest([samples.split()]) + options
    plan = await World(there("web", "web-v1", "web-v2")).plan(run_custom, body)
    assert places(plan.follow[0].facts)[3:] == [
        ("versions", "gateway.networking.k8s.io/HTTPRoute"),
        ("versions", "gateway.networking.k8s.io/TCPRoute"),
    ]


async def test_a_target_keeps_the_workloads_of_its_account_and_the_mesh() -> None:
    body = dump_manifest([samples.target(), samples.group(samples.match("all", "/x"))])
    plan = await World(there(workloads=[samples.workload("api")])).plan(run_custom, body)
    [follow] = plan.follow
    assert follow.source == TARGET
    assert follow.facts == [
        account_fact("shop", "api", [samples.workload("api")]),
        versions_fact("security.istio.io/AuthorizationPolicy", SERVED),
        MESH,
    ]


async def test_a_route_group_has_no_facts_of_its_own() -> None:
    body = dump_manifest([samples.group(samples.match("all", "/x"))])
    plan = await World(there()).plan(run_custom, body)
    assert (plan.follow, plan.ends) == ([], [])


async def test_an_intent_for_the_mesh_is_only_told() -> None:
    facts = ClusterFacts(meshes=[MeshFact(revision="default", namespace="mesh-system")])
    run = offered()["strict-mtls-policy-operation"].run
    body = "apiVersion: meshbus.io/v1\nkind: PolicyOptions\nspec: {scope: mesh}"
    [follow] = (await World(facts).plan(run, body)).follow
    assert follow.source.startswith("PeerAuthentication.security.istio.io mesh-system/")
    assert follow.mode == "report"
    fact = mesh_fact(root_namespace="mesh-system", trust_domain="cluster.local")
    assert follow.facts == [fact]
    assert (await World(facts).plan(run, "")).follow == []


async def test_a_split_in_a_design_is_followed_like_any() -> None:
    split = samples.split()
    fields = {k: v for k, v in split.items() if k not in ("apiVersion", "kind")}
    part = designs.definition("canary", "TrafficSplit", split["apiVersion"], configuration=fields)
    body = json.dumps({"declarations": [json.dumps(part)]})
    plan = await World(there("web")).plan(run_design, body)
    assert [follow.source for follow in plan.follow] == [SPLIT]


@pytest.mark.parametrize(
    ("annotation", "kept"), [("report", ["report"]), ("ignore", []), ("mostly", ["apply"])]
)
async def test_an_annotation_says_what_becomes_of_it(annotation: str, kept: list[str]) -> None:
    split = samples.split()
    split["metadata"]["annotations"] = {"meshbus.io/follow": annotation}
    world = World(there("web"))
    plan = await world.plan(run_custom, dump_manifest([split]))
    assert [follow.mode for follow in plan.follow] == kept
    assert plan.ends == ([] if kept else [SPLIT])
    assert ("is none of apply, report, ignore" in world.told) is (annotation == "mostly")


async def test_a_deletion_ends_the_following() -> None:
    body = dump_manifest([samples.split()])
    plan = await World(there("web")).plan(run_custom, body, verb=Verb.DELETE)
    assert (plan.follow, plan.ends) == ([], [SPLIT])


async def test_a_large_request_is_not_kept_and_says_so() -> None:
    world = World(there("web"))
    world.follows = Follows(FollowMode.APPLY, most_sources=1)
    both = [samples.split(), samples.split("other", root="api", backends=[("api-1", 1)])]
    plan = await world.plan(run_custom, dump_manifest(both))
    assert plan.follow == []
    assert len(plan.ends) == 2
    assert "Not followed: the request is too large to be kept" in world.summaries


# ---- Facts ---------------------------------------------------------------------------------------


def test_ports_count_and_what_a_split_does_not_look_at_does_not() -> None:
    one = samples.service("web", samples.port(80))
    same = one.model_copy(update={"selector": {"app": "another"}})
    other = samples.service("web", samples.port(80, "tcp"))
    facts = [service_fact("shop", "web", found) for found in (one, same, other, None)]
    assert facts[0] == facts[1] != facts[2]
    assert facts[3].digest == ""


def test_a_new_rollout_changes_no_account() -> None:
    before = samples.workload("api")
    after = before.model_copy(update={"labels": {**before.labels, "pod-template-hash": "new"}})
    bare = samples.workload("api", kind="Pod", app="api")
    facts = [account_fact("shop", "api", [one]) for one in (before, after, bare)]
    assert facts[0] == facts[1] == facts[2]
    intruder = samples.workload("thief", app="api")
    assert account_fact("shop", "api", [before, intruder]) != facts[0]
    assert account_fact("shop", "api", [before, samples.workload("web")]) == facts[0]


def test_changes_are_told_in_words() -> None:
    before = [service_fact("shop", "a", None), versions_fact("g/K", {"g/K": ["v1"]}), MESH]
    now = [
        service_fact("shop", "a", samples.service("a", samples.port(80))),
        versions_fact("g/K", {}),
        mesh_fact(root_namespace="mesh", trust_domain="corp"),
    ]
    assert changed(before, now) == [
        "Service shop/a appeared",
        "served versions of g/K went",
        "root namespace and trust domain of the mesh changed",
    ]
    assert changed(now, now) == []


@pytest.mark.parametrize("operation", ["op", "a-follow-b", "x" * 128])
def test_an_id_says_what_it_follows(operation: str) -> None:
    made = following_id(operation, revision=17, attempt="0a1b2c3d4e5f0a1b2c3d")
    assert len(made) <= 128
    assert operation.startswith(followed_operation(made))
    assert followed_revision(made) == 17
    assert followed_operation(operation) == ""


# ---- Who may ask ---------------------------------------------------------------------------------


def asked(**fields: Any) -> Command:
    body = FollowRequest(source=SPLIT, revision=3).model_dump_json()
    return Command(operation="op-follow-3-ab", kind="follow", body=body).model_copy(update=fields)


async def test_topology_asks_for_a_following_and_for_nothing_else() -> None:
    await authorize(asked(), "topology")
    await authorize(asked(kind="custom", operation="op"), "")
    with pytest.raises(UnknownOperation):
        await authorize(asked(), "")
    for command, sender in (
        (asked(kind="custom"), "topology"),
        (asked(operation="op"), "topology"),
        (asked(credential="cluster.c1"), "topology"),
        (asked(verb=Verb.DELETE), "topology"),
        (asked(), "perf"),
    ):
        with pytest.raises(InvalidMessage):
            await authorize(command, sender)
