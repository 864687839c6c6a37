"""The raw client: who it is to the server, what it retries, and what it makes of refusals."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from services.chassis.errors import (
    ClusterForbidden,
    ClusterUnauthorized,
    ClusterUnreachable,
    InternalError,
    KindUnknown,
    NamespaceMissing,
    ObjectConflict,
    ObjectInvalid,
    ObjectNotFound,
)
from services.chassis.kube import client as client_module
from services.chassis.kube.client import APPLY_PATCH, CONNECTIONS, KubeClient
from services.chassis.kube.kubeconfigs import Kubeconfig, parse_kubeconfig
from services.chassis.telemetry.metrics import Metrics
from tests.real.chassis.kube.objects import body, config_map
from tests.testbed import pki
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually

_NAMESPACES = "/api/v1/namespaces"


def _changed(text: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Kubeconfig:
    """The kubeconfig with its cluster and its user changed."""
    document = yaml.safe_load(text)
    change(document["clusters"][0]["cluster"], document["users"][0]["user"])
    return parse_kubeconfig(yaml.safe_dump(document))


async def _username(client: KubeClient) -> str:
    """Who the server thinks that we are."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await client.request(
        "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=orjson.dumps(review)
    )
    return str(answer.json()["status"]["userInfo"]["username"])


async def test_a_client_that_only_reads_sends_nothing_else(cluster: Cluster) -> None:
    """Topology's: with an administrator's credential it still changes nothing."""
    config = parse_kubeconfig(cluster.kubeconfig_text)
    async with KubeClient(config, is_read_only=True) as reader:
        assert await reader.get(f"{_NAMESPACES}/default")
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            with pytest.raises(InternalError, match="only reads"):
                await reader.request(method, f"{_NAMESPACES}/default", body=b"{}")
        assert await reader.get(f"{_NAMESPACES}/default")


class TestIdentity:
    async def test_client_certificate(self, client: KubeClient) -> None:
        assert await _username(client) == "bed-admin"

    async def test_token(self, cluster: Cluster) -> None:
        async with KubeClient(parse_kubeconfig(cluster.token_kubeconfig_text())) as client:
            assert await _username(client) == "system:serviceaccount:kube-system:meshbus-bed"

    async def test_client_key_reaches_no_disk(
        self, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for place in ("TMPDIR", "HOME"):
            monkeypatch.setenv(place, str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        open_before = _open_files()

        async with KubeClient(parse_kubeconfig(cluster.kubeconfig_text)) as client:
            assert await _username(client) == "bed-admin"
            # Neither a file nor the memory that stood in for one.
            assert not [name for name in _open_files() - open_before if "certificate" in name]

        assert list(tmp_path.rglob("*")) == []

    async def test_server_of_another_authority_is_refused(self, cluster: Cluster) -> None:
        stranger = base64.b64encode(pki.Authority("stranger").certificate_pem).decode()
        config = _changed(
            cluster.kubeconfig_text,
            lambda server, _: server.update({"certificate-authority-data": stranger}),
        )
        async with KubeClient(config) as client:
            with pytest.raises(ClusterUnauthorized, match="CA did not sign") as refused:
                await client.get(_NAMESPACES)

        assert "certificate-authority-data" in refused.value.cause

    async def test_wrong_token(self, cluster: Cluster) -> None:
        config = _changed(
            cluster.token_kubeconfig_text(), lambda _, user: user.update({"token": "canary-token"})
        )
        async with KubeClient(config) as client:
            with pytest.raises(ClusterUnauthorized) as refused:
                await client.get(_NAMESPACES)

        assert refused.value.code == "MB-3002"
        assert "canary-token" not in f"{refused.value!r}{refused.value}{config!r}"

    async def test_certificate_of_another_authority(self, cluster: Cluster) -> None:
        stranger = pki.Authority("stranger").issue_client("bed-admin", groups=["system:masters"])
        config = _changed(
            cluster.kubeconfig_text,
            lambda _, user: user.update(
                {
                    "client-certificate-data": base64.b64encode(stranger.public_pem).decode(),
                    "client-key-data": base64.b64encode(stranger.private_pem).decode(),
                }
            ),
        )
        async with KubeClient(config) as client:
            with pytest.raises(ClusterUnauthorized):
                await client.get(_NAMESPACES)

    async def test_missing_right_names_the_object(self, cluster: Cluster, namespace: str) -> None:
        text = cluster.token_kubeconfig_text(account="reader", role="view")
        async with KubeClient(parse_kubeconfig(text)) as client:
            listing = await client.get(f"{_NAMESPACES}/{namespace}/configmaps")
            assert listing["kind"] == "ConfigMapList"

            with pytest.raises(ClusterForbidden, match="cannot create") as refused:
                await client.request(
                    "POST",
                    f"{_NAMESPACES}/{namespace}/configmaps",
                    body=body(config_map("refused", namespace)),
                    subject=f"ConfigMap {namespace}/refused",
                )

        assert refused.value.code == "MB-3003"
        assert refused.value.subject == f"ConfigMap {namespace}/refused"

    async def test_server_is_checked_by_the_name_in_the_kubeconfig(self, cluster: Cluster) -> None:
        def named(name: str) -> Kubeconfig:
            return _changed(
                cluster.kubeconfig_text, lambda server, _: server.update({"tls-server-name": name})
            )

        async with KubeClient(named("kubernetes.default.svc")) as client:
            assert await _username(client) == "bed-admin"
        async with KubeClient(named("elsewhere.example")) as client:
            with pytest.raises(ClusterUnauthorized):
                await client.get(_NAMESPACES)

    async def test_proxy_variables_of_the_process_are_not_followed(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")

        async with KubeClient(parse_kubeconfig(cluster.kubeconfig_text)) as client:
            assert await _username(client) == "bed-admin"


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return found


class TestRefusals:
    async def test_object_that_is_not_there(self, client: KubeClient) -> None:
        with pytest.raises(ObjectNotFound, match='configmaps "nothing" not found'):
            await client.get(f"{_NAMESPACES}/default/configmaps/nothing")

    async def test_kind_that_is_not_served(self, client: KubeClient) -> None:
        with pytest.raises(KindUnknown):
            await client.get("/apis/nothing.example/v1/things")

    async def test_namespace_that_is_not_there(self, client: KubeClient, name: str) -> None:
        with pytest.raises(NamespaceMissing, match=name):
            await client.request(
                "POST", f"{_NAMESPACES}/{name}/configmaps", body=body(config_map("lost", name))
            )

    async def test_object_that_is_there_already(self, client: KubeClient, namespace: str) -> None:
        path = f"{_NAMESPACES}/{namespace}/configmaps"
        await client.request("POST", path, body=body(config_map("twice", namespace)))

        with pytest.raises(ObjectConflict, match="already exists"):
            await client.request("POST", path, body=body(config_map("twice", namespace)))

    async def test_object_that_makes_no_sense(self, client: KubeClient, namespace: str) -> None:
        with pytest.raises(ObjectInvalid, match=r"metadata\.name"):
            await client.request(
                "POST",
                f"{_NAMESPACES}/{namespace}/configmaps",
                body=body(config_map("Not A Name", namespace)),
            )

    async def test_field_that_does_not_exist(self, client: KubeClient, namespace: str) -> None:
        obj = {**config_map("odd", namespace), "dta": {}}
        with pytest.raises(ObjectInvalid, match="dta"):
            await client.request(
                "PATCH",
                f"{_NAMESPACES}/{namespace}/configmaps/odd",
                query={"fieldManager": "tests"},
                body=body(obj),
                content_type=APPLY_PATCH,
            )


class TestPersistence:
    async def test_requests_outlive_cut_connections(
        self, proxied: KubeClient, proxy: FaultProxy, namespace: str
    ) -> None:
        await _apply(proxied, namespace, "before")
        proxy.delay(0.05)
        asking = [
            asyncio.create_task(_apply(proxied, namespace, f"cut-{number}")) for number in range(20)
        ]
        for _ in range(3):
            cut_at = proxy.accepted_connections + 5
            await eventually(
                lambda at=cut_at: proxy.accepted_connections >= at or all(t.done() for t in asking),
                what="connections",
            )
            proxy.cut()
        proxy.delay(0.0)

        await asyncio.gather(*asking)

        listing = await proxied.get(f"{_NAMESPACES}/{namespace}/configmaps")
        names = {item["metadata"]["name"] for item in listing["items"]}
        assert {f"cut-{number}" for number in range(20)} <= names

    async def test_idle_connection_that_died_is_replaced(
        self, proxied: KubeClient, proxy: FaultProxy
    ) -> None:
        await proxied.get(_NAMESPACES)
        proxy.cut()

        await proxied.get(_NAMESPACES)

        assert proxy.accepted_connections == 2

    async def test_server_that_comes_back_is_found(
        self, proxied: KubeClient, proxy: FaultProxy
    ) -> None:
        proxy.refuse()
        asking = asyncio.create_task(proxied.get(_NAMESPACES))
        await asyncio.wait({asking}, timeout=0.3)
        assert not asking.done()

        proxy.heal()

        assert (await asking)["kind"] == "NamespaceList"

    async def test_silent_server_is_asked_again(
        self, proxied: KubeClient, proxy: FaultProxy
    ) -> None:
        asking = asyncio.create_task(proxied.get(_NAMESPACES))
        proxy.blackhole()
        await asyncio.wait({asking}, timeout=0.2)
        proxy.heal()

        assert (await asyncio.wait_for(asking, 10.0))["kind"] == "NamespaceList"

    async def test_server_that_stays_away_is_told(
        self, proxied: KubeClient, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_module, "_RETRY_WITHIN", timedelta(milliseconds=300))
        proxy.refuse()

        with pytest.raises(ClusterUnreachable, match="cluster bed cannot be reached") as told:
            await proxied.get(_NAMESPACES)

        assert told.value.code == "MB-3001"

    async def test_refused_eviction_is_asked_again(
        self, client: KubeClient, cluster: Cluster, namespace: str
    ) -> None:
        counted = Metrics()
        await _guarded_pod(client, namespace)
        async with KubeClient(
            parse_kubeconfig(cluster.kubeconfig_text), counted=counted
        ) as evicting:
            eviction = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": "guarded", "namespace": namespace},
            }
            asking = asyncio.create_task(
                evicting.request(
                    "POST",
                    f"{_NAMESPACES}/{namespace}/pods/guarded/eviction",
                    body=body(eviction),
                )
            )
            await eventually(lambda: '429"' in _exposed(counted), what="the server to say 429")
            assert not asking.done()

            await client.request(
                "DELETE", f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/guard"
            )

            assert (await asking).code == 201

    async def test_connections_are_shared_and_bounded(
        self, proxied: KubeClient, proxy: FaultProxy
    ) -> None:
        await asyncio.gather(*(proxied.get(_NAMESPACES) for _ in range(100)))

        assert proxy.accepted_connections <= CONNECTIONS


async def _apply(client: KubeClient, namespace: str, name: str) -> None:
    await client.request(
        "PATCH",
        f"{_NAMESPACES}/{namespace}/configmaps/{name}",
        query={"fieldManager": "tests", "force": "true"},
        body=body(config_map(name, namespace, a="1")),
        content_type=APPLY_PATCH,
    )


def _exposed(counted: Metrics) -> str:
    return counted.exposition().decode()


async def _guarded_pod(client: KubeClient, namespace: str) -> None:
    """A ready pod that its disruption budget lets nobody evict."""
    labels = {"app": "guarded"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "guarded", "labels": labels},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/main"}]},
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "guard"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}},
    }
    await client.request("POST", f"{_NAMESPACES}/{namespace}/pods", body=body(pod))
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    await client.request("POST", budgets, body=body(budget))

    async def is_ready() -> bool:
        found = await client.get(f"{_NAMESPACES}/{namespace}/pods/guarded")
        return bool(found["status"].get("phase") == "Running")

    async def is_observed() -> bool:
        found = await client.get(f"{budgets}/guard")
        return bool((found.get("status") or {}).get("observedGeneration"))

    await eventually(is_ready, what="the pod to run")
    await eventually(is_observed, what="the budget to be observed")
