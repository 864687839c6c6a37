"""SMI objects through the operation `custom`: what they become on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testbed import smi
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.shops import (
    DENY,
    SHOP,
    defined,
    definition,
    done,
    found,
    istio_defined,
    lasting,
    listed,
    manifest,
    opened,
    policies,
    remove_denial,
    service,
    told,
    versions,
    workload,
)
from tests.testbed.snapshots import differences, snapshot

ROUTES = smi.route_group(
    SHOP,
    "routes",
    {"name": "read", "pathRegex": "/books/.*", "methods": ["GET"]},
    {"name": "all", "pathRegex": "/status"},
)
PORTS = smi.tcp_route(SHOP, "ports", 8080)
TARGET = smi.target(SHOP, ROUTES, PORTS, source=(SHOP, "front"), destination="books")
TRANSLATED = manifest(ROUTES, PORTS, TARGET)
SMI_DEFINITIONS = [
    definition("split.smi-spec.io", "TrafficSplit", "v1alpha2", "v1alpha4"),
    definition("access.smi-spec.io", "TrafficTarget", "v1alpha3"),
    definition("specs.smi-spec.io", "HTTPRouteGroup", "v1alpha4"),
    definition("specs.smi-spec.io", "TCPRoute", "v1alpha4"),
]


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with Istio's definitions and a shop of two workloads and three services."""
    before = snapshot(cluster)
    objects = [
        *workload("books", SHOP),
        *workload("front", SHOP),
        *(service(name, SHOP, 80, 8080) for name in ("books", "books-v1", "books-v2")),
    ]
    with istio_defined(cluster), opened(cluster, *objects):
        yield cluster
    assert differences(before, snapshot(cluster)) == []


@pytest.fixture(autouse=True)
def _left_as_it_was(shop: Cluster) -> Iterator[None]:
    """Each test takes away what it made."""
    before = lasting(shop)
    yield
    assert differences(before, lasting(shop)) == []


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"])
async def test_a_split_of_each_version_becomes_a_virtual_service(
    version: str, shop: Cluster, meshery: Meshery
) -> None:
    split = smi.split(SHOP, {"books-v1": 90, "books-v2": 10}, service="books")
    split["apiVersion"] = f"split.smi-spec.io/{version}"
    if version == "v1alpha1":
        for backend, weight in zip(split["spec"]["backends"], ("900m", "100m"), strict=True):
            backend["weight"] = weight
    events = await done(meshery, manifest(split), namespace=SHOP)
    assert f"TrafficSplit {SHOP}/canary became VirtualService {SHOP}/" in told(events)
    [made] = found(shop, "virtualservices", SHOP).values()
    shares = {
        (route["match"][0]["port"], part["destination"]["host"]): part["weight"]
        for route in made["spec"]["http"]
        for part in route["route"]
    }
    first, second = (f"books-{name}.{SHOP}.svc.cluster.local" for name in ("v1", "v2"))
    assert all(shares[port, first] == 9 * shares[port, second] for port in (80, 8080))
    assert len(shares) == 4
    await done(meshery, manifest(split), namespace=SHOP, delete=True)


async def test_a_target_opens_its_workload_and_stays_closed_behind_itself(
    shop: Cluster, meshery: Meshery
) -> None:
    await done(meshery, TRANSLATED, namespace=SHOP)
    first = policies(shop, SHOP)
    [name] = set(first) - {DENY}
    spec = first[name]["spec"]
    assert spec["selector"]["matchLabels"] == {"app": "books"}
    [rule] = spec["rules"]
    assert rule["from"][0]["source"]["principals"] == [f"cluster.local/ns/{SHOP}/sa/front"]
    assert rule["to"] == [
        {"operation": {"methods": ["GET"], "paths": ["/books/*"], "ports": ["8080"]}},
        {"operation": {"paths": ["/status*"], "ports": ["8080"]}},
    ]
    assert first[DENY]["spec"] == {}

    await done(meshery, TRANSLATED, namespace=SHOP)
    assert versions(policies(shop, SHOP)) == versions(first), "a repeat changes nothing"

    events = await done(meshery, TRANSLATED, namespace=SHOP, delete=True)
    assert set(policies(shop, SHOP)) == {DENY}
    assert "it stays: access is denied by default" in told(events)
    remove_denial(shop, SHOP)


async def test_a_repeat_replaces_the_policy_of_a_changed_workload(
    shop: Cluster, meshery: Meshery
) -> None:
    """Of a target that does not follow its workloads by itself (test_following.py)."""
    notes = {"annotations": {"meshbus.io/follow": "ignore"}}
    unfollowed = {**TARGET, "metadata": {**TARGET["metadata"], **notes}}
    request = manifest(ROUTES, PORTS, unfollowed)
    await done(meshery, request, namespace=SHOP)
    before = policies(shop, SHOP)
    changed = workload("books", SHOP, labels={"app": "books", "tier": "back"})[1]
    shop.kubectl("delete", "deployment", "books", "-n", SHOP)
    shop.kubectl("apply", "-f", "-", stdin=listed(changed))
    events = await done(meshery, request, namespace=SHOP)
    after = policies(shop, SHOP)
    assert len(before) == len(after) == 2
    [name] = set(after) - set(before)
    assert after[name]["spec"]["selector"]["matchLabels"] == {"app": "books", "tier": "back"}
    assert "Replaced 1 objects of an earlier operation" in told(events)
    await done(meshery, request, namespace=SHOP, delete=True)
    remove_denial(shop, SHOP)
    shop.kubectl("delete", "deployment", "books", "-n", SHOP)
    shop.kubectl("apply", "--server-side", "-f", "-", stdin=listed(workload("books", SHOP)[1]))


async def test_a_pod_that_no_deployment_has_keeps_its_account_closed(
    shop: Cluster, meshery: Meshery
) -> None:
    """Pods of every controller count: the labels of `books` must open no pod of `front`."""
    replicas = workload("reader", SHOP, account="front", labels={"app": "books", "by": "hand"})[1]
    replicas["kind"] = "ReplicaSet"
    shop.kubectl("apply", "-f", "-", stdin=listed(replicas))
    shop.kubectl("wait", "--for=create", "pod", "-l", "by=hand", "-n", SHOP)
    event = (await meshery.run("custom", body=TRANSLATED, namespace=SHOP)).event
    shop.kubectl("delete", "replicaset", "reader", "-n", SHOP)
    assert event.error_code == "MB-5002"
    assert "which runs under ServiceAccount front" in event.details
    assert policies(shop, SHOP) == {}


UDP = {
    **smi.route_group(SHOP, "udp"),
    "kind": "UDPRoute",
    "spec": {"matches": {"ports": [53]}},
}
ASTRAY = smi.target("../../kube-system/secrets?", ROUTES, source=(SHOP, "front"))
ASTRAY["metadata"]["namespace"] = SHOP
# Refused, with the place that is told: the text of its line.
REFUSED = {
    "a route group that is not there": (
        [PORTS, TARGET],
        '"name": "routes"',
        "there is no HTTPRouteGroup",
    ),
    "UDP": (
        [UDP, smi.target(SHOP, UDP, source=(SHOP, "front"), destination="books")],
        '"kind": "UDPRoute",',
        "do not see UDP",
    ),
    "a name of another namespace's host": (
        [smi.split(SHOP, {"books-v1": 1}, service="books.other")],
        '"service": "books.other"',
        "spec.service",
    ),
    "a namespace that would be a path": (
        [ROUTES, ASTRAY],
        '"namespace": "../../kube-system/secrets?"',
        "spec.destination.namespace",
    ),
}


@pytest.mark.parametrize(("objects", "place", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_cannot_be_translated_changes_nothing(
    objects: list[Any], place: str, words: str, shop: Cluster, meshery: Meshery
) -> None:
    body = "\n---\n".join(json.dumps(obj, indent=1) for obj in objects)
    lines = body.splitlines()
    line = len(lines) - next(i for i, text in enumerate(lines[::-1]) if place in text)
    event = (await meshery.run("custom", body=body, namespace=SHOP)).event
    assert event.error_code == "MB-5002"
    assert f"line {line}: " in event.details
    assert words in event.details
    assert event.suggested_remediation


async def test_originals_are_kept_where_the_cluster_has_their_definitions(
    shop: Cluster, meshery: Meshery
) -> None:
    """A route group that changes alone changes the policies of the targets that refer to it."""
    with defined(shop, SMI_DEFINITIONS):
        await done(meshery, TRANSLATED, namespace=SHOP)
        assert set(found(shop, "traffictargets", SHOP)) == {"allow"}
        assert set(found(shop, "httproutegroups", SHOP)) == {"routes"}
        before = policies(shop, SHOP)
        group = smi.route_group(SHOP, "routes", {"name": "read", "pathRegex": "/magazines$"})
        events = await done(meshery, manifest(group), namespace=SHOP)
        after = policies(shop, SHOP)
        assert set(after) == set(before)
        [name] = set(after) - {DENY}
        paths = [part["operation"]["paths"] for part in after[name]["spec"]["rules"][0]["to"]]
        assert paths == [["/magazines"]]
        assert f"TrafficTarget {SHOP}/allow became" in told(events)

        await done(meshery, TRANSLATED, namespace=SHOP, delete=True)
        assert found(shop, "traffictargets", SHOP) == found(shop, "httproutegroups", SHOP) == {}
        assert set(policies(shop, SHOP)) == {DENY}
    # The definitions are gone again: nothing is kept, and nothing fails for it.
    await done(meshery, TRANSLATED, namespace=SHOP)
    await done(meshery, TRANSLATED, namespace=SHOP, delete=True)
    remove_denial(shop, SHOP)
