"""Designs through ProcessOAM, Provision and `custom`, on real API servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import yaml

from tests.system import designs
from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.generations import Generation, GenerationClient
from tests.testbed.meshery import Meshery
from tests.testbed.shops import done, found, istio_defined, told
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack

PATIENCE_S = 90.0
HOSTS = {"hosts": ["books.example"], "http": [{"route": [{"destination": {"host": "books"}}]}]}


@pytest.fixture(scope="module")
def clusters(cluster: Cluster, second_cluster: Cluster) -> Iterator[tuple[Cluster, Cluster]]:
    """Two clusters that know Istio's objects."""
    both = (cluster, second_cluster)
    before = [snapshot(each) for each in both]
    with istio_defined(cluster), istio_defined(second_cluster):
        yield both
    after = [snapshot(each) for each in both]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


@pytest.fixture(scope="module")
async def half(
    stack: Stack, clusters: tuple[Cluster, Cluster]
) -> AsyncIterator[asyncio.Task[list[str]]]:
    """A call for a cluster and for one that is down; it takes as long as that one is waited for.

    The other tests run meanwhile. What it applies is there before the first of them.
    """
    [_, cluster] = clusters
    dead = yaml.safe_load(cluster.kubeconfig_through(f"https://127.0.0.1:{loopback.take_port()}"))
    dead["contexts"][0]["name"] = dead["current-context"] = "away"
    component = designs.declaration("VirtualService", "half", {"spec": HOSTS})
    call = asyncio.create_task(
        deployed(stack, [cluster], component, kubeconfigs=[yaml.safe_dump(dead)])
    )
    async with asyncio.timeout(PATIENCE_S):
        while "half" not in await asyncio.to_thread(found, cluster, "virtualservices", "default"):
            await asyncio.sleep(0.1)
    yield call
    await asyncio.wait([call])
    await deployed(stack, [cluster], component, delete=True)


@pytest.fixture(autouse=True)
def _left_as_they_were(
    half: asyncio.Task[list[str]], clusters: tuple[Cluster, Cluster]
) -> Iterator[None]:
    before = [snapshot(each) for each in clusters]
    yield
    after = [snapshot(each) for each in clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


@asynccontextmanager
async def caller(stack: Stack, generation: Generation) -> AsyncIterator[GenerationClient]:
    async with GenerationClient(generation, stack.gateway_address) as client:
        yield client


async def deployed(
    stack: Stack,
    clusters: Sequence[Cluster],
    *components: dict[str, Any],
    generation: Generation = Generation.G,
    config: dict[str, Any] | None = None,
    delete: bool = False,
    kubeconfigs: Sequence[str] = (),
) -> list[str]:
    """The lines that ProcessOAM or Provision answers with."""
    texts = [json.dumps(component) for component in components]
    configs = [*(each.kubeconfig_text for each in clusters), *kubeconfigs]
    request: dict[str, Any] = {"delete_op": delete, "kube_configs": configs}
    if generation is Generation.F:
        request |= {"oam_comps": texts, "oam_config": json.dumps(config or {})}
    else:
        request |= {"declarations": texts}
    name = "ProcessOAM" if generation is Generation.F else "Provision"
    async with caller(stack, generation) as client:
        answer = await client.call(name, request, timeout_seconds=PATIENCE_S)
    return list(answer.message.splitlines())


_SHAPES = {"spec": HOSTS, "object": {"spec": HOSTS}, "spec-spec": {"spec": {"spec": HOSTS}}}
_GENERATIONS = (Generation.F, Generation.G, Generation.H)


def _shapes() -> Iterator[Any]:
    """Each generation and each shape once; all of them together are a long matrix."""
    for row, generation in enumerate(_GENERATIONS):
        for column, (shape, settings) in enumerate(_SHAPES.items()):
            marks = [] if row == column else [pytest.mark.full]
            yield pytest.param(generation, settings, id=f"{generation}-{shape}", marks=marks)


def built(generation: Generation, kind: str, name: str, settings: Any) -> dict[str, Any]:
    make = designs.component if generation is Generation.F else designs.declaration
    return make(kind, name, settings)


@pytest.mark.parametrize(("generation", "settings"), list(_shapes()))
async def test_a_component_in_every_shape(
    generation: Generation,
    settings: dict[str, Any],
    stack: Stack,
    clusters: tuple[Cluster, Cluster],
) -> None:
    component = built(generation, "VirtualService", "books", settings)
    lines = await deployed(stack, clusters, component, generation=generation)
    assert sorted(lines) == [
        "bed: VirtualService default/books deployed successfully",
        "second: VirtualService default/books deployed successfully",
    ]
    for each in clusters:
        assert found(each, "virtualservices", "default")["books"]["spec"] == HOSTS
    gone = await deployed(stack, clusters, component, generation=generation, delete=True)
    assert len([line for line in gone if "books removed successfully" in line]) == 2
    again = await deployed(stack, clusters, component, generation=generation, delete=True)
    assert len([line for line in again if "books was not there" in line]) == 2


async def test_prettified_keys_and_what_belongs_to_the_user(
    stack: Stack, clusters: tuple[Cluster, Cluster]
) -> None:
    settings = {
        "spec": {
            "hosts": ["books.example"],
            "http": [
                {
                    "cors Policy": {"allow Origins": [{"exact": "https://a"}]},
                    "headers": {"request": {"set": {"X Test": "1"}}},
                    "retries": {"per Try Timeout": "1s", "attempts": 1},
                    "route": [{"destination": {"host": "books"}}],
                }
            ],
        }
    }
    config_map = {"data": {"A Key": "left alone", "cors Policy": "left alone"}}
    await deployed(stack, clusters[:1], designs.declaration("VirtualService", "books", settings))
    spec = found(clusters[0], "virtualservices", "default")["books"]["spec"]
    assert spec["http"][0]["corsPolicy"] == {"allowOrigins": [{"exact": "https://a"}]}
    assert spec["http"][0]["headers"]["request"]["set"] == {"X Test": "1"}
    await deployed(
        stack, clusters[:1], designs.declaration("VirtualService", "books", settings), delete=True
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await deployed(stack, clusters[:1], designs.declaration("ConfigMap", "odd", config_map))
    # Of two wrong keys the API server names either one first, and its words are cut.
    named = refused.value.details() or ""
    assert any(f"data[{key}]" in named for key in config_map["data"]), named


@pytest.mark.parametrize("generation", [Generation.F, Generation.G])
async def test_traits_become_policies_and_labels(
    generation: Generation, stack: Stack, clusters: tuple[Cluster, Cluster]
) -> None:
    cluster = clusters[0]
    cluster.kubectl("create", "namespace", "design-traits")
    traits = {
        "mTLS": {"policy": "strict", "namespaces": ["design-traits"]},
        "automaticSidecarInjection": {"namespaces": ["design-traits"]},
        "meshmap": {"position": {"posX": 1}},
    }
    component = built(generation, "ServiceAccount", "books", {})
    config = designs.configuration("design", "books", traits)
    if generation is Generation.G:
        component["traits"] = traits
    lines = await deployed(stack, [cluster], component, generation=generation, config=config)
    assert any("PeerAuthentication design-traits/strict deployed" in line for line in lines)
    label = ("get", "namespace", "design-traits", "-o", "jsonpath={.metadata.labels}")
    assert json.loads(cluster.kubectl(*label))["istio-injection"] == "enabled"
    mode = found(cluster, "peerauthentications", "design-traits")["strict"]["spec"]["mtls"]["mode"]
    assert mode == "STRICT"
    await deployed(stack, [cluster], component, generation=generation, config=config, delete=True)
    assert found(cluster, "peerauthentications", "design-traits") == {}
    assert "istio-injection" not in json.loads(cluster.kubectl(*label))
    cluster.kubectl("delete", "namespace", "design-traits")


async def test_one_bad_component_keeps_all_back_and_every_error_is_told(
    stack: Stack, clusters: tuple[Cluster, Cluster]
) -> None:
    good = designs.declaration("VirtualService", "good", {"spec": HOSTS})
    bad = [
        designs.declaration("VirtualService", "no name!", {"spec": HOSTS}),
        designs.declaration("Nonsense", "two", {}),
        designs.declaration("VirtualService", "three", {"spec": HOSTS, "data": {}}),
    ]
    bad[1]["component"]["version"] = ""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await deployed(stack, clusters, good, *bad)
    details = refused.value.details() or ""
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "MB-5003" in details
    for words in ("no name!", "Nonsense", "three"):
        assert details.count(words) >= len(clusters), words

    invalid = designs.declaration("VirtualService", "five", {"spec": {"http": [{"fault": 7}]}})
    other = designs.declaration("DestinationRule", "six", {"spec": {"host": 7}})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await deployed(stack, clusters[:1], good, invalid, other)
    details = refused.value.details() or ""
    assert "MB-5002" in details
    assert "spec.http[0].fault" in details
    assert "spec.host" in details


async def test_drawings_alone_are_nothing_to_do(
    stack: Stack, clusters: tuple[Cluster, Cluster]
) -> None:
    drawing = designs.declaration("Comment", "a note", {})
    drawing["metadata"] = {"isAnnotation": True}
    lines = await deployed(stack, clusters, drawing)
    assert len(lines) == 2


async def test_a_hundred_components_in_their_order(
    meshery: Meshery, clusters: tuple[Cluster, Cluster]
) -> None:
    """A row in which each depends on the one before, in a namespace that comes with them."""
    body = json.dumps(designs.row(100, namespace="design-row"))
    events = await done(meshery, body, namespace="default")
    steps = [event.summary for event in events if event.summary.startswith("Step ")]
    assert len(steps) == 100
    assert "Namespace" in steps[0]
    made = {
        name: obj["metadata"]["resourceVersion"]
        for name, obj in found(clusters[0], "configmaps", "design-row").items()
        if name.startswith("c")
    }
    numbers = [int(made[f"c{n}"]) for n in range(99)]
    assert numbers == sorted(numbers)

    events = await done(meshery, body, namespace="default", delete=True)
    backwards = [event.summary for event in events if event.summary.startswith("Step ")]
    titles = [text.partition(": ")[2] for text in steps]
    assert [text.partition(": ")[2] for text in backwards] == titles[::-1]


async def test_a_design_of_services_depends_on_its_keys(
    meshery: Meshery, clusters: tuple[Cluster, Cluster]
) -> None:
    services = {
        "last": {"type": "ConfigMap", "settings": {"data": {"a": "1"}}, "dependsOn": ["books"]},
        "books": {"type": "VirtualService.Istio", "settings": HOSTS},
    }
    body = yaml.safe_dump({"name": "old", "services": services}, sort_keys=False)
    events = await done(meshery, body, namespace="default")
    steps = [e.summary for e in events if e.summary.startswith("Step ")]
    assert ["VirtualService" in steps[0], "ConfigMap" in steps[1]] == [True, True]
    assert "VirtualService default/books deployed successfully" in told(events)
    await done(meshery, body, namespace="default", delete=True)


async def test_a_cluster_that_is_down_is_named_and_the_other_is_done(
    half: asyncio.Task[list[str]],
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await half
    details = failed.value.details() or ""
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "MB-3001" in details
    assert "second: VirtualService default/half deployed successfully" in details
    assert "away: Error while deploying the design" in details
