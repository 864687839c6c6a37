"""From settings to an object: two shapes, prettified keys, kinds without an api version."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.errors import DesignMalformed
from services.translator.designs import expand, read_declarations, read_design
from services.translator.designs.objects import api_version_of, has_only_spec, is_cluster_scoped
from services.translator.designs.settings import plain, plain_key
from tests.unit.translator.designs.samples import (
    definition,
    plain_services,
    service,
    services,
    text,
)


def built(**fields: Any) -> dict[str, Any]:
    """The object of one v1alpha2 service; fields as in the design."""
    design = read_design(services(a={"name": "a", "namespace": "shop"} | fields))
    [step] = expand(design, is_deletion=False, default_namespace="other").steps
    [obj] = step.objects
    return obj


def refusal(**fields: Any) -> str:
    with pytest.raises(DesignMalformed) as caught:
        built(**fields)
    return caught.value.summary


def without_identity(obj: dict[str, Any]) -> dict[str, Any]:
    return {key: obj[key] for key in obj if key not in ("apiVersion", "kind", "metadata")}


# Type, settings, and all of the object but its identity.
SHAPES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "Istio, the spec itself": ("Sidecar", {"egress": []}, {"spec": {"egress": []}}),
    "Istio, below spec": ("Sidecar", {"spec": {"egress": []}}, {"spec": {"egress": []}}),
    "Istio, with what an object has": (
        "Sidecar",
        {
            "apiVersion": "x/v1",
            "kind": "Other",
            "namespace": "n",
            "labels": {"a": "b"},
            "annotations": {"design.meshmodel.io.id": "1"},
            "metadata": {"name": "x"},
            "status": {"a": 1},
            "spec": {"egress": []},
        },
        {"spec": {"egress": []}},
    ),
    "Istio, the spec with what an object has": (
        "Sidecar",
        {"egress": [], "status": {}, "annotations": {}},
        {"spec": {"egress": []}},
    ),
    "Istio, spec.spec": ("Sidecar", {"spec": {"spec": {"egress": []}}}, {"spec": {"egress": []}}),
    "Istio, nothing": ("AuthorizationPolicy", {}, {"spec": {}}),
    "Istio, no settings": ("AuthorizationPolicy", None, {"spec": {}}),
    "Istio, null spec": ("AuthorizationPolicy", {"spec": None}, {"spec": {}}),
    "Istio, spec's own labels": (
        "WorkloadEntry",
        {"address": "10.0.0.1", "labels": {"app": "vm"}},
        {"spec": {"address": "10.0.0.1", "labels": {"app": "vm"}}},
    ),
    "Istio, spec's own metadata": (
        "WorkloadGroup",
        {"metadata": {"labels": {"app": "vm"}}, "template": {}},
        {"spec": {"metadata": {"labels": {"app": "vm"}}, "template": {}}},
    ),
    "Istio, the prettifier's word for mtls": (
        "PeerAuthentication",
        {"spec": {"mTLS": {"mode": "STRICT"}}},
        {"spec": {"mtls": {"mode": "STRICT"}}},
    ),
    "Gateway API": ("HTTPRoute", {"parentRefs": []}, {"spec": {"parentRefs": []}}),
    "SMI": ("TrafficSplit", {"service": "a"}, {"spec": {"service": "a"}}),
    "Deployment": (
        "Deployment.K8s",
        {"spec": {"replicas": 1}, "status": {"replicas": 1}, "metadata": {"name": "x"}},
        {"spec": {"replicas": 1}},
    ),
    "ConfigMap": (
        "ConfigMap",
        {"data": {"a": "b"}, "immutable": True, "annotations": {"x": "y"}},
        {"data": {"a": "b"}, "immutable": True},
    ),
    "Secret": (
        "Secret",
        {"stringData": {"a": "b"}, "type": "Opaque"},
        {"stringData": {"a": "b"}, "type": "Opaque"},
    ),
    "RoleBinding": (
        "RoleBinding",
        {"roleRef": {"kind": "Role", "name": "x"}, "subjects": [{"kind": "User"}]},
        {"roleRef": {"kind": "Role", "name": "x"}, "subjects": [{"kind": "User"}]},
    ),
    "Role": ("Role", {"rules": [{"verbs": ["get"]}]}, {"rules": [{"verbs": ["get"]}]}),
}


@pytest.mark.parametrize("case", SHAPES)
def test_both_shapes_of_settings(case: str) -> None:
    kind, settings, expected = SHAPES[case]
    assert without_identity(built(type=kind, settings=settings)) == expected


def test_old_smi_objects_have_no_spec() -> None:
    fields = {"apiVersion": "specs.smi-spec.io/v1alpha2", "settings": {"matches": []}}
    assert without_identity(built(type="HTTPRouteGroup", **fields)) == {"matches": []}
    newer = {**fields, "apiVersion": "specs.smi-spec.io/v1alpha3"}
    assert without_identity(built(type="HTTPRouteGroup", **newer)) == {"spec": {"matches": []}}


def test_metadata_of_settings_counts_where_the_component_is_silent() -> None:
    metadata = {"namespace": "deep", "labels": {"a": "1", "b": "1"}, "annotations": {"c": "d"}}
    obj = built(type="ConfigMap", namespace="", labels={"a": "2"}, settings={"metadata": metadata})
    assert obj["metadata"] == {
        "name": "a",
        "namespace": "deep",
        "labels": {"a": "2", "b": "1"},
        "annotations": {"c": "d"},
    }


def test_a_declarations_metadata_is_never_its_spec() -> None:
    declared = definition("vm", "WorkloadGroup", "networking.istio.io/v1")
    declared["configuration"] = {"metadata": {"namespace": "shop"}, "template": {}}
    design = read_declarations([text(declared)])
    [step] = expand(design, is_deletion=False, default_namespace="other").steps
    assert step.objects[0]["metadata"] == {"name": "vm", "namespace": "shop"}
    assert step.objects[0]["spec"] == {"template": {}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"settings": {"spec": {}, "hosts": []}}, "have 'hosts' beside spec"),
        ({"settings": {"spec": []}}, "its spec is not a mapping"),
        ({"settings": {"spec": {"spec": "x"}}}, "its spec is not a mapping"),
        ({"name": "My Service"}, "VirtualService 'My Service': its name cannot be an object's"),
        ({"name": "a/b"}, "its name cannot be an object's"),
        ({"name": ".."}, "its name cannot be an object's"),
        ({"name": "a" * 254}, "its name cannot be an object's"),
        ({"name": "ä"}, "its name cannot be an object's"),
        ({"namespace": "a/b"}, "'a/b' is not a namespace's name"),
        ({"apiVersion": "x y"}, "'x y' is not an api version"),
        ({"apiVersion": "", "type": "Ufo"}, "Ufo 'reviews': it has no api version"),
        ({"type": "A B"}, "'A B' is not a kind"),
    ],
)
def test_what_makes_no_object(fields: dict[str, Any], expected: str) -> None:
    assert expected in refusal(**service(**fields))


# --- prettified keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("cors Policy", "corsPolicy"),
        ("match Labels", "matchLabels"),
        ("Match Labels", "matchLabels"),
        ("port Level Mtls", "portLevelMtls"),
        ("external I Ps", "externalIPs"),
        ("cluster IP", "clusterIP"),
        ("CA Bundle", "caBundle"),
        ("TLS Mode", "tlsMode"),
        ("http2Max Requests", "http2MaxRequests"),
        ("hosts", "hosts"),
        ("my key", "my key"),
        ("My key", "My key"),
        ("a  B", "a  B"),
        (" a", " a"),
        ("x-a B", "x-a B"),
        ("", ""),
    ],
)
def test_plain_key(key: str, expected: str) -> None:
    assert plain_key(key) == expected


# Prettified settings, and what they mean.
PRETTIFIED: dict[str, tuple[Any, Any]] = {
    "nested and in lists": (
        {"http": [{"cors Policy": {"allow Origins": [{"exact": "A B"}]}}]},
        {"http": [{"corsPolicy": {"allowOrigins": [{"exact": "A B"}]}}]},
    ),
    "labels below a prettified key": (
        {"selector": {"match Labels": {"my Key": "x"}}},
        {"selector": {"matchLabels": {"my Key": "x"}}},
    ),
    "labels and annotations": (
        {"template": {"metadata": {"labels": {"a B": "1"}, "annotations": {"c D": "1"}}}},
        {"template": {"metadata": {"labels": {"a B": "1"}, "annotations": {"c D": "1"}}}},
    ),
    "data": ({"data": {"my Key": "x"}}, {"data": {"my Key": "x"}}),
    "string Data": ({"string Data": {"my Key": "x"}}, {"stringData": {"my Key": "x"}}),
    "headers to match": (
        {"http": [{"match": [{"headers": {"x Y": {"exact": "1"}}}]}]},
        {"http": [{"match": [{"headers": {"x Y": {"exact": "1"}}}]}]},
    ),
    "headers to set": (
        {"headers": {"request": {"set": {"x Y": "1"}}}},
        {"headers": {"request": {"set": {"x Y": "1"}}}},
    ),
    "a patch of an EnvoyFilter": (
        {"config Patches": [{"apply To": "X", "patch": {"value": {"a B": {"c D": 1}}}}]},
        {"configPatches": [{"applyTo": "X", "patch": {"value": {"a B": {"c D": 1}}}}]},
    ),
    "configuration of a plugin": (
        {"plugin Config": {"a B": {"c D": 1}}},
        {"pluginConfig": {"a B": {"c D": 1}}},
    ),
    "fields below a user's key": (
        {"custom Tags": {"my Tag": {"environment": {"default Value": "x"}}}},
        {"customTags": {"my Tag": {"environment": {"defaultValue": "x"}}}},
    ),
    "texts named value and values": (
        {"when": [{"key": "a", "values": ["A B"], "not Values": ["x"]}]},
        {"when": [{"key": "a", "values": ["A B"], "notValues": ["x"]}]},
    ),
}


@pytest.mark.parametrize("case", PRETTIFIED)
def test_prettified_keys(case: str) -> None:
    settings, expected = PRETTIFIED[case]
    twice: list[str] = []
    assert plain(settings, twice=twice.append) == expected
    assert twice == []


def test_prettified_settings_become_an_object() -> None:
    obj = built(type="VirtualService", settings={"http": [{"cors Policy": {"max Age": "1s"}}]})
    assert obj["spec"] == {"http": [{"corsPolicy": {"maxAge": "1s"}}]}


# --- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "model", "settings", "expected"),
    [
        ("VirtualService", "", {}, "networking.istio.io/v1"),
        ("EnvoyFilter", "", {}, "networking.istio.io/v1alpha3"),
        ("ProxyConfig", "", {}, "networking.istio.io/v1beta1"),
        ("PeerAuthentication", "", {}, "security.istio.io/v1"),
        ("Telemetry", "", {}, "telemetry.istio.io/v1"),
        ("WasmPlugin", "", {}, "extensions.istio.io/v1alpha1"),
        ("Gateway", "", {"servers": []}, "networking.istio.io/v1"),
        ("Gateway", "istio", {}, "networking.istio.io/v1"),
        ("Gateway", "gateway-api", {}, "gateway.networking.k8s.io/v1"),
        ("Gateway", "", {"gatewayClassName": "istio"}, "gateway.networking.k8s.io/v1"),
        ("Gateway", "", {"spec": {"gatewayClassName": "x"}}, "gateway.networking.k8s.io/v1"),
        ("TCPRoute", "", {"matches": {}}, "specs.smi-spec.io/v1alpha4"),
        ("TCPRoute", "", {"spec": {"rules": []}}, "gateway.networking.k8s.io/v1"),
        ("HTTPRoute", "", {}, "gateway.networking.k8s.io/v1"),
        ("TrafficTarget", "", {}, "access.smi-spec.io/v1alpha3"),
        ("Service", "", {}, "v1"),
        ("Deployment", "", {}, "apps/v1"),
        ("CronJob", "", {}, "batch/v1"),
        ("ClusterRole", "", {}, "rbac.authorization.k8s.io/v1"),
        ("NetworkPolicy", "", {}, "networking.k8s.io/v1"),
        ("Ufo", "", {}, ""),
    ],
)
def test_api_version_of(kind: str, model: str, settings: dict[str, Any], expected: str) -> None:
    assert api_version_of(kind, model=model, settings=settings) == expected


def test_what_a_component_says_of_its_version_wins() -> None:
    assert built(type="Gateway", apiVersion="gateway.networking.k8s.io/v1beta1")["apiVersion"] == (
        "gateway.networking.k8s.io/v1beta1"
    )
    assert built(type="/Service", apiVersion="/v1")["apiVersion"] == "v1"


def test_cluster_scoped_objects_have_no_namespace() -> None:
    for kind in ("Namespace", "ClusterRole", "GatewayClass", "CustomResourceDefinition"):
        assert built(type=kind)["metadata"] == {"name": "a"}
    assert built(type="Role", namespace="")["metadata"] == {"name": "a", "namespace": "other"}


def test_a_kind_of_another_group_is_not_taken_for_the_known_one() -> None:
    assert not is_cluster_scoped("example.org/v1", "Namespace")
    assert not has_only_spec("example.org/v1", "VirtualService")
    assert has_only_spec("networking.istio.io/v1alpha3", "VirtualService")
    foreign = built(type="Gateway", apiVersion="example.org/v1", settings={"a": 1, "spec": {}})
    assert without_identity(foreign) == {"a": 1, "spec": {}}


def test_every_component_is_judged_before_anything_is_refused() -> None:
    design = read_design(plain_services(a={"type": "Ufo"}, b={"name": "b c"}, c={}))
    with pytest.raises(DesignMalformed) as caught:
        expand(design, is_deletion=False, default_namespace="other")
    assert "Ufo 'a'" in caught.value.summary
    assert "ConfigMap 'b c'" in caught.value.summary
