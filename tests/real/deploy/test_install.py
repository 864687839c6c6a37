"""The chart on a real API server: accepted as a whole, installed, changed, taken back, removed.

No container runs: kwok makes pods ready and Jobs complete. What the Jobs do is tried in
`test_jobs.py`, what the images do in `test_images.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.charting import CHART
from tests.real.deploy.charts import RELEASE, Helm, Object, of_kind
from tests.testbed import building
from tests.testbed.clusters import Cluster, has_condition
from tests.testbed.processes import BedError, wait_until
from tests.testbed.snapshots import snapshot

DEPLOYMENTS = {f"{RELEASE}-{name}" for name in ("gateway", "lifecycle", "translator", "topology")}
DEFINITIONS = (
    ("keda", "keda.sh_scaledobjects.yaml"),
    ("prometheus-operator", "monitoring.coreos.com_servicemonitors.yaml"),
    ("prometheus-operator", "monitoring.coreos.com_prometheusrules.yaml"),
)


@pytest.fixture
def restricted(cluster: Cluster, namespace: str) -> str:
    """A namespace that takes no pod with more rights than it needs."""
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, label)
    return namespace


@pytest.fixture
def volume(cluster: Cluster, name: str) -> Iterator[str]:
    """A storage class with one volume; nothing here makes volumes by itself."""
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "hostPath": {"path": "/nowhere"},
        },
    }
    cluster.api.request("POST", "/api/v1/persistentvolumes", manifest)
    yield name
    cluster.kubectl("delete", "persistentvolume", name, "--wait=false")


@pytest.fixture
def definitions(cluster: Cluster) -> Iterator[None]:
    """The kinds of KEDA and of the Prometheus operator."""
    files = [building.program_folder(name) / "crds" / file for name, file in DEFINITIONS]
    arguments = [f"--filename={file}" for file in files]
    cluster.kubectl("apply", "--server-side", *arguments)
    cluster.wait_established()
    yield
    cluster.kubectl("delete", *arguments)


def test_the_server_takes_every_rendering(
    cluster: Cluster,
    definitions: None,
    renderings: dict[str, list[Object]],
    restricted: str,
) -> None:
    """By its schemas, strictly: an unknown field is an error."""
    for name, objects in renderings.items():
        text = yaml.safe_dump_all(objects)
        for absent in ("mb", "istio-system"):
            text = text.replace(f"namespace: {absent}\n", f"namespace: {restricted}\n")
        told = cluster.kubectl(
            "apply",
            "--dry-run=server",
            "--server-side",
            "--validate=strict",
            f"--namespace={restricted}",
            "--filename=-",
            stdin=text,
        )
        assert told.count("(server dry run)") == len(objects), name


def test_a_container_with_more_rights_would_be_refused(
    cluster: Cluster, renderings: dict[str, list[Object]], restricted: str
) -> None:
    """What the namespace of the next test is worth."""
    spec = of_kind(renderings["as it is"], "Deployment")[f"{RELEASE}-gateway"]["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **spec, "metadata": {"name": "pod"}}
    options = ("apply", "--dry-run=server", f"--namespace={restricted}", "--filename=-")
    cluster.kubectl(*options, stdin=yaml.safe_dump(pod))
    del spec["spec"]["containers"][0]["securityContext"]["capabilities"]
    with pytest.raises(BedError, match="violates PodSecurity"):
        cluster.kubectl(*options, stdin=yaml.safe_dump(pod))


def test_install_upgrade_rollback_uninstall(
    cluster: Cluster, restricted: str, volume: str, home: Path
) -> None:
    helm = Helm(home, cluster.kubeconfig)
    values = {"nats": {"storage": {"className": volume}}}
    common = (f"--namespace={restricted}", "--wait", "--wait-for-jobs", "--timeout=5m")
    before = snapshot(cluster)

    said = helm.run("install", RELEASE, str(CHART), *common, values=values)
    assert f"ADAPTER_URLS={RELEASE}.{restricted}.svc:10000" in said
    _all_available(cluster, restricted)
    _bound(cluster, restricted)
    _jobs_are(cluster, restricted, {f"{RELEASE}-streams-1", f"{RELEASE}-register-1"})

    changed = {**values, "topology": {"replicas": 3}, "settings": {"MESHBUS_LOG_LEVEL": "debug"}}
    helm.run("upgrade", RELEASE, str(CHART), *common, values=changed)
    _all_available(cluster, restricted)
    assert _deployment(cluster, restricted, "topology")["spec"]["replicas"] == 3
    _jobs_are(cluster, restricted, {f"{RELEASE}-streams-2", f"{RELEASE}-register-2"})

    # A store does not move from one server to three.
    three = {**values, "nats": {**values["nats"], "replicas": 3}}
    with pytest.raises(BedError, match="a store does not move"):
        helm.run("upgrade", RELEASE, str(CHART), *common, values=three)

    helm.run("rollback", RELEASE, "1", *common)
    _all_available(cluster, restricted)
    assert _deployment(cluster, restricted, "topology")["spec"]["replicas"] == 2

    helm.run("uninstall", RELEASE, *common[:2], "--timeout=5m")
    wait_until(
        lambda: _left(before, snapshot(cluster), restricted) == {"PersistentVolumeClaim"},
        timeout_s=120.0,
        what="all but the volume to be gone",
        processes=[cluster.apiserver],
    )


def _left(before: dict[str, str], after: dict[str, str], namespace: str) -> set[str]:
    """Kinds of the objects that are there since then, in the namespace or for the whole cluster."""
    keys = (key.split() for key in after.keys() - before.keys())
    return {kind for _, kind, place in keys if place.startswith((f"{namespace}/", "/"))}


def _deployment(cluster: Cluster, namespace: str, service: str) -> Object:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{RELEASE}-{service}"
    found: Object = cluster.api.request("GET", path)
    return found


def _all_available(cluster: Cluster, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    found = cluster.api.request("GET", path)["items"]
    available = {each["metadata"]["name"] for each in found if has_condition(each, "Available")}
    assert available == {*DEPLOYMENTS, f"{RELEASE}-perf"}


def _bound(cluster: Cluster, namespace: str) -> None:
    claims = cluster.api.request("GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")
    assert [each["status"]["phase"] for each in claims["items"]] == ["Bound"]


def _jobs_are(cluster: Cluster, namespace: str, names: set[str]) -> None:
    """Those of this revision, complete; the one that makes keys has gone after its success."""
    told = json.loads(cluster.kubectl("get", "jobs", f"--namespace={namespace}", "-ojson"))
    jobs = {each["metadata"]["name"]: has_condition(each, "Complete") for each in told["items"]}
    assert jobs == dict.fromkeys(names, True)
