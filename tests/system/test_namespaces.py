"""A person whose rule is for one namespace: a body's objects are judged one by one, before a write.

Gateway, translator, lifecycle, NATS and the API server are real; the kubeconfig is an
administrator's, so nothing but the policy stands in the way.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.chassis.bus import subjects
from services.chassis.bus.records import Bucket
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import OperationRecord, OperationState
from tests.real.gateway.callers import Caller, TokenFile, calling
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.shops import istio_defined, manifest
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus
from tests.testbed.waiting import eventually

SHOP, OTHER = f"shop-{secrets.token_hex(3)}", f"other-{secrets.token_hex(3)}"
POLICY = f"""
rules:
- identities: [cleo]
  operations: ["*"]
  namespaces: ["{SHOP}"]
"""


@dataclass(frozen=True, slots=True)
class Shopkeeper:
    """Cleo, who may do everything in her shop and nothing elsewhere."""

    caller: Caller
    stack: Stack
    cluster: Cluster

    async def ends(
        self, body: str, *, kind: str = "custom", namespace: str = SHOP, **more: Any
    ) -> OperationRecord:
        """An operation, and how it ended."""
        kubeconfig = self.cluster.kubeconfig_text
        operation = await self.caller.apply(
            opName=kind,
            custom_body=body,
            namespace=namespace,
            kube_configs=[kubeconfig],
            **more,
        )
        key = subjects.operation_key(operation, parse_kubeconfig(kubeconfig).cluster)
        found: list[OperationRecord] = []
        async with admin_bus(self.stack) as bus:

            async def has_ended() -> bool:
                entry = await Bucket(bus, "ops").get(key)
                if entry is not None:
                    found[:] = [OperationRecord.model_validate_json(entry.value)]
                return bool(found) and found[0].state.is_terminal

            await eventually(has_ended, what=f"the end of {operation}", within_s=60.0)
        return found[0]

    async def is_refused(self, body: str, **asked: Any) -> OperationRecord:
        """The end of an operation that the policy does not allow, after which all is as before."""
        before = snapshot(self.cluster)
        record = await self.ends(body, **asked)
        assert record.state is OperationState.FAILED
        assert record.error is not None
        assert record.error.code == "MB-1302", record.error
        assert differences(before, snapshot(self.cluster)) == []
        return record

    def has(self, name: str, *, namespace: str = SHOP) -> bool:
        names = self.cluster.kubectl("get", "configmaps", "-n", namespace, "-o", "name")
        return f"configmap/{name}" in names.split()


@pytest.fixture(scope="module")
def guarded(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str]]:
    """A stack with the policy, and Cleo's token."""
    folder = tmp_path_factory.mktemp("namespaces")
    known = TokenFile.written(folder / "tokens.yaml", cleo=[])
    policy: Path = folder / "policy.yaml"
    policy.write_text(POLICY)
    settings = {
        "MESHBUS_GATEWAY_TOKENS": str(known.path),
        "MESHBUS_POLICY": str(policy),
    }
    services = ("gateway", "translator", "lifecycle")
    with Stack(folder / "stack", services=services, settings=settings) as stack:
        yield stack, known.of["cleo"]


@pytest.fixture(scope="module")
def places(cluster: Cluster) -> Iterator[None]:
    for name in (SHOP, OTHER):
        cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield
    for name in (SHOP, OTHER):
        cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
async def cleo(
    guarded: tuple[Stack, str], cluster: Cluster, places: None
) -> AsyncIterator[Shopkeeper]:
    stack, token = guarded
    async with calling(stack.gateway_address, token) as caller:
        yield Shopkeeper(caller, stack, cluster)


def role(kind: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    }


def component(kind: str, name: str, namespace: str, **configuration: Any) -> dict[str, Any]:
    return {
        "id": name,
        "displayName": name,
        "component": {"kind": kind, "version": "v1"},
        "metadata": {"dependsOn": []},
        "configuration": {"metadata": {"namespace": namespace}, **configuration},
    }


def design(*components: dict[str, Any]) -> str:
    return json.dumps(
        {
            "schemaVersion": "designs.meshery.io/v1beta1",
            "name": "shop",
            "components": list(components),
        }
    )


def split(namespace: str) -> dict[str, Any]:
    """An SMI TrafficSplit; the translator makes a VirtualService of it."""
    backends = [{"service": "a-v1", "weight": 10}, {"service": "a-v2", "weight": 90}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"service": "a", "backends": backends},
    }


def policy(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": namespace},
        "spec": {"mtls": {"mode": "STRICT"}},
    }


async def test_a_body_is_carried_out_within_the_namespace(cleo: Shopkeeper) -> None:
    body = manifest(json.loads(config_map("own")), json.loads(config_map("named", namespace=SHOP)))
    assert (await cleo.ends(body)).state is OperationState.SUCCEEDED
    assert cleo.has("own")
    assert cleo.has("named")
    assert (await cleo.ends(body, delete_op=True)).state is OperationState.SUCCEEDED
    assert not cleo.has("own")


async def test_one_object_elsewhere_keeps_all_of_them_back(cleo: Shopkeeper) -> None:
    body = manifest(json.loads(config_map("here")), json.loads(config_map("x", namespace=OTHER)))
    record = await cleo.is_refused(body)
    assert record.error is not None
    assert f"ConfigMap {OTHER}/x" in record.error.summary
    assert SHOP in record.error.cause


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(role("ClusterRole", "cleos"), id="ClusterRole"),
        pytest.param(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": SHOP, "labels": {"a": "b"}},
            },
            id="her namespace itself",
        ),
        pytest.param(
            role("ClusterRole", "cleos") | {"metadata": {"name": "cleos", "namespace": SHOP}},
            id="ClusterRole that names a namespace",
        ),
    ],
)
async def test_what_lies_in_no_namespace_is_refused(cleo: Shopkeeper, obj: dict[str, Any]) -> None:
    await cleo.is_refused(manifest(json.loads(config_map("here")), obj))
    await cleo.is_refused(manifest(obj), delete_op=True)


async def test_the_requests_own_namespace_counts_as_well(cleo: Shopkeeper) -> None:
    await cleo.is_refused(config_map("x"), namespace=OTHER)
    cleo.cluster.kubectl("create", "configmap", "theirs", "-n", OTHER)
    await cleo.is_refused(config_map("theirs", namespace=OTHER), delete_op=True)
    assert cleo.has("theirs", namespace=OTHER)


async def test_a_design_is_judged_like_a_manifest(cleo: Shopkeeper) -> None:
    own = component("ConfigMap", "designed", SHOP, data={"a": "b"})
    other = component("ConfigMap", "elsewhere", OTHER, data={"a": "b"})
    await cleo.is_refused(design(own, other))
    mesh = {**component("IstioMesh", "istio", SHOP), "component": {"kind": "IstioMesh"}}
    await cleo.is_refused(design(own, mesh))
    assert (await cleo.ends(design(own))).state is OperationState.SUCCEEDED
    assert cleo.has("designed")


async def test_what_the_translator_makes_is_judged(cleo: Shopkeeper) -> None:
    kinds = ("VirtualService", "PeerAuthentication")
    with istio_defined(cleo.cluster, kinds):
        for obj in (split(OTHER), policy(OTHER)):
            await cleo.is_refused(manifest(obj))
        await cleo.is_refused("", kind="strict-mtls-policy-operation", namespace=OTHER)
        record = await cleo.ends(manifest(policy(SHOP)))
        assert record.state is OperationState.SUCCEEDED
        names = cleo.cluster.kubectl("get", "peerauthentications", "-A", "-o", "name")
        assert names.split() == ["peerauthentication.security.istio.io/default"]
        assert (await cleo.ends(manifest(policy(SHOP)), delete_op=True)).error is None
