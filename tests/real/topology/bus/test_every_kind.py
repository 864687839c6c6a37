"""Drift of every kind: an edit is told, and one that was taken back is none.

Each object of `kinds.yaml` is applied to the real API server and its intent kept by lifecycle's own
records, so that what is compared is what the topology service compares.
"""

from __future__ import annotations

import base64
import contextlib
import copy
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.local.households import Household
from services.chassis.bus.intents import AppliedObject, comparable, key_of, unpacked
from services.chassis.bus.records import Bucket
from services.chassis.errors import ClusterError
from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.resources import Resources
from services.chassis.messages import Command
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.manifests.records import Ledger
from services.topology.drift.comparing import Difference, Standing, Verdict, compared
from services.topology.drift.values import shown
from tests.testbed.building import distributions_folder, gateway_api_folder
from tests.testbed.buses import NatsServer, connected
from tests.testbed.clusters import Cluster
from tests.testbed.recipe import ISTIO_VERSION

OBJECTS: list[KubeObject] = yaml.safe_load(Path(__file__).with_name("kinds.yaml").read_text())
_GROUPS = (".istio.io", "gateway.networking.k8s.io")
_WITHOUT_RECORD = {("", "Secret")}
_DEFINITIONS = "manifests/charts/base/files/crd-all.gen.yaml"
_JSON_PATCH = "application/json-patch+json"
_ANOTHER = {
    # A value of the same field that the API server takes as well.
    "TCP": "UDP",
    "UDP": "TCP",
    "HTTP": "HTTPS",
    "HTTPS": "HTTP",
    "Normal": "Warning",
    "NoSchedule": "PreferNoSchedule",
    "5s": "6s",
    "0 5 * * *": "0 6 * * *",
    "Prefix": "Exact",
    "Exact": "Prefix",
    "Ignore": "Fail",
    "None": "NoneOnDryRun",
    "STRICT": "PERMISSIVE",
    "DISABLE": "SIMPLE",
    "DENY": "ALLOW",
    "Warn": "Deny",
    "Allow": "Deny",
    "AUTHN": "AUTHZ",
    "GET": "PUT",
    "get": "watch",
    "ROUND_ROBIN": "RANDOM",
    "CREATE": "DELETE",
    "10.1.2.3": "10.1.2.9",
    "10.1.2.4": "10.1.2.8",
    "10.9.9.9": "10.9.9.8",
    "10.0.0.0/8": "11.0.0.0/8",
    "STATIC": "DNS",
    "MESH_EXTERNAL": "MESH_INTERNAL",
    "500m": "400m",
    "1000m": "2",
    "1024Mi": "2Gi",
    "1Gi": "2Gi",
    "INSERT_BEFORE": "INSERT_AFTER",
    "SIDECAR_INBOUND": "SIDECAR_OUTBOUND",
    "In": "NotIn",
    "ScheduleAnyway": "DoNotSchedule",
    "ReadWriteOnce": "ReadWriteMany",
    "Utilization": "Value",
    "Persistent": "Ephemeral",
}

_ITEMS = 4
"""Edited in a short run."""

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A cluster with one namespace for all of these tests, and the bucket of intents."""

    client: KubeClient
    resources: Resources
    bucket: Bucket
    namespace: str
    keys: Household

    async def applied(self, obj: KubeObject) -> tuple[str, AppliedObject, KubeObject]:
        """Applies an object as lifecycle does; its path, intent and the server's answer."""
        ref = Ref.of(obj)
        resource = await self.resources.find(ref.api_version, ref.kind)
        answer = await Applier(self.client, self.resources).apply(ref, orjson.dumps(obj))
        command = Command(operation="op", kind="manifest", cluster=self.namespace)
        ledger = Ledger(self.bucket, command, keys=self.keys.keys("lifecycle"))
        ledger.applied(PlannedObject.of(obj), answer.obj)
        await ledger.settle()
        key = key_of(
            self.namespace,
            kind=f"{ref.group}/{ref.kind}",
            namespace=ref.namespace,
            name=ref.name,
        )
        kept = await self.bucket.get(key)
        assert kept is not None
        intent = comparable(unpacked(kept.value), keys=self.keys.keys("topology"))
        return resource.path(ref), intent, answer.obj

    async def put(self, path: str, at: Place, value: Any) -> KubeObject:
        """Replaces one value as somebody else would."""
        pointer = "".join(f"/{str(one).replace('~', '~0').replace('/', '~1')}" for one in at)
        answer = await self.client.request(
            "PATCH",
            path,
            query={"fieldManager": "editor"},
            body=orjson.dumps([{"op": "replace", "path": pointer, "value": value}]),
            content_type=_JSON_PATCH,
        )
        found: KubeObject = answer.json()
        return found


@pytest.fixture(scope="module")
async def world(cluster: Cluster, server: NatsServer) -> AsyncIterator[World]:
    definitions = distributions_folder() / ISTIO_VERSION / _DEFINITIONS
    for source in (definitions, gateway_api_folder()):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(source))
    cluster.wait_established()
    name = "every-kind"
    cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})
    config = parse_kubeconfig(cluster.kubeconfig_text)
    async with KubeClient(config) as client, connected(server.url) as bus:
        yield World(
            client=client,
            resources=Resources(client),
            bucket=Bucket(bus, "intents"),
            namespace=name,
            keys=Household(),
        )
    cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")


async def test_the_table_has_every_kind(world: World) -> None:
    """Those that can be applied, of Kubernetes itself, of Istio and of the Gateway API."""
    answer = await world.client.request("GET", "/apis")
    groups = ["", *(group["name"] for group in answer.json()["groups"])]
    served = {
        (group, resource.kind)
        for group in groups
        if "." not in group or group.endswith((".k8s.io", *_GROUPS))
        for resource in await world.resources.of_group(group)
        if "patch" in resource.verbs
    }
    table = {Ref.of(obj | {"metadata": {"name": "x"}}).group_kind for obj in OBJECTS}
    assert served - table == _WITHOUT_RECORD
    assert table <= served


def _ident(obj: KubeObject) -> str:
    return f"{obj['apiVersion']}/{obj['kind']}"


@pytest.mark.parametrize("obj", OBJECTS, ids=_ident)
async def test_an_edit_is_told_until_it_is_taken_back(
    world: World, obj: KubeObject, request: pytest.FixtureRequest
) -> None:
    resource = await world.resources.find(obj["apiVersion"], obj["kind"])
    obj = _named(obj, world.namespace if resource.namespaced else "")
    path, intent, live = await world.applied(obj)
    assert compared(intent, live) == Verdict(Standing.AS_APPLIED)
    try:
        edited = 0
        for at, value in _places(obj, whole=request.config.getoption("full")):
            found = await _there_and_back(world, path, intent, live, at, value)
            edited += found is not None
            live = found or live
        assert edited, "the API server refused every edit"
    finally:
        with contextlib.suppress(ClusterError):
            await world.client.request("DELETE", path)


async def _there_and_back(
    world: World, path: str, intent: AppliedObject, live: KubeObject, at: Place, sent: Any
) -> KubeObject | None:
    """Edits what was sent at a place, and back to what the server made of it; the object then, or
    None when the server refuses the edit."""
    ours = _value(live, at)
    theirs = ours[:-1] if isinstance(ours, list) else _another(ours)
    try:
        after = await world.put(path, at, theirs)
    except ClusterError:
        return None
    if _value(after, at[:-1]) == _value(live, at[:-1]):
        return None  # the server takes it, and does not follow it
    told = compared(intent, after).differences
    if isinstance(ours, list):
        assert told, f"{at}: nothing is told"
    else:
        assert len(told) == 1, f"{at}: {told}"
        assert _says(told[0], intent, at, sent, theirs), f"{at}: {told}"
    again = await world.put(path, at, ours)
    assert compared(intent, again).differences == (), at
    return again


def _says(one: Difference, intent: AppliedObject, at: Place, sent: Any, theirs: Any) -> bool:
    """Whether a difference names the place and both values; of an item's key, the item."""
    if one.found is None:
        return one.wanted == sent or str(sent) in str(one.wanted) or "hidden" in str(one.wanted)
    wanted, found = (shown(intent.kind, one.path, value) for value in (sent, theirs))
    return f".{one.path}".endswith(_last(at)) and (one.wanted, one.found) == (wanted, found)


def _last(at: Place) -> str:
    return f"[{at[-1]}]" if isinstance(at[-1], int) or not at[-1].isalnum() else f".{at[-1]}"


def _named(obj: KubeObject, namespace: str) -> KubeObject:
    """With a name of its own, a label that can be edited, and what only a test can know."""
    obj = copy.deepcopy(obj)
    name = f"{obj['kind'].lower()}-{obj['apiVersion'].partition('.')[0].partition('/')[0]}"
    metadata = {"name": name, **obj.get("metadata", {}), "labels": {"team": "a"}}
    obj["metadata"] = metadata | ({"namespace": namespace} if namespace else {})
    for field in ("involvedObject", "regarding"):
        if field in obj:
            obj[field]["namespace"] = namespace
    if obj["kind"] == "CertificateSigningRequest":
        obj["spec"]["request"] = base64.b64encode(_request()).decode()
    return obj


def _request() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return made.public_bytes(Encoding.PEM)


def _places(obj: KubeObject, *, whole: bool) -> list[tuple[Place, Any]]:
    """Where the object is edited: in each of its values and lists. In a short run one value in each
    of a few fields and items of lists, a list, and a label."""
    found = [
        (at, value)
        for name, inner in obj.items()
        if name not in ("apiVersion", "kind")
        for at, value in _parts(inner, (name,))
        if at[:2] not in (("metadata", "name"), ("metadata", "namespace"))
    ]
    if whole:
        return found
    items: dict[Place, tuple[Place, Any]] = {}
    for at, value in found:
        steps = [index for index, step in enumerate(at) if isinstance(step, int)]
        if not isinstance(value, list):
            items.setdefault(at[: steps[-1] + 1] if steps else at[:1], (at, value))
    lists = [(at, value) for at, value in found if isinstance(value, list)]
    return [*list(items.values())[:_ITEMS], *lists[-1:], (("metadata", "labels", "team"), "a")]


def _parts(value: Any, at: Place) -> Iterator[tuple[Place, Any]]:
    """Values below a place, and lists after what is in them."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _parts(inner, (*at, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _parts(inner, (*at, index))
        yield at, value
    else:
        yield at, value


def _value(obj: Any, at: Place) -> Any:
    for step in at:
        obj = obj[step]
    return obj


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else _ANOTHER.get(value, f"{value}x")
