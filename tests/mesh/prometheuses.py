"""A Prometheus in a pod of the mesh's cluster, as an add-on is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.testbed import packages
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE

NAMESPACE, NAME = "monitoring", "prometheus"
SOURCE = f"Prometheus {NAMESPACE}/{NAME} (found)"
"""What topology calls it."""
_LIBRARIES = ("/usr", "/lib", "/lib64")


@contextmanager
def running(cluster: RealCluster, files: Mapping[str, str]) -> Iterator[None]:
    """Runs one for the block; `files` are its `prometheus.yaml` and what lies beside it, below
    /config. It may not be ready yet when the block begins."""
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects(files)})
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=listing)
    try:
        yield
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE)


def _objects(files: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The machine's program in a pod of the bed's image, which has no libraries."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": STAND_IN_IMAGE,
        "command": [
            str(packages.program("prometheus")),
            "--config.file=/config/prometheus.yaml",
            "--storage.tsdb.path=/tmp/data",
        ],
        "ports": [{"containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            *(
                {"name": path.strip("/"), "mountPath": path, "readOnly": True}
                for path in _LIBRARIES
            ),
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": NAME}},
        *({"name": path.strip("/"), "hostPath": {"path": path}} for path in _LIBRARIES),
    ]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}}
    ports = [{"name": "http", "port": 80, "targetPort": 9090}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
    ]
