"""Whatever stands in an object: no rule fails, none changes it, and a rewrite is done in one go."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.kube.objects import KubeObject
from services.translator.deprecations.kinds import PROMOTIONS
from services.translator.deprecations.modernizing import modernized
from services.translator.extensions.filters import check_filter
from services.translator.extensions.plugins import check_plugin
from services.translator.upgrades.upgrading import upgrade_report
from tests.unit.translator.deprecations import test_modernizing
from tests.unit.translator.extensions import test_filters
from tests.unit.translator.objects import destination_rule, virtual_service
from tests.unit.translator.upgrades import test_behaviours

KINDS = [
    *(
        (f"{group}/{version}", kind)
        for (group, kind), known in PROMOTIONS.items()
        for version in (*known.former, known.current)
    ),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ("extensions.istio.io/v1alpha1", "TrafficExtension"),
    ("authentication.istio.io/v1alpha1", "Policy"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "CronJob"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
]
# The words that the rules look for, so that they find one where they expect another shape.
WORDS = [
    "http", "route", "mirrorPercent", "mirrorPercentage", "fault", "delay", "abort", "percent",
    "percentage", "corsPolicy", "allowOrigin", "allowOrigins", "headers", "appendHeaders",
    "removeRequestHeaders", "request", "add", "remove", "trafficPolicy", "subsets", "loadBalancer",
    "portLevelSettings", "simple", "consistentHash", "minimumRingSize", "warmupDurationSecs",
    "outlierDetection", "consecutiveErrors", "tls", "mode", "SIMPLE", "hosts", "gateways", "*.a.b",
    "selector", "matchLabels", "targetRef", "targetRefs", "jwtRules", "jwks_uri", "servers", "port",
    "targetPort", "configPatches", "applyTo", "HTTP_FILTER", "patch", "operation", "REMOVE",
    "INSERT_BEFORE", "value", "name", "typed_config", "@type", "match", "proxy", "proxyVersion",
    "listener", "filterChain", "filter", "workloadSelector", "labels", "url", "sha256", "vmConfig",
    "env", "wasm", "peers", "mtls", "template", "metadata", "annotations", "containers", "image",
    "sidecar.istio.io/inject", "spec", "resolution", "NONE", "ports", "number", "tracing",
    "providers", "accessLogging", "expression", "remote", "http_uri", "typed_per_filter_config",
]  # fmt: skip
words = st.sampled_from(WORDS)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 200) | words | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=25,
)
metadata = (
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "default", "istio"])},
        optional={
            "namespace": st.sampled_from(["shop", "istio-system"]),
            "labels": values,
            "annotations": values,
        },
    )
    | values
)


@st.composite
def objects(draw: st.DrawFn) -> KubeObject:
    api_version, kind = draw(st.sampled_from(KINDS))
    made: dict[str, Any] = {"apiVersion": api_version, "kind": kind}
    for field, strategy in (("metadata", metadata), ("spec", values), ("data", values)):
        if draw(st.booleans()):
            made[field] = draw(strategy)
    return made


@settings(max_examples=300, deadline=None)
@given(objects())
def test_a_rewrite_is_done_in_one_go_and_leaves_the_object_alone(obj: KubeObject) -> None:
    before = copy.deepcopy(obj)
    once = modernized(obj)
    assert obj == before
    twice = modernized(once.obj)
    assert twice.obj == once.obj
    if once.obj != obj:
        assert once.findings


@settings(max_examples=300, deadline=None)
@given(st.lists(objects(), max_size=4))
def test_no_object_makes_a_report_fail(given_objects: list[KubeObject]) -> None:
    before = copy.deepcopy(given_objects)
    report = upgrade_report(
        given_objects,
        current="1.19.0",
        target="1.31.0",
        current_schemas=None,
        target_schemas=None,
    )
    assert orjson.dumps(report.as_json())
    for obj in given_objects:
        check_filter(obj, target="1.31.0")
        check_plugin(obj)
    assert given_objects == before


def test_every_form_of_the_tables_is_rewritten_in_one_go() -> None:
    forms = [virtual_service(before) for before, *_ in test_modernizing.ROUTES.values()]
    forms += [destination_rule(before) for before, *_ in test_modernizing.POLICIES.values()]
    forms += [before for before, *_ in test_modernizing.OBJECTS.values()]
    forms += [given for given, _ in test_filters.CASES.values()]
    forms += [obj for _, case in test_behaviours.EACH for obj in case.touched]
    for form in forms:
        once = modernized(form)
        assert modernized(once.obj).obj == once.obj
