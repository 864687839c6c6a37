"""What becomes of an add-on's objects, and which options a body may hold."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.errors import OptionsMalformed
from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.applications.samples import (
    APPLICATION,
    BY_NAME,
    AddonOptions,
    ApplicationOptions,
    expose,
    exposed_services,
    mark,
    move,
    options_of,
    shared,
)
from services.lifecycle.manifests.objects import identity
from tests.unit.lifecycle.samples import thing

OPTIONS = "apiVersion: meshbus.io/v1\nkind: {kind}\nspec: {{{spec}}}\n"


def service(name: str, **spec: Any) -> KubeObject:
    return {**thing("Service", name, namespace="istio-system"), "spec": spec}


# --- place ----------------------------------------------------------------------------------------


def test_objects_and_accounts_move_together() -> None:
    binding = {
        **thing("ClusterRole", "kiali"),
        "kind": "ClusterRoleBinding",
        "subjects": [
            {"kind": "ServiceAccount", "name": "kiali", "namespace": "istio-system"},
            {"kind": "Group", "name": "system:authenticated"},
        ],
    }
    account = thing("ServiceAccount", "kiali", namespace="istio-system")
    role = thing("ClusterRole", "kiali")
    move([binding, account, role], "mesh")
    assert account["metadata"]["namespace"] == "mesh"
    assert "namespace" not in binding["metadata"] | role["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "kiali", "namespace": "mesh"},
        {"kind": "Group", "name": "system:authenticated"},
    ]


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("root_namespace: istio-system\n", "root_namespace: mesh\n"),
        ('rate(x{namespace!="istio-system"}[1m])', 'rate(x{namespace!="mesh"}[1m])'),
        ("loki.istio-system.svc.cluster.local:9095", "loki.mesh.svc.cluster.local:9095"),
        ("kiali-istio-system", "kiali-istio-system"),
        ("istio-system-two", "istio-system-two"),
        ("my_istio-system", "my_istio-system"),
    ],
)
def test_texts_that_name_the_namespace_follow(text: str, moved: str) -> None:
    config = {**thing("ConfigMap", "c", namespace="istio-system"), "data": {"file": text}}
    move([config], "mesh")
    assert config["data"]["file"] == moved


def test_nothing_moves_at_home() -> None:
    config = {**thing("ConfigMap", "c", namespace="istio-system"), "data": {"a": "istio-system"}}
    empty = {**thing("ConfigMap", "d", namespace="istio-system"), "data": None}
    move([config, empty], "istio-system")
    assert config["data"] == {"a": "istio-system"}
    assert empty["data"] is None
    move([empty], "mesh")
    assert empty["metadata"]["namespace"] == "mesh"


# --- exposure -------------------------------------------------------------------------------------


def test_services_stay_inside_whatever_the_sample_says() -> None:
    objects = [service("a"), service("b", type="LoadBalancer"), thing("ConfigMap", "a")]
    expose(objects, "")
    assert [obj["spec"]["type"] for obj in objects[:2]] == ["ClusterIP", "ClusterIP"]
    assert "spec" not in objects[2]
    assert exposed_services(objects) == []


def test_one_service_is_exposed_when_asked() -> None:
    objects = [service("tracing"), service("zipkin")]
    expose(objects, "tracing")
    assert exposed_services(objects) == [Ref("v1", "Service", "istio-system", "tracing")]
    assert objects[1]["spec"]["type"] == "ClusterIP"


# --- names ----------------------------------------------------------------------------------------


def test_shared_objects_are_the_others() -> None:
    ours = [service("zipkin", port=1), service("tracing"), service("jaeger-collector")]
    theirs = [service("zipkin", port=2), thing("Deployment", "tracing", namespace="istio-system")]
    assert shared(ours, theirs) == [theirs[0]]
    assert shared([], theirs) == []


def test_an_object_is_the_same_in_any_version_of_its_api() -> None:
    old = Ref("networking.istio.io/v1alpha3", "Gateway", "a", "g")
    assert identity(old) == identity(Ref("networking.istio.io/v1", "Gateway", "a", "g"))
    assert identity(old) != identity(Ref("gateway.networking.k8s.io/v1", "Gateway", "a", "g"))


def test_objects_are_marked_and_pods_are_not() -> None:
    deployment = thing("Deployment", "a", {"app": "a"})
    deployment["spec"] = {"template": {"metadata": {"labels": {"app": "a"}}}}
    unlabelled = thing("ServiceAccount", "b")
    unlabelled["metadata"]["labels"] = None
    mark([deployment, unlabelled], BY_NAME["kiali-addon"])
    assert deployment["metadata"]["labels"] == {"app": "a", APPLICATION: "kiali-addon"}
    assert unlabelled["metadata"]["labels"] == {APPLICATION: "kiali-addon"}
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": "a"}


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "",
        " \n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        "a: b: c",
        "%&$",
        "- 1",
        OPTIONS.format(kind="PolicyOptions", spec="gateway: maybe, expose: maybe"),
    ],
    ids=["empty", "blank", "a manifest", "no YAML", "noise", "a list", "another's options"],
)
def test_bodies_of_others_are_left_alone(body: str) -> None:
    assert options_of(BY_NAME["bookinfo"], body) is None
    assert options_of(BY_NAME["kiali-addon"], body) is None


def test_options_of_a_sample_application() -> None:
    spec = "gateway: false, readinessTimeoutSeconds: 5"
    body = OPTIONS.format(kind="ApplicationOptions", spec=spec)
    wanted = ApplicationOptions(gateway=False, readinessTimeoutSeconds=5)
    assert options_of(BY_NAME["bookinfo"], body) == wanted


def test_options_have_defaults() -> None:
    assert ApplicationOptions().model_dump() == {"gateway": True, "readinessTimeoutSeconds": 120}
    assert AddonOptions().model_dump() == {"expose": False, "readinessTimeoutSeconds": 120}


def test_options_of_an_add_on_stand_among_other_documents() -> None:
    body = "kind: Other\n---\n" + OPTIONS.format(kind="AddonOptions", spec="expose: true")
    assert options_of(BY_NAME["kiali-addon"], body) == AddonOptions(expose=True)


@pytest.mark.parametrize(
    ("kind", "spec", "word"),
    [
        ("AddonOptions", "expose: 1", "spec.expose of the AddonOptions"),
        ("AddonOptions", "gateway: false", "spec.gateway"),
        ("AddonOptions", "readinessTimeoutSeconds: 0", "spec.readinessTimeoutSeconds"),
    ],
)
def test_options_that_cannot_be_used_are_named(kind: str, spec: str, word: str) -> None:
    with pytest.raises(OptionsMalformed) as refused:
        options_of(BY_NAME["kiali-addon"], OPTIONS.format(kind=kind, spec=spec))
    assert word in refused.value.summary
