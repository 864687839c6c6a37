"""TranslationOptions beside SMI objects, and one request for clusters that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.testbed import smi
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.shops import (
    DENY,
    SHOP,
    done,
    found,
    gateway_api_defined,
    istio_defined,
    lasting,
    manifest,
    opened,
    policies,
    remove_denial,
    service,
    told,
    workload,
)
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack

ROUTES = smi.route_group(SHOP, "routes", {"name": "read", "pathRegex": "/status"})
TARGET = smi.target(SHOP, ROUTES, source=(SHOP, "front"), destination="books")
SPLIT = smi.split(SHOP, {"books-v1": 3, "books-v2": 1}, service="books")


@pytest.fixture(scope="module")
def shops(cluster: Cluster, second_cluster: Cluster) -> Iterator[tuple[Cluster, Cluster]]:
    """Two clusters with a shop; the second one lacks a service that the first one has."""
    clusters = (cluster, second_cluster)
    before = [snapshot(each) for each in clusters]
    services = [service(name, SHOP) for name in ("books", "books-v1", "books-v2")]
    with (
        istio_defined(cluster),
        istio_defined(second_cluster),
        opened(cluster, *workload("books", SHOP), *services),
        opened(second_cluster, *workload("books", SHOP), *services[:2]),
    ):
        yield clusters
    after = [snapshot(each) for each in clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


@pytest.fixture(autouse=True)
def _left_as_they_were(shops: tuple[Cluster, Cluster]) -> Iterator[None]:
    before = [lasting(each) for each in shops]
    yield
    after = [lasting(each) for each in shops]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


def with_options(text: str, **spec: str) -> str:
    document = {"apiVersion": "meshbus.io/v1", "kind": "TranslationOptions", "spec": spec}
    return f"{json.dumps(document)}\n---\n{text}"


async def test_the_form_can_be_the_gateway_api(
    shops: tuple[Cluster, Cluster], meshery: Meshery
) -> None:
    shop = shops[0]
    await done(meshery, manifest(SPLIT), namespace=SHOP)
    with gateway_api_defined(shop):
        body = with_options(manifest(SPLIT), form="gateway-api")
        events = await done(meshery, body, namespace=SHOP)
        [route] = found(shop, "httproutes", SHOP).values()
        assert {parent["name"] for parent in route["spec"]["parentRefs"]} == {"books"}
        weights = {b["name"]: b["weight"] for b in route["spec"]["rules"][0]["backendRefs"]}
        assert weights == {"books-v1": 3, "books-v2": 1}
        assert found(shop, "virtualservices", SHOP) == {}, "the other form is replaced"
        assert "Replaced 1 objects" in told(events)
        # Whoever deletes it need not remember the form.
        await done(meshery, manifest(SPLIT), namespace=SHOP, delete=True)
        assert found(shop, "httproutes", SHOP) == {}


async def test_a_form_that_the_cluster_does_not_serve_is_refused_by_name(
    shops: tuple[Cluster, Cluster], meshery: Meshery
) -> None:
    body = with_options(manifest(SPLIT), form="gateway-api")
    event = (await meshery.run("custom", body=body, namespace=SHOP)).event
    assert event.error_code == "MB-3009"
    assert "HTTPRoute" in event.details


@pytest.mark.parametrize(
    ("denial", "selector"),
    [("namespace", None), ("workload", {"app": "books"}), ("none", {})],
)
async def test_what_a_target_closes_can_be_chosen(
    denial: str,
    selector: dict[str, str] | None,
    shops: tuple[Cluster, Cluster],
    meshery: Meshery,
) -> None:
    body = with_options(manifest(ROUTES, TARGET), denyByDefault=denial)
    await done(meshery, body, namespace=SHOP)
    closing = [obj for obj in policies(shops[0], SHOP).values() if "rules" not in obj["spec"]]
    assert len(closing) == (0 if denial == "none" else 1)
    if closing:
        assert closing[0]["metadata"]["name"].startswith(DENY)
        assert closing[0]["spec"].get("selector", {}).get("matchLabels") == selector
    await done(meshery, body, namespace=SHOP, delete=True)
    assert len(policies(shops[0], SHOP)) == len(closing)
    remove_denial(shops[0], SHOP)


async def test_the_trust_domain_can_be_named(
    shops: tuple[Cluster, Cluster], meshery: Meshery
) -> None:
    body = with_options(manifest(ROUTES, TARGET), trustDomain="shop.example")
    await done(meshery, body, namespace=SHOP)
    assert f"shop.example/ns/{SHOP}/sa/front" in json.dumps(policies(shops[0], SHOP))
    await done(meshery, body, namespace=SHOP, delete=True)
    remove_denial(shops[0], SHOP)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{form: nginx}", "spec.form"),
        ("{denyByDefault: []}", "spec.denyByDefault"),
        ("{trustDomain: '*'}", "spec.trustDomain"),
        ('{trustDomain: "a\\nb"}', "spec.trustDomain"),
        ("{clusterDomain: 'a/b'}", "spec.clusterDomain"),
        ("{istioVersion: 1.31}", "spec.istioVersion"),
        ("{color: blue}", "spec.color"),
        ("[]", "spec"),
        ("{}\n---\napiVersion: meshbus.io/v1\nkind: TranslationOptions\nspec: {}", "document 2"),
    ],
)
async def test_options_that_cannot_be_used_are_named(
    spec: str, words: str, meshery: Meshery
) -> None:
    head = "apiVersion: meshbus.io/v1\nkind: TranslationOptions\n"
    body = f"{head}spec: {spec}\n---\n{manifest(SPLIT)}"
    event = (await meshery.run("custom", body=body, namespace=SHOP)).event
    assert event.error_code in ("MB-5004", "MB-1201")
    assert words in event.details


async def test_a_version_without_definitions_is_named(meshery: Meshery) -> None:
    body = with_options(manifest(SPLIT), istioVersion="1.2.3")
    event = (await meshery.run("custom", body=body, namespace=SHOP)).event
    assert event.error_code == "MB-5005"
    assert "1.31.0" in event.details


async def test_each_cluster_gets_its_own_translation(
    stack: Stack, shops: tuple[Cluster, Cluster]
) -> None:
    configs = [each.kubeconfig_text for each in shops]
    async with Meshery(stack.gateway_address, configs).connected() as both:
        events = await done(both, manifest(SPLIT), namespace=SHOP, count=2)
        backends = [
            [part["destination"]["host"].partition(".")[0] for part in route["route"]]
            for each in shops
            for made in found(each, "virtualservices", SHOP).values()
            for route in made["spec"]["http"]
        ]
        assert backends == [["books-v1", "books-v2"], ["books-v1"]]
        warned = [event.summary for event in events if event.event_type == 1]
        assert [text.rpartition(" on ")[2] for text in warned] == ["second"]
        await done(both, manifest(SPLIT), namespace=SHOP, delete=True, count=2)
