"""The rules of IST against the real `istioctl analyze`, on one real cluster with all cases.

Offline, istioctl reads no Services, pods or namespaces, so most of its codes need a cluster. Ours
reads the same cluster's objects as watches would bring them. Each run compares every finding of
every code that we implement, so a case also shows that no other code is found in it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from services.topology.analysis.catalog import CODES
from services.topology.cluster import kinds
from tests.testbed import building
from tests.testbed.clusters import Cluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.unit.topology.analysis.ist.cases.all import ALL
from tests.unit.topology.analysis.ist.worlds import (
    WORLDS,
    Case,
    findings_of,
    kind_of,
    state_of,
    world,
)

_CODES = frozenset(code for code in CODES if code.startswith("IST"))
_DEFINITIONS = "manifests/charts/base/files/crd-all.gen.yaml"

Found = frozenset[tuple[str, str]]
"""Codes and objects."""


@pytest.fixture(scope="module")
def full(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own: the analysis is of all namespaces, and the cases fill it."""
    with Cluster(tmp_path_factory.mktemp("istioctl"), name="cases") as running:
        definitions = building.distributions_folder() / ISTIO_VERSION / _DEFINITIONS
        for source in (definitions, building.gateway_api_folder()):
            running.kubectl("apply", "--server-side", "-f", str(source))
        running.wait_established()
        objects = [*world(""), *(obj for case in ALL for obj in case.objects())]
        with ThreadPoolExecutor(8) as pool:
            for is_namespace in (True, False):
                now = [obj for obj in objects if (obj["kind"] == "Namespace") is is_namespace]
                list(pool.map(partial(_create, running), now))
        yield running


@pytest.mark.parametrize("name", WORLDS)
def test_finds_what_istioctl_finds(full: Cluster, name: str) -> None:
    for obj in world(name):
        _put(full, obj)
    theirs, ours = _theirs(full), _ours(full)
    missed = frozenset(
        (code, about) for c in ALL for code in (c.code, *c.more) for about in c.theirs - c.ours
    )
    invented = frozenset((c.code, about) for c in ALL for about in c.ours - c.theirs)
    assert theirs - ours == missed
    assert ours - theirs == invented
    for case in (case for case in ALL if case.world == name):
        assert _of(case, ours) == case.ours, case.name
        assert _of(case, theirs) == case.theirs, case.name


def _of(case: Case, found: Found) -> set[str]:
    """What the case's code finds in its objects."""
    own = {f"{obj['kind']} {_place(obj)}" for obj in case.objects()}
    return {about for code, about in found if code == case.code and about in own}


def _place(obj: dict[str, Any]) -> str:
    namespace, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
    return f"{namespace}/{name}" if namespace else str(name)


def _theirs(cluster: Cluster) -> Found:
    command = [
        str(building.binary("istioctl")),
        "analyze",
        f"--kubeconfig={cluster.kubeconfig}",
        "--all-namespaces",
        "--output=json",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    return frozenset((one["code"], one["origin"]) for one in found if one["code"] in _CODES)


def _ours(cluster: Cluster) -> Found:
    """What our rules find in the objects that the API server has."""
    wanted = sorted({kind_of(obj) for case in ALL for obj in case.objects()} | {kinds.CONFIG_MAP})
    listed = cluster.api.read_all(_path(kind) for kind in wanted)
    state = state_of(
        {"apiVersion": answer["apiVersion"], "kind": kinds.short(kind), **obj}
        for kind, answer in zip(wanted, listed, strict=True)
        for obj in answer["items"]
    )
    return frozenset(
        (code, str(finding.object))
        for finding in findings_of(state)
        for code in _CODES.intersection(finding.codes)
    )


def _create(cluster: Cluster, obj: dict[str, Any]) -> None:
    """Creates an object, and gives it its status."""
    path = _path(kind_of(obj), obj["metadata"].get("namespace", ""))
    created = cluster.api.request("POST", path, obj)
    if "status" in obj:
        whole = {**created, "status": obj["status"]}
        cluster.api.request("PUT", f"{path}/{obj['metadata']['name']}/status", whole)


def _put(cluster: Cluster, obj: dict[str, Any]) -> None:
    """Creates an object, or puts it in place of what is there."""
    path = _path(kind_of(obj), obj["metadata"].get("namespace", ""))
    cluster.api.create_or_keep(path, obj)
    cluster.api.request("PUT", f"{path}/{obj['metadata']['name']}", obj)


_VERSIONS = {
    kinds.ENVOY_FILTER: "v1alpha3",
    kinds.PROXY_CONFIG: "v1beta1",
    kinds.WASM_PLUGIN: "v1alpha1",
}


def _path(kind: str, namespace: str = "") -> str:
    """Of the collection, in one namespace or all."""
    group, _, name = kind.partition("/")
    root = f"/apis/{group}/{_VERSIONS.get(kind, 'v1')}" if group else "/api/v1"
    plural = name.lower()
    plural = plural + "s" if plural[-2:] not in ("cy", "ry") else plural[:-1] + "ies"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"
