"""SMI objects through the operation `custom`: what they become on a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.system.meshery import Meshery
from tests.system.shops import (
    DENY,
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
from tests.testbed.clusters import Cluster
from tests.testbed.snapshots import differences, snapshot
from tests.traffic import smi

SHOP = "smi-shop"

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
    with istio_defined(cluster), opened(cluster, SHOP, *objects):
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
    hosts = [f"books-{name}.{SHOP}.svc.cluster.local" for name in ("v1", "v2")]
    assert shares == {
        (port, host): weight
        for port in (80, 8080)
        for host, weight in zip(hosts, (90, 10), strict=True)
    }
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


async def test_a_policy_follows_its_workload(shop: Cluster, meshery: Meshery) -> None:
    await done(meshery, TRANSLATED, namespace=SHOP)
    before = policies(shop, SHOP)
    changed = workload("books", SHOP, labels={"app": "books", "tier": "back"})[1]
    shop.kubectl("delete", "deployment", "books", "-n", SHOP)
    shop.kubectl("apply", "-f", "-", stdin=listed(changed))
    events = await done(meshery, TRANSLATED, namespace=SHOP)
    after = policies(shop, SHOP)
    assert len(before) == len(after) == 2
    [name] = set(after) - set(before)
    assert after[name]["spec"]["selector"]["matchLabels"] == {"app": "books", "tier": "back"}
    assert "Replaced 1 objects of an earlier operation" in told(events)
    await done(meshery, TRANSLATED, namespace=SHOP, delete=True)
    remove_denial(shop, SHOP)
    shop.kubectl("delete", "deployment", "books", "-n", SHOP)
    shop.kubectl("apply", "--server-side", "-f", "-", stdin=listed(workload("books", SHOP)[1]))


async def test_a_job_that_the_labels_reach_too_keeps_the_policy_from_opening_it(
    shop: Cluster, meshery: Meshery
) -> None:
    """Pods of every controller count: their accounts decide who may be opened."""
    template = workload("reader", SHOP, account="front", labels={"app": "books"})[1]["spec"]
    pods = {**template["template"]["spec"], "restartPolicy": "Never"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "reader", "namespace": SHOP},
        "spec": {"template": {"metadata": {"labels": {"app": "books"}}, "spec": pods}},
    }
    shop.kubectl("apply", "-f", "-", stdin=listed(job))
    shop.kubectl("wait", "--for=create", "pod", "-l", "job-name=reader", "-n", SHOP)
    event = (await meshery.run("custom", body=TRANSLATED, namespace=SHOP)).event
    shop.kubectl("delete", "job", "reader", "-n", SHOP)
    assert event.error_code == "MB-5002"
    assert "runs under ServiceAccount front" in event.details
    assert policies(shop, SHOP) == {}


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (f"{json.dumps(PORTS)}\n---\n{json.dumps(TARGET, indent=1)}", 22, "there is no HTTPRoute"),
        (
            json.dumps(
                {
                    **smi.route_group(SHOP, "udp"),
                    "kind": "UDPRoute",
                    "spec": {"matches": {"ports": [53]}},
                }
            )
            + "\n---\n"
            + json.dumps(
                smi.target(
                    SHOP,
                    {"kind": "UDPRoute", "metadata": {"name": "udp"}},
                    source=(SHOP, "front"),
                    destination="books",
                )
            ),
            3,
            "do not see UDP",
        ),
        (
            manifest(smi.split(SHOP, {"books-v1": 1}, service="books.other.svc")),
            1,
            "spec.service",
        ),
    ],
    ids=["reference", "udp", "host"],
)
async def test_what_cannot_be_translated_changes_nothing(
    body: str, line: int, words: str, shop: Cluster, meshery: Meshery
) -> None:
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
