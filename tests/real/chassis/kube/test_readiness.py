"""Waiting for objects to be ready or gone, on what the controllers really do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.chassis.kube.applying import Applier
from services.chassis.kube.client import MERGE_PATCH, KubeClient
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.readiness import Readiness, is_ready
from services.chassis.kube.resources import Resources
from tests.real.chassis.kube.objects import body, config_map, definition, deployment, ref
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually

_LONG = timedelta(seconds=30)
_SHORT = timedelta(milliseconds=500)


class _Told:
    """Which objects were told to be ready, in the order of the telling."""

    def __init__(self) -> None:
        self.refs: list[Ref] = []

    async def __call__(self, ref: Ref) -> None:
        self.refs.append(ref)


@pytest.fixture
def told() -> _Told:
    return _Told()


async def _apply(applier: Applier, *objects: KubeObject) -> list[Ref]:
    for obj in objects:
        await applier.apply(ref(obj), body(obj))
    return [ref(obj) for obj in objects]


async def _found(client: KubeClient, resources: Resources, wanted: Ref) -> KubeObject:
    resource = await resources.find(wanted.api_version, wanted.kind)
    found: KubeObject = await client.get(resource.path(wanted))
    return found


def _daemon_set(name: str, namespace: str) -> KubeObject:
    obj = deployment(name, namespace)
    del obj["spec"]["replicas"]
    return {**obj, "kind": "DaemonSet"}


def _stateful_set(name: str, namespace: str) -> KubeObject:
    obj = deployment(name, namespace)
    obj["spec"]["serviceName"] = name
    return {**obj, "kind": "StatefulSet"}


def _namespace(name: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


async def test_workloads_become_ready(
    applier: Applier,
    client: KubeClient,
    resources: Resources,
    readiness: Readiness,
    told: _Told,
    namespace: str,
) -> None:
    refs = await _apply(
        applier,
        deployment("web", namespace),
        _daemon_set("agent", namespace),
        _stateful_set("store", namespace),
    )

    assert await readiness.wait(refs, within=_LONG, on_ready=told) == set()

    assert sorted(told.refs) == sorted(refs)
    for one in refs:
        found = await _found(client, resources, one)
        assert is_ready(found)
    web = await _found(client, resources, refs[0])
    assert web["status"]["availableReplicas"] == 2


async def test_several_of_one_kind_are_told_one_by_one(
    applier: Applier, readiness: Readiness, told: _Told, namespace: str
) -> None:
    refs = await _apply(applier, *(deployment(f"web-{n}", namespace) for n in range(5)))

    assert await readiness.wait(refs, within=_LONG, on_ready=told) == set()

    assert sorted(told.refs) == sorted(refs)


async def test_rollout_in_progress_is_not_ready(
    applier: Applier,
    client: KubeClient,
    resources: Resources,
    readiness: Readiness,
    told: _Told,
    namespace: str,
) -> None:
    refs = await _apply(applier, deployment("web", namespace))
    assert await readiness.wait(refs, within=_LONG, on_ready=told) == set()
    changed = deployment("web", namespace)
    changed["spec"]["template"]["metadata"]["annotations"] = {"tests.example/round": "2"}

    applied = await applier.apply(refs[0], body(changed))

    # The status is still that of the first rollout.
    assert not is_ready(applied.obj)
    assert await readiness.wait(refs, within=_LONG, on_ready=told) == set()
    assert is_ready(await _found(client, resources, refs[0]))
    assert len(told.refs) == 2


async def test_workload_that_does_not_become_ready_is_returned(
    applier: Applier, readiness: Readiness, told: _Told, namespace: str
) -> None:
    stuck = deployment("stuck", namespace)
    stuck["spec"]["template"]["spec"]["nodeSelector"] = {"no-such": "node"}
    [stuck_ref, ready_ref] = await _apply(applier, stuck, deployment("web", namespace))

    late = await readiness.wait([stuck_ref, ready_ref], within=timedelta(seconds=2), on_ready=told)

    assert late == {stuck_ref}
    assert told.refs == [ready_ref]


async def test_definition_is_ready_when_it_is_served(
    applier: Applier,
    client: KubeClient,
    readiness: Readiness,
    told: _Told,
    name: str,
) -> None:
    [defined] = await _apply(applier, definition(f"{name}.example", "Widget"))

    assert await readiness.wait([defined], within=_LONG, on_ready=told) == set()

    assert (await client.get(f"/apis/{name}.example/v1/widgets"))["items"] == []
    await applier.delete(defined)


async def test_namespace_is_ready_when_it_is_active(
    applier: Applier, readiness: Readiness, told: _Told, name: str
) -> None:
    [made] = await _apply(applier, _namespace(name))

    assert await readiness.wait([made], within=_LONG, on_ready=told) == set()

    assert told.refs == [made]
    assert await applier.delete(made)


async def test_object_that_is_not_there_yet_is_waited_for(
    applier: Applier, readiness: Readiness, told: _Told, namespace: str
) -> None:
    obj = config_map("later", namespace)
    waiting = asyncio.create_task(readiness.wait([ref(obj)], within=_LONG, on_ready=told))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()

    await _apply(applier, obj)

    # Kinds without a readiness of their own are ready when they are there.
    assert await waiting == set()


async def test_waiting_goes_on_over_cuts(
    applier: Applier,
    proxied: KubeClient,
    proxy: FaultProxy,
    told: _Told,
    namespace: str,
) -> None:
    readiness = Readiness(proxied, Resources(proxied))
    wanted = ref(deployment("web", namespace))
    waiting = asyncio.create_task(readiness.wait([wanted], within=_LONG, on_ready=told))
    await eventually(lambda: proxy.open_connections >= 1, what="the watch")

    proxy.cut()
    await _apply(applier, deployment("web", namespace))
    proxy.cut()

    assert await waiting == set()
    assert told.refs == [wanted]


async def test_deleted_objects_are_gone(
    applier: Applier, readiness: Readiness, namespace: str
) -> None:
    refs = await _apply(applier, *(config_map(f"gone-{n}", namespace) for n in range(3)))
    waiting = asyncio.create_task(readiness.wait_gone(refs, within=_LONG))

    for one in refs:
        await applier.delete(one)

    assert await waiting == set()


async def test_what_never_was_there_is_gone(readiness: Readiness, namespace: str) -> None:
    missing = {
        Ref("v1", "ConfigMap", namespace, "never"),
        Ref("v1", "ConfigMap", namespace, "ever"),
        Ref("nowhere.example/v1", "Thing", namespace, "never"),
    }

    assert await readiness.wait_gone(missing, within=_LONG) == set()


async def test_object_with_a_finalizer_stays_and_is_returned(
    applier: Applier, client: KubeClient, readiness: Readiness, namespace: str
) -> None:
    held = config_map("held", namespace)
    held["metadata"]["finalizers"] = ["tests.example/held"]
    [held_ref, free_ref] = await _apply(applier, held, config_map("free", namespace))
    for one in (held_ref, free_ref):
        await applier.delete(one)

    assert await readiness.wait_gone([held_ref, free_ref], within=_SHORT) == {held_ref}

    waiting = asyncio.create_task(readiness.wait_gone([held_ref], within=_LONG))
    await client.request(
        "PATCH",
        f"/api/v1/namespaces/{namespace}/configmaps/held",
        body=body({"metadata": {"finalizers": None}}),
        content_type=MERGE_PATCH,
    )
    assert await waiting == set()


async def test_object_that_came_back_under_its_name_counts_as_gone_once(
    applier: Applier, readiness: Readiness, namespace: str
) -> None:
    [wanted] = await _apply(applier, config_map("reborn", namespace))
    waiting = asyncio.create_task(readiness.wait_gone([wanted], within=_LONG))
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done()

    await applier.delete(wanted)
    await _apply(applier, config_map("reborn", namespace))

    assert await waiting == set()
