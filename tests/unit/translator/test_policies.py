"""Policies as intents: what they become, what they replace, and whom they are for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import MANAGED_BY, MANAGER, KubeObject, Ref, labels_of
from services.chassis.messages import ClusterFacts, Command, MeshFact, Verb
from services.translator.catalog import offered
from services.translator.intents.operations import deny_all as run_deny_all
from services.translator.intents.operations import limit_image_hub, mutual_tls, rate_limit
from services.translator.intents.policies import (
    MutualTls,
    deny_all,
    other_modes,
    peer_authentication,
)
from tests.unit.translator.worlds import World

SELECTOR = {"app": "reviews", "version": "v1"}
OLD = ClusterFacts(
    meshes=[MeshFact(revision="default", namespace="mesh", version="1.20.0")],
    served={
        "security.istio.io/PeerAuthentication": ["v1beta1"],
        "security.istio.io/AuthorizationPolicy": ["v1", "v1beta1"],
    },
)


def options(spec: str) -> str:
    return f"apiVersion: meshbus.io/v1\nkind: PolicyOptions\nspec: {spec}\n"


WORKLOAD = options("{scope: workload, selector: {version: v1, app: reviews}}")


def name(obj: KubeObject) -> str:
    return Ref.of(obj).name


# ---- The objects ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(MutualTls))
def test_a_mode_of_a_namespace(mode: MutualTls) -> None:
    assert peer_authentication(mode, namespace="shop") == {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {
            "name": mode.value.lower(),
            "namespace": "shop",
            "labels": {MANAGED_BY: MANAGER},
        },
        "spec": {"mtls": {"mode": mode.value}},
    }


def test_a_mode_of_a_workload() -> None:
    obj = peer_authentication(MutualTls.STRICT, namespace="shop", selector=SELECTOR)
    assert obj["spec"] == {
        "mtls": {"mode": "STRICT"},
        "selector": {"matchLabels": SELECTOR},
    }
    assert name(obj).startswith("strict-")


def test_a_policy_that_denies_allows_nothing() -> None:
    assert deny_all(namespace="shop")["spec"] == {}
    assert name(deny_all(namespace="shop")) == "deny-all"
    workload = deny_all(namespace="shop", selector=SELECTOR)
    assert workload["spec"] == {"selector": {"matchLabels": SELECTOR}}
    assert name(workload).startswith("deny-all-")


selectors = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=3)


@given(selectors, selectors, st.sampled_from(MutualTls))
def test_a_name_stands_for_one_selector(
    one: dict[str, str], other: dict[str, str], mode: MutualTls
) -> None:
    def named(selector: dict[str, str]) -> str:
        return name(peer_authentication(mode, namespace="shop", selector=selector))

    assert (named(one) == named(other)) is (one == other)
    assert named(dict(reversed(one.items()))) == named(one)


@given(st.sampled_from(MutualTls), selectors)
def test_the_modes_of_a_scope_exclude_each_other(mode: MutualTls, selector: dict[str, str]) -> None:
    others = other_modes(mode, namespace="shop", selector=selector)
    own = peer_authentication(mode, namespace="shop", selector=selector)
    every = {name(peer_authentication(m, namespace="shop", selector=selector)) for m in MutualTls}
    assert {name(obj) for obj in others} == every - {name(own)}
    assert {Ref.of(obj).namespace for obj in others} == {"shop"}


# ---- The operations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "replaced"),
    [
        (MutualTls.STRICT, ["permissive", "disable"]),
        (MutualTls.PERMISSIVE, ["strict", "disable"]),
        (MutualTls.DISABLE, ["strict", "permissive"]),
    ],
)
async def test_setting_a_mode_replaces_the_others(mode: MutualTls, replaced: list[str]) -> None:
    plan = await World(OLD).plan(mutual_tls(mode))
    [step] = plan.steps
    [obj] = step.objects
    assert (Ref.of(obj).namespace, name(obj)) == ("shop", mode.value.lower())
    assert [name(obj) for obj in step.obsolete] == replaced
    # What is replaced has to be found by a version that the cluster has.
    assert {o["apiVersion"] for o in (obj, *step.obsolete)} == {"security.istio.io/v1beta1"}
    assert (plan.summary, plan.failing) == ("Policy deployed successfully", "deploying policy")
    assert not step.is_deletion


async def test_taking_a_mode_away_leaves_the_others() -> None:
    plan = await World(OLD).plan(mutual_tls(MutualTls.STRICT), verb=Verb.DELETE)
    [step] = plan.steps
    assert step.is_deletion
    assert [name(obj) for obj in step.objects] == ["strict"]
    assert step.obsolete == []
    assert (plan.summary, plan.failing) == ("Policy removed successfully", "removing policy")


@pytest.mark.parametrize(
    ("facts", "body", "place", "selector"),
    [
        pytest.param(OLD, "", "shop", None, id="the request's namespace"),
        pytest.param(OLD, options("{scope: namespace}"), "shop", None, id="a namespace"),
        pytest.param(OLD, options("{scope: mesh}"), "mesh", None, id="the mesh's own namespace"),
        pytest.param(
            ClusterFacts(), options("{scope: mesh}"), "istio-system", None, id="no mesh yet"
        ),
        pytest.param(OLD, WORKLOAD, "shop", SELECTOR, id="a workload"),
        pytest.param(
            OLD,
            "apiVersion: meshbus.io/v1\nkind: LifecycleOptions\nspec: {scope: mesh}\n",
            "shop",
            None,
            id="options of another operation",
        ),
        pytest.param(OLD, f"a: b\n---\n{WORKLOAD}", "shop", SELECTOR, id="among other documents"),
    ],
)
async def test_whom_a_policy_is_for(
    facts: ClusterFacts, body: str, place: str, selector: dict[str, str] | None
) -> None:
    for run, expected in (
        (run_deny_all, deny_all(namespace=place, selector=selector)),
        (
            mutual_tls(MutualTls.STRICT),
            peer_authentication(MutualTls.STRICT, namespace=place, selector=selector),
        ),
    ):
        [step] = (await World(facts).plan(run, body)).steps
        [obj] = step.objects
        assert obj["metadata"] == expected["metadata"]
        assert obj["spec"] == expected["spec"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{scope: workload}", "a selector belongs to the scope workload"),
        ("{selector: {app: a}}", "a selector belongs to the scope workload"),
        ("{scope: mesh, selector: {app: a}}", "a selector belongs to the scope workload"),
        ("{scope: cluster}", "spec.scope"),
        ("{scope: workload, selector: {app: 1}}", "spec.selector.app"),
        ("{scope: workload, selector: [app]}", "spec.selector"),
        (
            f"{{scope: workload, selector: { ({f'k{n}': 'v' for n in range(17)}) }}}",
            "spec.selector",
        ),
        ("{namespace: shop}", "spec.namespace"),
        ("mesh", "spec of the PolicyOptions"),
    ],
)
async def test_options_that_are_wrong_are_refused(spec: str, words: str) -> None:
    world = World(OLD)
    with pytest.raises(OptionsMalformed) as caught:
        await world.run(run_deny_all, options(spec))
    assert words in caught.value.summary
    assert world.cluster.asked == [], "nothing is asked for what cannot be done"


async def test_a_repeat_is_the_same_plan() -> None:
    plans = [await World(OLD).plan(mutual_tls(MutualTls.STRICT), WORKLOAD) for _ in range(2)]
    assert plans[0] == plans[1]


# ---- Image Hub -----------------------------------------------------------------------------------


async def test_the_rate_limit_is_one_filter_of_ours() -> None:
    plan = await World().plan(limit_image_hub)
    [step] = plan.steps
    assert step.objects == [rate_limit(namespace="shop")]
    [obj] = step.objects
    assert labels_of(obj) == {MANAGED_BY: MANAGER}
    [patch] = obj["spec"]["configPatches"]
    limit: dict[str, Any] = patch["patch"]["value"]["typed_config"]
    assert limit["token_bucket"] == {
        "max_tokens": 10,
        "tokens_per_fill": 10,
        "fill_interval": "60s",
    }
    assert set(patch["patch"]["value"]) == {"name", "typed_config"}, "nothing is fetched"
    assert plan.summary == "Envoy filter deployed successfully"


# ---- What is offered -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        "deny-all-policy-operation",
        "strict-mtls-policy-operation",
        "mutual-mtls-policy-operation",
        "disable-mtls-policy-operation",
        "envoy-filter-operation",
    ],
)
async def test_every_policy_is_offered_and_speaks_of_what_it_does(operation: str) -> None:
    one = offered()[operation]
    plan = await World(OLD).plan(one.run)
    removal = await World(OLD).plan(one.run, verb=Verb.DELETE)
    assert plan.summary.endswith("deployed successfully")
    # Meshery takes this word as the sign that something is gone, also in a failure.
    assert removal.summary.endswith("removed successfully")
    for verb in Verb:
        command = Command(operation="op", kind=operation, verb=verb)
        assert "removed" not in one.doing(command)
    assert [s.objects for s in plan.steps] == [s.objects for s in removal.steps]
