"""Server-side apply and deletion: idempotent, and honest about whose fields they take."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.chassis.errors import KindUnknown, NamespaceMissing, ObjectInvalid
from services.chassis.kube.applying import FIELD_MANAGER, Applier
from services.chassis.kube.client import MERGE_PATCH, KubeClient
from services.chassis.kube.objects import Ref
from services.chassis.kube.readiness import Readiness
from tests.real.chassis.kube.objects import body, config_map, custom, definition, deployment, ref
from tests.testbed.clusters import Cluster
from tests.testbed.waiting import eventually

_LONG = timedelta(seconds=30)
_SHORT = timedelta(milliseconds=500)


async def test_first_apply_creates_and_second_changes_nothing(
    applier: Applier, namespace: str
) -> None:
    obj = config_map("fresh", namespace, a="1")

    first = await applier.apply(ref(obj), body(obj))
    second = await applier.apply(ref(obj), body(obj))

    assert first.created
    assert not second.created
    assert second.resource_version == first.resource_version
    assert second.taken_over == ""


async def test_changed_object_is_changed(applier: Applier, namespace: str) -> None:
    before = config_map("changing", namespace, a="1", b="2")
    after = config_map("changing", namespace, a="9")
    first = await applier.apply(ref(before), body(before))

    second = await applier.apply(ref(after), body(after))

    assert second.resource_version != first.resource_version
    # What we applied before and leave out now is gone: the fields were ours.
    assert second.obj["data"] == {"a": "9"}


async def test_fields_of_others_stay(cluster: Cluster, applier: Applier, namespace: str) -> None:
    ours = config_map("shared", namespace, a="1")
    await applier.apply(ref(ours), body(ours))
    cluster.kubectl("label", "configmap", "shared", "team=them", f"--namespace={namespace}")

    applied = await applier.apply(ref(ours), body(ours))

    assert applied.obj["metadata"]["labels"] == {"team": "them"}
    assert applied.taken_over == ""


async def test_field_of_kubectl_is_taken_over_and_told(
    cluster: Cluster, applier: Applier, namespace: str
) -> None:
    manifest = body(config_map("disputed", namespace, a="theirs", b="theirs")).decode()
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=manifest)
    ours = config_map("disputed", namespace, a="ours")

    applied = await applier.apply(ref(ours), body(ours))

    assert applied.obj["data"] == {"a": "ours", "b": "theirs"}
    assert 'conflict with "kubectl"' in applied.taken_over
    assert ".data.a" in applied.taken_over
    owners = [field["manager"] for field in applied.obj["metadata"]["managedFields"]]
    assert FIELD_MANAGER in owners
    # It is ours now: the next apply has nothing to tell.
    assert (await applier.apply(ref(ours), body(ours))).taken_over == ""


async def test_field_can_be_taken_over_without_a_word(
    cluster: Cluster, applier: Applier, namespace: str
) -> None:
    manifest = body(config_map("disputed", namespace, a="theirs")).decode()
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=manifest)
    ours = config_map("disputed", namespace, a="ours")

    applied = await applier.apply(ref(ours), body(ours), take_over=True)

    assert applied.obj["data"] == {"a": "ours"}
    assert applied.taken_over == ""


async def test_same_value_as_another_manager_is_no_conflict(
    cluster: Cluster, applier: Applier, namespace: str
) -> None:
    obj = config_map("agreed", namespace, a="same")
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=body(obj).decode())

    applied = await applier.apply(ref(obj), body(obj))

    assert not applied.created
    assert applied.taken_over == ""


async def test_many_at_once(applier: Applier, namespace: str) -> None:
    objects = [config_map(f"many-{number}", namespace, a="1") for number in range(60)]

    applied = await asyncio.gather(*(applier.apply(ref(o), body(o)) for o in objects))

    assert all(one.created for one in applied)


async def test_same_object_at_once_ends_as_one(applier: Applier, namespace: str) -> None:
    obj = config_map("raced", namespace, a="1")

    applied = await asyncio.gather(*(applier.apply(ref(obj), body(obj)) for _ in range(10)))

    assert sum(one.created for one in applied) == 1
    assert {one.taken_over for one in applied} == {""}


async def test_object_that_the_server_refuses_names_the_field(
    applier: Applier, namespace: str
) -> None:
    obj = deployment("wrong", namespace, replicas=-1)

    with pytest.raises(ObjectInvalid, match=r"spec\.replicas") as refused:
        await applier.apply(ref(obj), body(obj))

    assert refused.value.subject == f"Deployment {namespace}/wrong"


async def test_field_that_the_kind_does_not_have_is_refused(
    applier: Applier, namespace: str
) -> None:
    obj = {**config_map("misspelt", namespace), "dta": {"a": "1"}}

    with pytest.raises(ObjectInvalid, match=r"\.dta: field not declared"):
        await applier.apply(ref(obj), body(obj))


async def test_missing_namespace_is_told(applier: Applier, name: str) -> None:
    obj = config_map("lost", name)

    with pytest.raises(NamespaceMissing, match=name):
        await applier.apply(ref(obj), body(obj))


async def test_namespace_on_its_way_out_takes_nothing_new(
    client: KubeClient, applier: Applier, name: str
) -> None:
    held = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes", "tests.example/held"]},
    }
    await client.request("POST", "/api/v1/namespaces", body=body(held))
    await applier.delete(ref(held))
    obj = config_map("late", name)
    try:
        with pytest.raises(NamespaceMissing, match="being terminated") as refused:
            await applier.apply(ref(obj), body(obj))
        assert refused.value.cause == "the namespace is being deleted"
    finally:
        await client.request(
            "PUT",
            f"/api/v1/namespaces/{name}/finalize",
            body=body({**held, "spec": {"finalizers": []}}),
        )


async def test_unknown_kind_is_told(applier: Applier, namespace: str) -> None:
    obj = custom("nowhere.example", "Thing", "one", namespace)

    with pytest.raises(KindUnknown, match="serves no Thing in nowhere"):
        await applier.apply(ref(obj), body(obj))


async def test_kind_that_came_later_is_found(
    applier: Applier, readiness: Readiness, namespace: str, name: str
) -> None:
    group = f"{name}.example"
    defined, thing = definition(group, "Gadget"), custom(group, "Gadget", "one", namespace)
    with pytest.raises(KindUnknown):
        await applier.apply(ref(thing), body(thing))

    await applier.apply(ref(defined), body(defined))
    assert not await readiness.wait([ref(defined)], within=_LONG, on_ready=_ignore)
    applied = await applier.apply(ref(thing), body(thing))

    assert applied.created
    assert await applier.delete(ref(thing))
    assert await applier.delete(ref(defined))


async def test_kind_that_went_and_came_back_is_found(
    applier: Applier, readiness: Readiness, namespace: str, name: str
) -> None:
    group = f"{name}.example"
    defined, thing = definition(group, "Gadget"), custom(group, "Gadget", "one", namespace)
    for _ in range(2):
        await applier.apply(ref(defined), body(defined))
        assert not await readiness.wait([ref(defined)], within=_LONG, on_ready=_ignore)
        assert (await applier.apply(ref(thing), body(thing))).created

        assert await applier.delete(ref(defined))
        assert not await readiness.wait_gone([ref(defined)], within=_LONG)


async def test_deleting_twice_is_once(applier: Applier, namespace: str) -> None:
    obj = config_map("doomed", namespace)
    await applier.apply(ref(obj), body(obj))

    assert await applier.delete(ref(obj))
    assert not await applier.delete(ref(obj))


@pytest.mark.parametrize(
    "missing",
    [
        Ref("v1", "ConfigMap", "no-such-namespace", "one"),
        Ref("v1", "Namespace", "", "no-such-namespace"),
        Ref("nowhere.example/v1", "Thing", "default", "one"),
    ],
    ids=str,
)
async def test_what_is_not_there_need_not_be_deleted(applier: Applier, missing: Ref) -> None:
    assert not await applier.delete(missing)


async def test_foreground_deletion_keeps_the_object_until_its_parts_are_gone(
    client: KubeClient, applier: Applier, readiness: Readiness, namespace: str
) -> None:
    obj = deployment("layered", namespace, replicas=1)
    await applier.apply(ref(obj), body(obj))
    assert not await readiness.wait([ref(obj)], within=_LONG, on_ready=_ignore)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    [pod] = (await client.get(pods))["items"]
    # The pod cannot go before this is taken away.
    path = f"{pods}/{pod['metadata']['name']}"
    await _set_finalizers(client, path, ["tests.example/held"])

    assert await applier.delete(ref(obj), cascade="Foreground")
    assert await readiness.wait_gone([ref(obj)], within=_SHORT) == {ref(obj)}
    await _set_finalizers(client, path, [])

    assert not await readiness.wait_gone([ref(obj)], within=_LONG)
    await eventually(lambda: _is_empty(client, pods), what="the pods to be gone")


async def _set_finalizers(client: KubeClient, path: str, finalizers: list[str]) -> None:
    await client.request(
        "PATCH",
        path,
        body=body({"metadata": {"finalizers": finalizers}}),
        content_type=MERGE_PATCH,
    )


async def _is_empty(client: KubeClient, path: str) -> bool:
    return not (await client.get(path))["items"]


async def _ignore(_: Ref) -> None:
    pass
