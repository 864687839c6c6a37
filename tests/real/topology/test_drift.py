"""Drift on a real API server, with what a real lifecycle worker applied."""

from __future__ import annotations

import json
import secrets
import statistics
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from tests.real.topology.drifting import Rig, rigged
from tests.testbed.building import distributions_folder, gateway_api_folder
from tests.testbed.clusters import Cluster
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION

PURGE = json.dumps(
    {"apiVersion": "meshbus.io/v1", "kind": "LifecycleOptions", "spec": {"purge": True}}
)
_DEFINITIONS = "manifests/charts/base/files/crd-all.gen.yaml"
EDITS = 20
P50_S = 0.025


@pytest.fixture(scope="module")
async def rig(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rigged(tmp_path_factory.mktemp("drift"), cluster, heal_attempts=2) as rig:
        yield rig


@pytest.fixture
async def space(rig: Rig) -> AsyncIterator[str]:
    """A namespace for one test alone."""
    name = f"t{secrets.token_hex(6)}"
    await rig.kubectl("create", "namespace", name)
    yield name
    # The intents go at once, the namespace later: nobody waits for it.
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    await rig.begin("manifest", operation=f"end-{name}", verb="delete", body=json.dumps(body))
    await rig.until(lambda: not any(key.namespace == name for key in rig.watching.kinds()))


def deployment(space: str, **annotations: str) -> dict[str, Any]:
    labels = {"app": "web", "team": "a"}
    containers = [
        {"name": "web", "image": "web:1", "env": [{"name": "KEY", "value": "wanted-secret"}]},
        {"name": "log", "image": "log:1"},
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "namespace": space,
            "labels": labels,
            "annotations": {name.replace("_", "/"): value for name, value in annotations.items()},
        },
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": containers},
            },
        },
    }


def settings(space: str, **data: str) -> dict[str, Any]:
    metadata = {"name": "settings", "namespace": space}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def paths(item: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(change["path"], change["wanted"], change["found"]) for change in item["changes"]]


async def patch(rig: Rig, space: str, what: str, **change: Any) -> None:
    body = json.dumps(change)
    await rig.kubectl("patch", "-n", space, what, "--type=strategic", "-p", body)


async def test_edit_label_list_element_and_restoration(rig: Rig, space: str) -> None:
    ident = f"apps/Deployment/{space}/web"
    await rig.apply(f"op-{space}", deployment(space))

    await rig.kubectl("label", "-n", space, "deployment/web", "team=b", "--overwrite")
    item = await rig.drift(ident)
    assert item["kind"] == "changed"
    assert item["manager"] == "kubectl-label"
    assert item["intent"]["operation"] == f"op-{space}"
    assert paths(item) == [("metadata.labels.team", "a", "b")]

    images = {"template": {"spec": {"containers": [{"name": "log", "image": "log:2"}]}}}
    await patch(rig, space, "deployment/web", spec=images)
    path = "spec.template.spec.containers[name=log].image"
    await rig.until(lambda: (path, "log:1", "log:2") in paths(rig.watching.items()[ident]))
    assert len(paths(rig.watching.items()[ident])) == 2

    # What is not ours is nobody's drift.
    told = len(rig.told)
    await rig.kubectl("annotate", "-n", space, "deployment/web", "note=x")
    # Put back by hand: over, part by part.
    images["template"]["spec"]["containers"][0]["image"] = "log:1"
    await patch(rig, space, "deployment/web", spec=images)
    await rig.until(lambda: len(paths(rig.watching.items()[ident])) == 1)
    await rig.kubectl("label", "-n", space, "deployment/web", "team=a", "--overwrite")
    await rig.over(ident)
    assert len(rig.told) == told + 2

    await rig.kubectl("label", "-n", space, "deployment/web", "team-")
    await rig.drift(ident, kind="removed")
    # Applying again is our own doing, and ends it.
    await rig.apply(f"again-{space}", deployment(space))
    await rig.over(ident)


_THERE_AND_BACK: dict[str, tuple[dict[str, Any], str, Any, Any]] = {
    # Kind: what is applied beside its metadata, the path that is edited, and the two values.
    "gateway.networking.k8s.io/v1/HTTPRoute": (
        {"spec": {"rules": [{"backendRefs": [{"name": "cart", "port": 80}]}]}},
        "/spec/rules/0/backendRefs/0/port",
        80,
        81,
    ),
    "v1/Service": (
        {
            "spec": {
                "selector": {"app": "dns"},
                "ports": [
                    {"name": "dns-tcp", "port": 53, "targetPort": 5353},
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                ],
            }
        },
        "/spec/ports/1/targetPort",
        53,
        5353,
    ),
    "apps/v1/Deployment": (
        {
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
                },
            }
        },
        "/spec/template/spec/containers/0/image",
        "web:1",
        "web:2",
    ),
    "networking.k8s.io/v1/NetworkPolicy": (
        {"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}},
        "/spec/ingress/0/ports/0/port",
        80,
        81,
    ),
    "networking.istio.io/v1/ServiceEntry": (
        {"spec": {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http"}]}},
        "/spec/ports/0/number",
        80,
        81,
    ),
}


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> None:
    """The kinds of Istio and of the Gateway API."""
    definitions = distributions_folder() / ISTIO_VERSION / _DEFINITIONS
    for source in (definitions, gateway_api_folder()):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(source))
    cluster.wait_established()


@pytest.mark.parametrize("kind", sorted(_THERE_AND_BACK))
async def test_an_edit_that_is_taken_back_is_over(
    rig: Rig, space: str, kind: str, served: None
) -> None:
    """Defaults are nobody's, also when an edit of their list made them somebody's field."""
    body, path, ours, theirs = _THERE_AND_BACK[kind]
    api_version, _, name = kind.rpartition("/")
    group = api_version.rpartition("/")[0]
    ident = f"{group}/{name}/{space}/thing"
    metadata = {"name": "thing", "namespace": space}
    await rig.apply(
        f"op-{space}", {"apiVersion": api_version, "kind": name, "metadata": metadata, **body}
    )

    async def edit(value: Any) -> None:
        change = [{"op": "replace", "path": path, "value": value}]
        what = f"{name}.{group}" if group else name
        await rig.kubectl(
            "patch", "-n", space, what, "thing", "--type=json", "-p", json.dumps(change)
        )

    await edit(theirs)
    item = await rig.drift(ident)
    assert [(wanted, found) for _, wanted, found in paths(item)] == [(ours, theirs)]
    await edit(ours)
    await rig.over(ident)


async def test_deletion_and_our_own(rig: Rig, space: str) -> None:
    ident = f"/ConfigMap/{space}/settings"
    await rig.apply(f"op-{space}", settings(space, a="1"))
    await rig.kubectl("delete", "-n", space, "configmap/settings")
    item = await rig.drift(ident)
    assert item["kind"] == "deleted"
    await rig.apply(f"again-{space}", settings(space, a="1"))
    await rig.over(ident)
    told = len(rig.told)
    await rig.run(
        "manifest", operation=f"del-{space}", verb="delete", body=json.dumps(settings(space))
    )
    await rig.until(lambda: not any(key.namespace == space for key in rig.watching.kinds()))
    assert len(rig.told) == told


async def test_values_of_config_maps_and_variables_are_not_told(rig: Rig, space: str) -> None:
    await rig.apply(f"op-{space}", settings(space, password="wanted-secret"), deployment(space))
    await patch(rig, space, "configmap/settings", data={"password": "found-secret"})
    env = [{"name": "KEY", "value": "found-secret"}]
    pod = {"containers": [{"name": "web", "env": env}]}
    await patch(rig, space, "deployment/web", spec={"template": {"spec": pod}})
    first = await rig.drift(f"/ConfigMap/{space}/settings")
    second = await rig.drift(f"apps/Deployment/{space}/web")
    assert [path for path, _, _ in paths(first)] == ["data.password"]
    assert [path for path, _, _ in paths(second)] == [
        "spec.template.spec.containers[name=web].env[name=KEY].value"
    ]
    assert "secret" not in json.dumps([first, second])
    kept = "".join(await rig.intents())
    assert "wanted-secret" not in kept
    assert "web:1" in kept, "what is shown is kept as it is"


async def test_hidden_values_are_put_back(rig: Rig, space: str) -> None:
    heal = {"meshbus.io/drift": "heal"}
    applied = settings(space, password="wanted-secret", owner="an-owner")
    applied["metadata"]["annotations"] = heal
    await rig.apply(f"op-{space}", applied, deployment(space, **{"meshbus.io_drift": "heal"}))
    env = [{"name": "KEY", "value": "found-secret"}]
    pod = {"containers": [{"name": "web", "env": env}]}
    await patch(rig, space, "configmap/settings", data={"password": "found-secret"})
    await patch(rig, space, "deployment/web", spec={"template": {"spec": pod}})
    for ident in (f"/ConfigMap/{space}/settings", f"apps/Deployment/{space}/web"):
        await rig.until(partial(rig.was_told, ident))
        await rig.over(ident)
    live = json.loads(await rig.kubectl("get", "-n", space, "configmap/settings", "-o", "json"))
    assert live["data"] == {"password": "wanted-secret", "owner": "an-owner"}
    assert live["metadata"]["annotations"] == heal
    live = json.loads(await rig.kubectl("get", "-n", space, "deployment/web", "-o", "json"))
    [web, _] = live["spec"]["template"]["spec"]["containers"]
    assert web["env"] == [{"name": "KEY", "value": "wanted-secret"}]


async def test_takeover_by_another_manager(rig: Rig, space: str) -> None:
    await rig.apply(f"op-{space}", deployment(space))
    theirs = deployment(space)
    theirs["spec"]["replicas"] = 3
    await rig.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=x", "-f", "-"),
        stdin=json.dumps(theirs),
    )
    item = await rig.drift(f"apps/Deployment/{space}/web")
    assert (item["kind"], item["manager"], item["operation"]) == ("takeover", "x", "Apply")
    assert paths(item) == [("spec.replicas", 1, 3)]


async def test_ignored_paths(rig: Rig, space: str) -> None:
    ident = f"apps/Deployment/{space}/web"
    ignoring = deployment(space, **{"meshbus.io_drift-ignore": "spec.replicas, metadata.labels"})
    await rig.apply(f"op-{space}", ignoring)
    await rig.kubectl("scale", "-n", space, "deployment/web", "--replicas=2")
    await rig.kubectl("label", "-n", space, "deployment/web", "team=b", "--overwrite")
    await rig.kubectl("set", "image", "-n", space, "deployment/web", "log=log:9")
    item = await rig.drift(ident)
    assert [path for path, _, _ in paths(item)] == ["spec.template.spec.containers[name=log].image"]
    assert {told.ident for told in rig.told if space in told.ident} == {ident}


@pytest.mark.parametrize("deleted", [False, True])
async def test_healing(rig: Rig, space: str, deleted: bool) -> None:
    ident = f"apps/Deployment/{space}/web"
    await rig.apply(f"op-{space}", deployment(space, **{"meshbus.io_drift": "heal"}))
    if deleted:
        await rig.kubectl("delete", "-n", space, "deployment/web", "--wait=false")
    else:
        await rig.kubectl("label", "-n", space, "deployment/web", "team=b", "--overwrite")
    await rig.until(lambda: rig.was_told(ident))
    await rig.over(ident)
    began = next(t.at for t in rig.told if t.ident == ident)
    ended = next(t.at for t in reversed(rig.told) if t.ident == ident)
    assert ended - began < 1.0
    labels = json.loads(await rig.kubectl("get", "-n", space, "deployment/web", "-o", "json"))
    assert labels["metadata"]["labels"]["team"] == "a"


async def test_a_fight_is_given_up(rig: Rig, space: str) -> None:
    """Another controller changes it back each time it is put back."""
    ident = f"/ConfigMap/{space}/settings"
    mine = settings(space, a="1")
    mine["metadata"]["annotations"] = {"meshbus.io/drift": "heal"}
    await rig.apply(f"op-{space}", mine)

    def is_given_up() -> bool:
        return rig.watching.items().get(ident, {}).get("healing") == "given up"

    for _ in range(3):
        told = len(rig.told)
        await patch(rig, space, "configmap/settings", data={"a": "2"})
        # It may be told, put back and over before kubectl has ended.
        await rig.until(partial(rig.was_told, ident, since=told))
        await rig.until(lambda: ident not in rig.watching.items() or is_given_up())
        if is_given_up():
            break
    item = await rig.drift(ident, healing="given up")
    assert item["manager"] == "kubectl-patch"
    data = json.loads(await rig.kubectl("get", "-n", space, "configmap/settings", "-o", "json"))
    assert data["data"] == {"a": "2"}
    assert await rig.watching.heal(ident)
    await rig.over(ident)


@pytest.mark.alone
async def test_a_drift_is_told_within_milliseconds(rig: Rig, space: str) -> None:
    ident = f"/ConfigMap/{space}/settings"
    await rig.apply(f"op-{space}", settings(space, a="1"))
    taken: list[float] = []
    path = f"/api/v1/namespaces/{space}/configmaps/settings?fieldManager=editor"
    obj = rig.cluster.api.request("GET", path)
    for number in range(EDITS):
        told = len(rig.told)
        obj["data"]["a"] = "1" if number % 2 else "2"
        obj = rig.cluster.api.request("PUT", path, obj)
        await rig.until(partial(rig.was_told, ident, since=told))
        taken.append(rig.latency_s(ident))
    assert statistics.median(taken) < P50_S, taken


@pytest.mark.full
async def test_install_upgrade_and_uninstall_are_no_drift(rig: Rig) -> None:
    """With everything that Istio and Kubernetes themselves write meanwhile; the same through all
    services is in test_drifts_told.py."""
    told, kept, events = len(rig.told), await rig.kept(), rig.events
    for number, version in enumerate((ISTIO_OLDER_VERSION, ISTIO_VERSION, ISTIO_VERSION)):
        await rig.run("istio", operation=f"install-{number}", version=version)
        # What a running istiod would do: its authority, and its validator closed.
        await _as_istiod(rig)
        await rig.run("label-namespace", operation=f"label-{number}", namespace="istio-system")
        await rig.run("prometheus-addon", operation=f"add-on-{number}")
    assert await rig.kept() > kept + 40
    await rig.run("prometheus-addon", operation="add-on-end", verb="delete")
    await rig.run("istio", operation="uninstall", verb="delete", body=PURGE)
    await rig.until(lambda: not any("istio" in key.name for key in rig.watching.kinds()))
    assert rig.events > events + 150
    assert rig.told[told:] == []


async def _as_istiod(rig: Rig) -> None:
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        found = json.loads(await rig.kubectl("get", kind, "-o", "json"))
        for webhooks in found["items"]:
            name = webhooks["metadata"]["name"]
            changes = [
                {"op": "add", "path": f"/webhooks/{index}/{field}", "value": value}
                for index, webhook in enumerate(webhooks["webhooks"])
                for field, value in _istiods(webhook)
            ]
            await rig.kubectl(
                *("patch", kind, name, "--type=json", "--field-manager=pilot-discovery", "-p"),
                json.dumps(changes),
            )


def _istiods(webhook: dict[str, Any]) -> list[tuple[str, str]]:
    changes = [("clientConfig/caBundle", "QQ==")]
    if webhook["name"].endswith("validation.istio.io"):
        changes.append(("failurePolicy", "Fail"))
    return changes
