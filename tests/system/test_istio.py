"""The operation `istio` on a real API server: profiles, overlays, upgrades, removal."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc
import pytest

from services.lifecycle.mesh.requests import PROFILES
from tests.testbed.bodies import (
    PURGE,
    both,
    in_namespace,
    namespace,
    no_pods_quota,
    operator,
    options,
)
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.proxies import FaultProxy
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION
from tests.testbed.snapshots import differences, snapshot

ERROR = 2


def summaries(meshery: Meshery, operation: str) -> list[str]:
    return [received.event.summary for received in meshery.of(operation)]


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    """Puts objects into the cluster as somebody else would."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "-f", "-", stdin=text)


def get(cluster: Cluster, *what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", *what, "-o", "json"))
    return found


@pytest.mark.parametrize(
    "profile",
    [
        name if name == "default" else pytest.param(name, marks=pytest.mark.full)
        for name in PROFILES
    ],
)
async def test_every_profile_is_installed_and_leaves_nothing(
    profile: str, bare: Cluster, meshery: Meshery
) -> None:
    before = snapshot(bare)
    operation = await meshery.apply("istio", version=ISTIO_VERSION, body=options(profile=profile))
    final = (await meshery.finals(operation))[0]
    assert not final.failed, final.event
    assert "mesh is now installed" in final.event.details
    assert any(text.startswith("Plan: install Istio") for text in summaries(meshery, operation))
    assert get(bare, "namespace", "istio-system")["status"]["phase"] == "Active"

    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
    assert "removed" in removed.event.summary
    assert differences(before, snapshot(bare)) == []


async def test_components_are_ready_when_the_install_ends(bare: Cluster, meshery: Meshery) -> None:
    operation = await meshery.apply("istio", version=ISTIO_VERSION, body=options(profile="demo"))
    await meshery.finals(operation)
    texts = summaries(meshery, operation)
    for name in ("istiod", "istio-ingressgateway", "istio-egressgateway"):
        assert any(f"Deployment istio-system/{name} is ready" in text for text in texts)
        status = get(bare, "deployment", name, "-n", "istio-system")["status"]
        assert status["availableReplicas"] == status["replicas"]


# --- a mesh that is there -------------------------------------------------------------------------


async def test_a_repeat_sends_nothing(meshed: Cluster, meshery: Meshery) -> None:
    versions = {
        name: get(meshed, *name.split())["metadata"]["resourceVersion"]
        for name in (
            "crd virtualservices.networking.istio.io",
            "configmap istio -n istio-system",
            "mutatingwebhookconfiguration istio-sidecar-injector",
        )
    }
    again = await meshery.run("istio", version=ISTIO_VERSION)
    assert "0 objects applied" in again.event.details
    for name, version in versions.items():
        assert get(meshed, *name.split())["metadata"]["resourceVersion"] == version


async def test_a_click_on_meshery_s_page_brings_its_placeholder_and_its_editor(
    meshed: Cluster, meshery: Meshery
) -> None:
    """Where the page knows no version: nobody has chosen 1.0.0, nor applied the Secret."""
    body = "apiVersion: v1\nkind: Secret\nmetadata: {name: half, namespace: default}\n"
    operation = await meshery.apply("istio", version="v1.0.0", body=body)
    final = (await meshery.finals(operation))[0]
    assert not final.failed, final.event
    assert f"version {ISTIO_VERSION}" in final.event.details
    assert "0 objects applied" in final.event.details
    told = "\n".join(summaries(meshery, operation))
    assert "v1.0.0 is what Meshery's page sends" in told
    assert "Not for this operation, and ignored: Secret" in told
    assert "half" not in meshed.kubectl("get", "secrets", "-n", "default")
    assert re.search(r"installed successfully on bed: \d+ objects in [\d.]+ s", told), told


async def test_a_repeat_mends_what_somebody_changed(meshed: Cluster, meshery: Meshery) -> None:
    before = get(meshed, "configmap", "istio", "-n", "istio-system")["data"]["mesh"]
    meshed.kubectl(
        "patch", "configmap", "istio", "-n", "istio-system", "-p", '{"data": {"mesh": "broken"}}'
    )
    meshed.kubectl("delete", "service", "istiod", "-n", "istio-system")
    meshed.kubectl(
        "label", "deployment", "istiod", "-n", "istio-system", "app=other", "--overwrite"
    )
    operation = await meshery.apply("istio", version=ISTIO_VERSION)
    final = (await meshery.finals(operation))[0]
    assert "3 objects applied" in final.event.details, meshery.of(operation)
    assert get(meshed, "configmap", "istio", "-n", "istio-system")["data"]["mesh"] == before
    labels = get(meshed, "deployment", "istiod", "-n", "istio-system")["metadata"]["labels"]
    assert labels["app"] == "istiod"


async def test_an_install_into_a_dying_namespace_sends_what_dies_with_it(
    meshed: Cluster, meshery: Meshery
) -> None:
    # Without its controller the namespace stays as it is, whole, between its deletion and its end.
    with meshed.paused_controllers():
        meshed.kubectl("delete", "namespace", "istio-system", "--wait=false")
        operation = await meshery.apply("istio", version=ISTIO_VERSION)
        await meshery.until(
            lambda: any("the old namespace" in text for text in summaries(meshery, operation))
        )
    final = (await meshery.finals(operation))[0]
    assert not final.failed, final.event
    assert get(meshed, "deployment", "istiod", "-n", "istio-system")["status"]["readyReplicas"] == 1


_OTHER_IDENTITIES: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({"global": {"meshID": "other"}}, {}, "meshID would change from (none) to other"),
    ({"global": {"network": "other"}}, {}, "network would change from (none) to other"),
    ({"global": {"multiCluster": {"clusterName": "other"}}}, {}, "cluster name would change"),
    ({}, {"trustDomain": "other"}, "trustDomain would change from cluster.local to other"),
)


async def test_a_mesh_keeps_what_others_know_it_by(meshed: Cluster, meshery: Meshery) -> None:
    for values, mesh_config, words in _OTHER_IDENTITIES:
        body = operator(values=values, meshConfig=mesh_config)
        refused = await meshery.run("istio", version=ISTIO_VERSION, body=body)
        assert refused.failed
        assert words in refused.event.details
    again = await meshery.run("istio", version=ISTIO_VERSION)
    assert not again.failed, again.event
    assert "0 objects applied" in again.event.details


async def test_a_repeat_keeps_the_validator_closed(meshed: Cluster, meshery: Meshery) -> None:
    """istiod turns `Ignore` into `Fail` once it answers; here the test does it in its place."""
    name = ("validatingwebhookconfiguration", "istio-validator-istio-system")
    rendered = get(meshed, *name)["webhooks"][0]["failurePolicy"]
    _set_failure_policy(meshed, "Fail")
    try:
        final = await meshery.run("istio", version=ISTIO_VERSION)
        assert not final.failed, final.event
        assert rendered == "Ignore"
        assert get(meshed, *name)["webhooks"][0]["failurePolicy"] == "Fail"
    finally:
        _set_failure_policy(meshed, "Ignore")


def _set_failure_policy(cluster: Cluster, policy: str) -> None:
    cluster.kubectl(
        *("patch", "validatingwebhookconfiguration", "istio-validator-istio-system"),
        *("--type=json", "--field-manager=pilot-discovery", "-p"),
        json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": policy}]),
    )


async def test_a_gateway_in_use_is_not_pruned(meshed: Cluster, meshery: Meshery) -> None:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }
    apply(meshed, gateway)
    operation = await meshery.apply("istio", version=ISTIO_VERSION, body=options(profile="ambient"))
    refused = (await meshery.finals(operation))[0]
    assert refused.failed
    assert "istio-ingressgateway would be pruned" in refused.event.details
    assert "Gateway default/shop uses it" in refused.event.details
    plan = next(r.event for r in meshery.of(operation) if r.event.summary.startswith("Plan:"))
    assert "Deployment istio-system/istio-ingressgateway" in plan.details.partition("pruned")[2]
    assert get(meshed, "deployment", "istio-ingressgateway", "-n", "istio-system")
    assert "ztunnel" not in meshed.kubectl("get", "daemonsets", "-A", "-o", "name")
    # Who wants it all the same says so; nobody's gateway is pruned without a word.
    forced = await meshery.run(
        "istio", version=ISTIO_VERSION, body=options(profile="ambient", force=True)
    )
    assert not forced.failed, forced.event
    meshed.kubectl("delete", "gateway.networking.istio.io", "shop")


# --- from none ------------------------------------------------------------------------------------


async def test_an_overlay_reaches_the_cluster(bare: Cluster, meshery: Meshery) -> None:
    resources = {"requests": {"cpu": "11m", "memory": "123Mi"}}
    body = both(
        operator(
            profile="minimal",
            components={"pilot": {"k8s": {"resources": resources}}},
            meshConfig={"accessLogFile": "/dev/stdout"},
        ),
        options(revision="tuned", tags=["stage"]),
    )
    final = await meshery.run("istio", version=ISTIO_VERSION, body=body)
    assert not final.failed, final.event
    deployment = get(bare, "deployment", "istiod-tuned", "-n", "istio-system")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == resources["requests"]
    mesh = get(bare, "configmap", "istio-tuned", "-n", "istio-system")["data"]["mesh"]
    assert "accessLogFile: /dev/stdout" in mesh
    tag = get(bare, "mutatingwebhookconfiguration", "istio-revision-tag-stage")
    assert tag["metadata"]["labels"]["istio.io/rev"] == "tuned"


async def test_upgrade_in_place_and_refused_downgrade(bare: Cluster, meshery: Meshery) -> None:
    await meshery.run("istio", version=ISTIO_OLDER_VERSION)
    up = await meshery.run("istio", version=ISTIO_VERSION)
    assert f"upgraded from {ISTIO_OLDER_VERSION}" in up.event.summary
    image = get(bare, "deployment", "istiod", "-n", "istio-system")["spec"]["template"]["spec"][
        "containers"
    ][0]["image"]
    assert image.endswith(f":{ISTIO_VERSION}")

    before = snapshot(bare)
    down = await meshery.run("istio", version=ISTIO_OLDER_VERSION)
    assert down.event.error_code == "MB-4006"
    assert "downgrade" in down.event.details
    assert differences(before, snapshot(bare)) == []

    forced = await meshery.run("istio", version=ISTIO_OLDER_VERSION, body=options(force=True))
    assert not forced.failed, forced.event


async def test_canary_upgrade_moves_the_tag_and_removes_the_old(
    bare: Cluster, meshery: Meshery
) -> None:
    old, new = "1-30-3", "1-31-0"
    await meshery.run(
        "istio", version=ISTIO_OLDER_VERSION, body=options(revision=old, tags=["default", "prod"])
    )
    beside = await meshery.run("istio", version=ISTIO_VERSION, body=options(revision=new))
    assert not beside.failed, beside.event
    assert _tag(bare, "prod") == old

    held = await meshery.run("istio", delete=True, body=options(revision=old))
    assert held.event.error_code == "MB-4009"
    assert "prod" in held.event.details

    await meshery.run(
        "istio", version=ISTIO_VERSION, body=options(revision=new, tags=["default", "prod"])
    )
    assert _tag(bare, "prod") == new
    gone = await meshery.run("istio", delete=True, body=options(revision=old))
    assert not gone.failed, gone.event
    names = bare.kubectl("get", "deployments", "-n", "istio-system", "-o", "name").split()
    assert "deployment.apps/istiod-1-31-0" in names
    assert "deployment.apps/istiod-1-30-3" not in names
    assert _tag(bare, "prod") == new


def _tag(cluster: Cluster, tag: str) -> str:
    found = get(cluster, "mutatingwebhookconfiguration", f"istio-revision-tag-{tag}")
    return str(found["metadata"]["labels"]["istio.io/rev"])


async def test_an_older_revision_does_not_turn_definitions_back(
    bare: Cluster, meshery: Meshery
) -> None:
    await meshery.run("istio", version=ISTIO_VERSION, body=options(revision="new"))
    name = ("crd", "virtualservices.networking.istio.io")
    before = get(bare, *name)["metadata"]["labels"]["operator.istio.io/version"]
    older = await meshery.run("istio", version=ISTIO_OLDER_VERSION, body=options(revision="old"))
    assert not older.failed, older.event
    assert get(bare, *name)["metadata"]["labels"]["operator.istio.io/version"] == before


async def test_a_failed_install_names_the_object_and_a_repeat_finishes(
    bare: Cluster, meshery: Meshery
) -> None:
    apply(bare, namespace("istio-system"), no_pods_quota("istio-system"))
    failed = await meshery.run(
        "istio", version=ISTIO_VERSION, body=options(readinessTimeoutSeconds=2)
    )
    event = failed.event
    assert event.error_code == "MB-4007"
    assert "Deployment istio-system/istiod" in event.details
    assert "exceeded quota" in event.probable_cause
    assert event.suggested_remediation
    assert "Applied before the failure" in event.details

    bare.kubectl("delete", "resourcequota", "no-pods", "-n", "istio-system")
    bare.kubectl("rollout", "restart", "deployment", "istiod", "-n", "istio-system")
    repeated = await meshery.run("istio", version=ISTIO_VERSION)
    assert not repeated.failed, repeated.event


async def test_definitions_stay_while_users_need_them(bare: Cluster, meshery: Meshery) -> None:
    await meshery.run("istio", version=ISTIO_VERSION)
    resource = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "mine", "namespace": "default"},
        "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]},
    }
    apply(bare, resource)
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
    assert "virtualservices.networking.istio.io (1)" in removed.event.details
    assert "purge: true" in removed.event.details
    assert get(bare, "virtualservice", "mine")["spec"]["hosts"] == ["a"]
    left = bare.kubectl("get", "crd", "-o", "name").split()
    assert [name for name in left if "istio.io" in name] == [
        "customresourcedefinition.apiextensions.k8s.io/virtualservices.networking.istio.io"
    ]

    purged = await meshery.run("istio", delete=True, body=options(purge=True))
    assert not purged.failed, purged.event
    assert "istio.io" not in bare.kubectl("get", "crd", "-o", "name")


@pytest.mark.full
async def test_a_namespace_that_was_there_stays_with_what_lives_in_it(
    bare: Cluster, meshery: Meshery
) -> None:
    tenant = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "tenant", "namespace": "istio-system"},
    }
    apply(bare, namespace("istio-system", team="platform"), tenant)
    before = snapshot(bare)
    await meshery.run("istio", version=ISTIO_VERSION)
    removed = await meshery.run("istio", delete=True)
    assert "kept: it was there before the mesh" in removed.event.details
    assert differences(before, snapshot(bare)) == []


async def test_a_neighbour_in_our_namespace_keeps_it(bare: Cluster, meshery: Meshery) -> None:
    await meshery.run("istio", version=ISTIO_VERSION, body=options(profile="minimal"))
    bare.kubectl("create", "configmap", "tenant", "-n", "istio-system")
    removed = await meshery.run("istio", delete=True)
    assert "kept: it holds ConfigMap istio-system/tenant" in removed.event.details
    assert get(bare, "configmap", "tenant", "-n", "istio-system")


@pytest.mark.full
async def test_users_resources_in_our_namespace_keep_it(bare: Cluster, meshery: Meshery) -> None:
    """Mesh-wide policies live in the system namespace; so may anything whose name is like ours."""
    await meshery.run("istio", version=ISTIO_VERSION, body=options(profile="minimal"))
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "istio-system"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "istio-gateway-certificate", "namespace": "istio-system"},
    }
    apply(bare, policy, secret)
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
    assert "kept: it holds PeerAuthentication istio-system/default" in removed.event.details
    assert get(bare, "peerauthentication", "default", "-n", "istio-system")["spec"]["mtls"]
    assert get(bare, "secret", "istio-gateway-certificate", "-n", "istio-system")


async def test_what_istiod_left_goes_with_the_last_revision(
    bare: Cluster, meshery: Meshery
) -> None:
    """The fake nodes run no istiod, so the test leaves what one would have left."""
    before = snapshot(bare)
    await meshery.run("istio", version=ISTIO_VERSION, body=options(profile="minimal"))
    leader = {"control-plane.alpha.kubernetes.io/leader": "{}"}
    everywhere = [
        {"name": name, "namespace": space, "labels": {"istio.io/config": "true"}}
        for name in ("istio-ca-root-cert", "istio-ca-crl")
        for space in ("default", "istio-system")
    ]
    apply(
        bare,
        *(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
            for metadata in everywhere
        ),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "istio-leader",
                "namespace": "istio-system",
                "annotations": leader,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "istio-ca-secret", "namespace": "istio-system"},
        },
    )
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
    assert differences(before, snapshot(bare)) == []


async def test_a_busy_cluster_refuses_and_names_the_holder(bare: Cluster, meshery: Meshery) -> None:
    apply(bare, namespace("istio-system"), no_pods_quota("istio-system"))
    holder = await meshery.apply(
        "istio", version=ISTIO_VERSION, body=options(readinessTimeoutSeconds=120)
    )
    await meshery.until(lambda: any("Wave 3" in text for text in summaries(meshery, holder)))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await meshery.apply("istio", version=ISTIO_VERSION)
    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert holder in str(refused.value.details())

    manifest = await meshery.run(
        "custom",
        body='{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "meanwhile"}}',
    )
    assert not manifest.failed, manifest.event
    bare.kubectl("delete", "cm", "meanwhile")

    with FaultProxy(int(bare.server_url.rpartition(":")[2])) as proxy:
        other_address = bare.kubeconfig_through(f"https://{proxy.address}")
        second = await meshery.run("istio", version=ISTIO_VERSION, kubeconfigs=[other_address])
    assert second.event.error_code == "MB-2002"
    assert holder in second.event.details

    bare.kubectl("delete", "resourcequota", "no-pods", "-n", "istio-system")
    bare.kubectl("rollout", "restart", "deployment", "istiod", "-n", "istio-system")
    final = (await meshery.finals(holder))[0]
    assert not final.failed, final.event


@pytest.mark.parametrize(
    ("request_fields", "code", "word"),
    [
        ({"version": "1.2.3"}, "MB-4001", ISTIO_VERSION),
        ({"version": "latest"}, "MB-4001", ISTIO_OLDER_VERSION),
        ({"version": "../../bin"}, "MB-4001", "available"),
        ({"body": options(profile="openshift")}, "MB-4002", "ambient"),
        ({"body": "{IstioOperator: [yaml"}, "MB-4003", "line"),
        ({"body": operator(nonsense=1)}, "MB-4005", "nonsense"),
        ({"body": operator(installPackagePath="/etc")}, "MB-4004", "installPackagePath"),
        ({"body": options(revision="Not_Valid")}, "MB-4003", "revision"),
        ({"body": options(surprise=True)}, "MB-4003", "surprise"),
        ({"body": '{"apiVersion": "meshbus.io/v1", "kind": "Options"}'}, "MB-4003", "'Options'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_bad_input_changes_nothing(
    request_fields: dict[str, str],
    code: str,
    word: str,
    cluster: Cluster,
    meshery: Meshery,
) -> None:
    before = snapshot(cluster)
    final = await meshery.run("istio", **request_fields)
    event = final.event
    assert (event.event_type, event.error_code) == (ERROR, code)
    assert word in event.details + event.probable_cause + event.suggested_remediation
    assert event.probable_cause
    assert event.suggested_remediation
    assert differences(before, snapshot(cluster)) == []


async def test_two_clusters_at_once_each_with_its_result(
    bare: Cluster, second_cluster: Cluster, meshery: Meshery
) -> None:
    apply(second_cluster, namespace("istio-system"), no_pods_quota("istio-system"))
    second = second_cluster.kubeconfig_text
    operation = await meshery.apply(
        "istio",
        version=ISTIO_VERSION,
        body=options(profile="minimal", readinessTimeoutSeconds=10),
        kubeconfigs=[bare.kubeconfig_text, second],
    )
    finals = await meshery.finals(operation, count=2)
    by_result = {received.failed: received.event for received in finals}
    assert set(by_result) == {True, False}
    assert second_cluster.name in by_result[True].summary
    assert bare.kubectl("get", "deployment", "istiod", "-n", "istio-system")
    removed = await meshery.run("istio", delete=True, body=PURGE, kubeconfigs=[second])
    assert not removed.failed, removed.event
    second_cluster.kubectl("delete", "namespace", "istio-system")


@pytest.mark.parametrize(
    "overlay",
    [
        operator(values={"global": {"istioNamespace": "mesh-system"}}),
        pytest.param(in_namespace("mesh-system"), marks=pytest.mark.full),
    ],
    ids=["values", "metadata"],
)
async def test_istio_lives_in_a_namespace_of_its_own_name(
    overlay: str, bare: Cluster, meshery: Meshery
) -> None:
    before = snapshot(bare)
    done = await meshery.run("istio", version=ISTIO_OLDER_VERSION, body=overlay)
    assert not done.failed, done.event
    assert get(bare, "deployment", "istiod", "-n", "mesh-system")["metadata"]["name"] == "istiod"
    # Without a word about the namespace the mesh stays where it is.
    newer = await meshery.run("istio", version=ISTIO_VERSION)
    assert not newer.failed, newer.event
    assert "upgraded" in newer.event.summary
    assert "istio-system" not in bare.kubectl("get", "namespaces", "-o", "name")
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
    assert differences(before, snapshot(bare)) == []


async def test_an_istio_of_another_namespace_is_neither_pruned_nor_removed(
    bare: Cluster, meshery: Meshery
) -> None:
    installed = await meshery.run("istio", version=ISTIO_VERSION, body=options(profile="minimal"))
    assert not installed.failed, installed.event
    before = snapshot(bare)
    second = (
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"
        f"metadata: {{namespace: second}}\n---\n{options(profile='minimal', force=True)}"
    )
    for is_deletion in (False, True):
        refused = await meshery.run("istio", version=ISTIO_VERSION, body=second, delete=is_deletion)
        assert refused.failed
        assert refused.event.error_code == "MB-4009"
        assert "is installed in the namespace istio-system" in refused.event.details
    assert differences(before, snapshot(bare)) == []
    # Somebody has made another one, as istioctl would.
    plane = get(bare, "deployment", "istiod", "-n", "istio-system")
    kept = ("name", "labels")
    metadata = {name: plane["metadata"][name] for name in kept} | {"namespace": "second"}
    apply(bare, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "second"}})
    apply(bare, {**plane, "metadata": metadata, "status": {}})
    for is_deletion in (False, True):
        guess = await meshery.run("istio", version=ISTIO_VERSION, delete=is_deletion)
        assert guess.event.error_code == "MB-4008"
        assert "istio-system, second" in guess.event.details
    bare.kubectl("delete", "namespace", "second")
    assert differences(before, snapshot(bare)) == []
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event


async def test_the_last_control_plane_stays_while_pods_have_its_sidecars(
    bare: Cluster, meshery: Meshery
) -> None:
    installed = await meshery.run("istio", version=ISTIO_VERSION, body=options(profile="minimal"))
    assert not installed.failed, installed.event
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "meshed", "labels": {"security.istio.io/tlsMode": "istio"}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    }
    apply(bare, pod)
    refused = await meshery.run("istio", delete=True)
    assert refused.failed
    assert "pods have its sidecars (Pod default/meshed)" in refused.event.details
    assert get(bare, "deployment", "istiod", "-n", "istio-system")
    bare.kubectl("delete", "pod", "meshed", "--force", "--grace-period=0")
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
