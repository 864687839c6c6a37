"""How proxies stand with a real istiod: in sync, rejecting, and what it takes to be told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from deploy.rights import surveying_rules, watching_rules
from services.chassis.errors import (
    AnswerTooLarge,
    ClusterForbidden,
    ClusterUnauthorized,
    ClusterUnreachable,
    ObjectNotFound,
)
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.topology.adapters.istiods import ClusterProxies
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Pod
from services.topology.proxies.told import short_type
from tests.testbed import building
from tests.testbed.callers import Caller
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.seeing import Seeing, seeing
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

SYSTEM = "istio-system"
UNKNOWN = "example.unknown"
_WITHIN_S = 60.0


@pytest.fixture(scope="module")
async def token(mesh: RealCluster) -> str:
    return parse_kubeconfig(mesh.kubeconfig_text).cluster


@pytest.fixture(scope="module")
async def seen(stack: Stack, token: str) -> AsyncIterator[Seeing]:
    """The topology service, which watches the mesh."""
    async with seeing(stack) as found:
        await found.watched(token)
        yield found


@pytest.fixture(scope="module")
def istiod(mesh: RealCluster) -> Pod:
    return pod_of(mesh, SYSTEM, "istiod")


def pod_of(mesh: RealCluster, namespace: str, app: str) -> Pod:
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}"
    [pod] = mesh.api.request("GET", path)["items"]
    return Pod(key=Key(kinds.POD, namespace, pod["metadata"]["name"]))


def filter_of(caller: Caller) -> dict[str, Any]:
    """An EnvoyFilter that asks for an extension that no Envoy has."""
    typed = {
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": f"type.googleapis.com/{UNKNOWN}.Filter",
    }
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "SIDECAR_INBOUND",
            "listener": {
                "filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
            },
        },
        "patch": {
            "operation": "INSERT_BEFORE",
            "value": {"name": UNKNOWN, "typed_config": typed},
        },
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "unknown", "namespace": caller.namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": caller.name}},
            "configPatches": [patch],
        },
    }


async def standing(seen: Seeing, caller: Caller, wanted: str) -> dict[str, Any]:
    """The proxy of the caller, as soon as it stands so."""
    found: dict[str, Any] = {}

    async def stands() -> bool:
        told = await seen.ask("proxies", namespaces=[caller.namespace])
        [proxy] = [one for one in told["proxies"] if one["workload"] == caller.name]
        found.clear()
        found.update(proxy)
        return bool(proxy["standing"] == wanted)

    await eventually(stands, what=f"the proxy to be {wanted}", within_s=_WITHIN_S)
    return found


async def as_istioctl_says(seen: Seeing, mesh: RealCluster) -> None:
    """Waits until ours and `istioctl proxy-status` say the same of every proxy and type."""
    words = {"synced": "SYNCED", "not sent": "NOT_SENT", "rejected": "ERROR"}
    words |= {"sent": "STALE", "stale": "STALE"}
    both: list[set[tuple[str, str, str]]] = [set(), set()]

    async def agree() -> bool:
        told = (await seen.ask("proxies"))["proxies"]
        both[0] = {
            (f"{proxy['pod']}.{proxy['namespace']}", one["type"], words[one["sync"]])
            for proxy in told
            for one in proxy["configuration"]
        }
        both[1] = await asyncio.to_thread(theirs, mesh)
        return both[0] == both[1]

    await eventually(agree, what="both to say the same", within_s=_WITHIN_S)
    assert both[0]


def theirs(mesh: RealCluster) -> set[tuple[str, str, str]]:
    command = [str(building.binary("istioctl")), "proxy-status", "--output=json"]
    done = subprocess.run(
        [*command, f"--kubeconfig={mesh.kubeconfig}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {
        (proxy["node"]["id"], short_type(one["typeUrl"]), one.get("configStatus", ""))
        for proxy in json.loads(done.stdout)["resources"]
        for one in proxy.get("genericXdsConfigs", ())
    }


async def test_every_proxy_is_in_sync_under_its_istiod(
    seen: Seeing, mesh: RealCluster, caller: Caller, istiod: Pod
) -> None:
    proxy = await standing(seen, caller, "synced")

    assert proxy["type"] == "sidecar"
    assert proxy["istiod"] == f"{SYSTEM}/{istiod.name}"
    assert proxy["version"] == proxy["istiodVersion"] == ISTIO_VERSION

    async def has_all() -> bool:
        told = await seen.ask("proxies")
        [plane] = told["controlPlanes"]
        [own] = [one for one in told["proxies"] if one["pod"] == proxy["pod"]]
        types = {one["type"] for one in own["configuration"] if one["sync"] == "synced"}
        has_types = {"CDS", "LDS", "EDS"} <= types
        return bool(has_types and plane["pushes"].get("lds") and own["certificateExpires"])

    await eventually(has_all, what="types, figures and the certificate", within_s=_WITHIN_S)
    told = await seen.ask("proxies")
    [plane] = told["controlPlanes"]
    assert (plane["version"], plane["revision"], plane["tells"]) == (ISTIO_VERSION, "default", True)
    assert plane["proxies"] >= 1
    await as_istioctl_says(seen, mesh)
    now = datetime.now(timezone.utc)
    assert datetime.fromisoformat(plane["rootExpires"]) > now + timedelta(days=300)
    [own] = [one for one in told["proxies"] if one["pod"] == proxy["pod"]]
    assert now < datetime.fromisoformat(own["certificateExpires"]) <= now + timedelta(days=1)


async def test_a_rejection_is_told_with_its_object_until_it_is_gone(
    seen: Seeing, mesh: RealCluster, token: str, caller: Caller
) -> None:
    await standing(seen, caller, "synced")
    async with seen.following(token, view="workload") as follower:
        refused = filter_of(caller)
        await asyncio.to_thread(mesh.kubectl, "apply", "-f", "-", stdin=json.dumps(refused))
        try:
            rejects = await standing(seen, caller, "rejected")
            found = await follower.until(
                lambda known: {
                    one["code"]: one
                    for one in known.findings.values()
                    if one["code"] in ("MBS0102", "MBS0106")
                    and one["object"]["namespace"] == caller.namespace
                },
                within_s=_WITHIN_S,
            )
            [node] = await follower.until(
                lambda known: [
                    node
                    for node in known.named(workload=caller.name, namespace=caller.namespace)
                    if node.get("proxyStatus")
                ],
                within_s=_WITHIN_S,
            )
            report = await seen.ask("compliance", cluster=token)
            await as_istioctl_says(seen, mesh)
        finally:
            await asyncio.to_thread(
                mesh.kubectl, "delete", "envoyfilter", "unknown", f"--namespace={caller.namespace}"
            )
        [error] = [one["error"] for one in rejects["configuration"] if "error" in one]
        assert UNKNOWN in error
        assert node["proxyStatus"] == {"rejected": 1}
        assert found["MBS0102"]["object"]["name"] == caller.name
        assert f"EnvoyFilter {caller.namespace}/unknown" in found["MBS0102"]["message"]
        assert found["MBS0106"]["object"]["name"] == "unknown"
        [line] = [
            one
            for one in report["clusters"][0]["workloads"]
            if (one["namespace"], one["name"]) == (caller.namespace, caller.name)
        ]
        assert line["proxies"]["standing"] == "rejected"

        await follower.until(
            lambda known: (
                not any(
                    one["code"].startswith("MBS01")
                    for one in known.findings.values()
                    if one["object"]["namespace"] == caller.namespace
                )
            ),
            within_s=_WITHIN_S,
        )
    await standing(seen, caller, "synced")


@pytest.mark.full
async def test_a_proxy_that_reaches_no_istiod_is_lost(
    seen: Seeing, mesh: RealCluster, token: str, injected: str
) -> None:
    """It takes the minute that a proxy has."""
    lost = Caller(mesh, namespace=injected, name="lost")
    await asyncio.to_thread(lost.start)
    config = json.dumps({"discoveryAddress": "nowhere.istio-system.svc:15012"})
    metadata = {"annotations": {"proxy.istio.io/config": config}}
    patch = json.dumps({"spec": {"template": {"metadata": metadata}}})
    where = ("deployment/lost", f"--namespace={injected}")
    await asyncio.to_thread(mesh.kubectl, "patch", *where, f"--patch={patch}")
    try:
        async with seen.following(token, view="workload") as follower:
            found = await follower.until(
                lambda known: [
                    one
                    for one in known.findings.values()
                    if one["code"] == "MBS0103" and one["object"]["name"] == "lost"
                ],
                within_s=4 * _WITHIN_S,
            )
            assert found[0]["level"] == "error"
            await asyncio.to_thread(mesh.kubectl, "delete", *where)
            await follower.until(
                lambda known: not any(one["code"] == "MBS0103" for one in known.findings.values()),
                within_s=_WITHIN_S,
            )
    finally:
        await asyncio.to_thread(
            mesh.kubectl, "delete", "--ignore-not-found", "serviceaccount/lost", *where
        )


# --- what it takes --------------------------------------------------------------------------------


@pytest.mark.parametrize("rights", ["none", "get", "all"])
async def test_what_istiod_tells_of_its_proxies_takes_a_right_of_its_own(
    mesh: RealCluster, istiod: Pod, caller: Caller, rights: str
) -> None:
    [of_proxies] = surveying_rules()
    rules = {
        "none": watching_rules(),
        "get": [*watching_rules(), of_proxies | {"verbs": ["get"]}],
        "all": [*watching_rules(), of_proxies],
    }[rights]
    name = f"proxies-{rights}"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
    await asyncio.to_thread(mesh.kubectl, "apply", "-f", "-", stdin=json.dumps(role))
    try:
        text = mesh.token_kubeconfig_text(account=name, namespace="default", role=name)
        async with KubeClient(parse_kubeconfig(text), is_read_only=True) as client:
            source = ClusterProxies(client)

            async def counts() -> bool:
                with contextlib.suppress(ClusterForbidden):
                    return (await source.figures(istiod)).version == ISTIO_VERSION
                return False

            await eventually(counts, what="the role to hold", within_s=_WITHIN_S)
            # What is left without the right: metrics, and the agents' own words.
            word = await source.word(pod_of(mesh, caller.namespace, caller.name))
            assert word.is_connected
            assert 0 < (word.expires_in_s or 0) <= 24 * 3600
            if rights == "all":
                assert await source.proxies(istiod)
            else:
                with pytest.raises(ClusterForbidden):
                    await source.proxies(istiod)
    finally:
        made = [f"clusterrole/{name}", f"clusterrolebinding/default-{name}-{name}"]
        await asyncio.to_thread(
            mesh.kubectl, "delete", *made, f"serviceaccount/{name}", "--namespace=default"
        )


async def test_who_does_not_answer_or_says_too_much_is_told(mesh: RealCluster, istiod: Pod) -> None:
    async with KubeClient(parse_kubeconfig(mesh.kubeconfig_text)) as client:
        with pytest.raises(AnswerTooLarge, match="longer than 100 bytes"):
            await ClusterProxies(client, most_bytes=100).proxies(istiod)
        with pytest.raises(ClusterUnreachable, match="port 9 of pod"):
            await ClusterProxies(client, port=9).proxies(istiod)
        with pytest.raises(ObjectNotFound):
            await ClusterProxies(client).proxies(Pod(key=Key(kinds.POD, SYSTEM, "gone")))
        # From outside of the pod istiod asks for an identity, which the API server keeps back.
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{istiod.name}:15014/proxy/debug/syncz"
        with pytest.raises(ClusterUnauthorized):
            await client.get(path)
