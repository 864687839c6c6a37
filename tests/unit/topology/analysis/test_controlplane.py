"""What is found of proxies, as their control planes tell of them: the codes MBS."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.topology.analysis.catalog import CODES
from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import Finding
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Configured, Istiod, Key, Pod, Proxy, Sync
from services.topology.cluster.state import State

OWNER = Key(kinds.DEPLOYMENT, "shop", "web")
IN_SYNC = (Configured("CDS", Sync.SYNCED), Configured("ECDS", Sync.NOT_SENT))
SINCE = "2026-11-24T12:00:00+00:00"
UNKNOWN = (
    "Error adding/updating listener(s) virtualInbound: Didn't find a registered implementation for "
    "'my.filter' with type URL: 'type.googleapis.com/my.company.Filter'"
)
EXTENSION = "Error adding extenstions.istio.io/wasmplugin/shop.auth.v2: no such file"
CLUSTER = "Error adding/updating cluster(s) outbound|80|v1|reviews.shop.svc.cluster.local: bad TLS"


def pod(name: str = "web-0", **more: Any) -> Pod:
    return Pod(key=Key(kinds.POD, "shop", name), owner=OWNER, pod_labels={"app": "web"}, **more)


def proxy(*configured: Configured, name: str = "web-0", **more: Any) -> Proxy:
    known = {"version": "1.31.0", "istiod_version": "1.31.0"} | more
    return Proxy(key=Key(kinds.PROXY, "shop", name), configured=configured or IN_SYNC, **known)


def rejected(error: str) -> Configured:
    return Configured("LDS", Sync.REJECTED, SINCE, error)


def config(kind: str, name: str, namespace: str = "shop", **spec: Any) -> Config:
    return Config(key=Key(kind, namespace, name), spec=spec)


def envoy_filter(name: str, namespace: str = "shop", **more: Any) -> Config:
    value = {
        "name": "my.filter",
        "typed_config": {"@type": "type.googleapis.com/my.company.Filter"},
    }
    patches = [{"applyTo": "HTTP_FILTER", "patch": {"operation": "ADD", "value": value}}]
    return config(kinds.ENVOY_FILTER, name, namespace, configPatches=patches, **more)


def found_in(*objects: Any) -> set[Finding]:
    state = State("c1")
    analysis = Analysis(state, RULES)
    analysis.touch([change for obj in objects if (change := state.put(obj)) is not None])
    return settled(analysis)


def settled(analysis: Analysis) -> set[Finding]:
    while analysis.is_due:
        analysis.evaluate()
    return {finding for finding in analysis.findings if finding.code.startswith("MBS")}


def places(findings: set[Finding]) -> set[tuple[str, str]]:
    return {(finding.code, str(finding.object)) for finding in findings}


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("MBS0101", proxy(Configured("CDS", Sync.STALE, SINCE), Configured("LDS", Sync.SYNCED))),
        ("MBS0102", proxy(rejected("no such filter"))),
        ("MBS0103", proxy(is_lost=True)),
        ("MBS0104", proxy(version="1.29.2")),
        ("MBS0104", proxy(version="1.32.0")),
        ("MBS0105", proxy(is_expiring=True)),
    ],
)
def test_a_code_is_found_of_the_workload_until_it_is_mended(code: str, wrong: Proxy) -> None:
    state = State("c1")
    analysis = Analysis(state, RULES)
    for obj in (pod(), wrong):
        change = state.put(obj)
        assert change is not None
        analysis.touch([change])
    [found] = settled(analysis)
    assert places({found}) == {(code, "Deployment shop/web")}
    assert found.level is CODES[code].level
    for words in (found.message, found.cause, found.remedy):
        assert words
        assert "\n" not in words

    change = state.put(proxy())
    assert change is not None
    analysis.touch([change])
    assert settled(analysis) == set()


@pytest.mark.parametrize(
    "right",
    [
        proxy(),
        proxy(Configured("CDS", Sync.SENT)),
        proxy(version="1.30.9"),
        proxy(version="dev"),
        proxy(istiod_version=""),
        proxy(version="2.0.0", istiod_version="latest"),
    ],
)
def test_a_proxy_that_stands_well_is_no_finding(right: Proxy) -> None:
    assert found_in(pod(), right) == set()


def test_an_istiod_that_fails_to_push_is_found_of_its_workload() -> None:
    istiod = replace(pod("istiod-a"), owner=Key(kinds.DEPLOYMENT, "shop", "istiod"))
    key = Key(kinds.ISTIOD, "shop", "istiod-a")
    assert found_in(istiod, Istiod(key=key)) == set()
    found = found_in(istiod, Istiod(key=key, fails_pushes=True))
    assert places(found) == {("MBS0107", "Deployment shop/istiod")}
    assert found_in(Istiod(key=key, fails_pushes=True)) == set()


def test_a_proxy_whose_pod_is_gone_is_no_finding() -> None:
    assert found_in(proxy(rejected("no such filter"))) == set()


def test_pods_that_show_the_same_make_one_finding() -> None:
    pods = [pod(f"web-{number}") for number in range(20)]
    proxies = [proxy(rejected(UNKNOWN), name=pod.name) for pod in pods]
    found = found_in(*pods, *proxies, envoy_filter("unknown"))
    assert places(found) == {
        ("MBS0102", "Deployment shop/web"),
        ("MBS0106", "EnvoyFilter shop/unknown"),
    }


@pytest.mark.parametrize(
    ("error", "objects", "named"),
    [
        (UNKNOWN, [envoy_filter("a")], {"EnvoyFilter shop/a"}),
        (UNKNOWN, [envoy_filter("a", "istio-system")], {"EnvoyFilter istio-system/a"}),
        (UNKNOWN, [envoy_filter("a", "bank")], set()),
        (UNKNOWN, [envoy_filter("a", workloadSelector={"labels": {"app": "db"}})], set()),
        (
            UNKNOWN,
            [envoy_filter("a", workloadSelector={"labels": {"app": "web"}})],
            {"EnvoyFilter shop/a"},
        ),
        (UNKNOWN, [config(kinds.ENVOY_FILTER, "other", configPatches=[{"patch": {}}])], set()),
        (EXTENSION, [config(kinds.WASM_PLUGIN, "auth.v2")], {"WasmPlugin shop/auth.v2"}),
        (EXTENSION, [], set()),
        (
            CLUSTER,
            [
                config(kinds.DESTINATION_RULE, "reviews", host="reviews"),
                config(kinds.DESTINATION_RULE, "ratings", host="ratings"),
            ],
            {"DestinationRule shop/reviews"},
        ),
        (
            CLUSTER.replace("reviews.shop.svc.cluster.local", "api.example.com"),
            [config(kinds.SERVICE_ENTRY, "api", hosts=["api.example.com"])],
            {"ServiceEntry shop/api"},
        ),
        ("'' ' ' 'x'", [envoy_filter("a")], set()),
    ],
)
def test_a_rejection_names_the_object_that_envoys_words_name(
    error: str, objects: list[Config], named: set[str]
) -> None:
    found = found_in(pod(), proxy(rejected(error)), *objects)
    of_objects = {finding for finding in found if finding.code == "MBS0106"}
    [of_workload] = found - of_objects
    assert {str(finding.object) for finding in of_objects} == named
    assert all(name in of_workload.message for name in named)


def test_an_object_is_named_as_soon_as_it_is_there_and_no_longer() -> None:
    state = State("c1")
    analysis = Analysis(state, RULES)
    for obj in (pod(), proxy(rejected(UNKNOWN))):
        change = state.put(obj)
        assert change is not None
        analysis.touch([change])
    assert places(settled(analysis)) == {("MBS0102", "Deployment shop/web")}
    for change in (
        state.put(envoy_filter("a", "istio-system")),
        state.put(pod(is_ready=True)),
    ):
        assert change is not None
        analysis.touch([change])
        assert ("MBS0106", "EnvoyFilter istio-system/a") in places(settled(analysis))
    change = state.put(replace(envoy_filter("a", "istio-system"), spec={}))
    assert change is not None
    analysis.touch([change])
    assert places(settled(analysis)) == {("MBS0102", "Deployment shop/web")}


def test_every_code_of_ours_is_found_by_a_rule() -> None:
    own = {code for code in CODES if code.startswith("MBS")}
    assert {code for rule in RULES for code in rule.codes if code.startswith("MBS")} == own
