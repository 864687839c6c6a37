"""Expansion: the order of steps, the mesh and its add-ons, traits, and what is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.chassis.errors import DesignMalformed
from services.chassis.messages import Step, StepKind
from services.lifecycle.mesh.requests import parse_request
from services.translator.designs import Expansion, expand, read_declarations, read_design, read_oam
from tests.unit.translator.designs.samples import (
    configuration,
    definition,
    definitions,
    oam,
    plain_services,
    services,
    text,
)


def expanded(**components: Any) -> Expansion:
    """A v1alpha2 design of ConfigMaps, or of what the fields say, to apply."""
    design = read_design(plain_services(**components))
    return expand(design, is_deletion=False, default_namespace="shop")


def removed(**components: Any) -> Expansion:
    """As `expanded`, to delete."""
    design = read_design(plain_services(**components))
    return expand(design, is_deletion=True, default_namespace="shop")


def refusal(**components: Any) -> str:
    with pytest.raises(DesignMalformed) as caught:
        expanded(**components)
    return caught.value.summary


def names(expansion: Expansion) -> list[list[str]]:
    """Titles by level, without kind and namespace."""
    return [[step.title.rpartition("/")[2] for step in level] for level in expansion.levels]


def titles(expansion: Expansion) -> list[str]:
    return [step.title for step in expansion.steps]


# --- order ---------------------------------------------------------------------------------------


def test_independent_components_are_one_level_in_the_designs_order() -> None:
    expansion = expanded(b={}, a={}, c={})
    assert titles(expansion) == ["ConfigMap shop/b", "ConfigMap shop/a", "ConfigMap shop/c"]
    assert len(expansion.levels) == 1


def test_a_component_comes_after_all_that_it_depends_on() -> None:
    expansion = expanded(
        top={"dependsOn": ["left", "right"]},
        left={"dependsOn": ["base"]},
        right={"dependsOn": ["left"]},
        base={},
        other={},
    )
    assert names(expansion) == [["base", "other"], ["left"], ["right"], ["top"]]
    deletion = removed(
        top={"dependsOn": ["left", "right"]},
        left={"dependsOn": ["base"]},
        right={"dependsOn": ["left"]},
        base={},
        other={},
    )
    assert names(deletion) == [["top"], ["right"], ["left"], ["other", "base"]]
    assert all(step.is_deletion for step in deletion.steps)


def test_a_hundred_components_in_a_chain() -> None:
    chain = {f"c{n}": {"dependsOn": [f"c{n + 1}"]} for n in range(99)} | {"c99": {}}
    forward = [f"c{n}" for n in reversed(range(100))]
    assert names(expanded(**chain)) == [[name] for name in forward]
    assert names(removed(**chain)) == [[name] for name in reversed(forward)]


def test_references_by_id_key_and_name() -> None:
    first = definition("one", metadata={"dependsOn": ["id-two", "three"]})
    design = read_design(definitions(first, definition("two"), definition("three")))
    expansion = expand(design, is_deletion=False, default_namespace="shop")
    assert names(expansion) == [["two", "three"], ["one"]]
    assert names(expanded(k1={"name": "a", "dependsOn": ["k2"]}, k2={"name": "b"})) == [
        ["b"],
        ["a"],
    ]


def test_a_name_of_several_means_all_of_them_but_itself() -> None:
    expansion = expanded(
        k1={"name": "web", "type": "Deployment", "dependsOn": ["web"]},
        k2={"name": "web", "type": "Service"},
        k3={"name": "web", "type": "ServiceAccount"},
    )
    assert [[step.title for step in level] for level in expansion.levels] == [
        ["Service shop/web", "ServiceAccount shop/web"],
        ["Deployment shop/web"],
    ]


def test_an_unknown_reference_is_told_and_forgotten() -> None:
    expansion = expanded(a={"dependsOn": ["ghost"]})
    assert titles(expansion) == ["ConfigMap shop/a"]
    assert [str(line) for line in expansion.lines] == [
        "dependency of ConfigMap 'a' on 'ghost' was left out (the design has no such component)"
    ]


def test_circles_are_refused_with_their_members() -> None:
    assert "ConfigMap 'a' → ConfigMap 'a'" in refusal(a={"dependsOn": ["a"]})
    text = refusal(
        outside={"dependsOn": ["a"]},
        a={"dependsOn": ["b"]},
        b={"dependsOn": ["c"]},
        c={"dependsOn": ["a"]},
    )
    assert "in a circle: ConfigMap 'a' → ConfigMap 'b' → ConfigMap 'c' → ConfigMap 'a'" in text
    assert "outside" not in text


def test_a_long_circle_is_cut() -> None:
    circle = {f"c{n}": {"dependsOn": [f"c{(n + 1) % 500}"]} for n in range(500)}
    assert "481 more → ConfigMap 'c0'" in refusal(**circle)


def test_what_others_stand_on_comes_first() -> None:
    expansion = expanded(
        route={"type": "VirtualService"},
        widget={"type": "CustomResourceDefinition", "name": "widgets.example.org"},
        mesh={"type": "IstioMesh"},
        config={},
        shop={"type": "Namespace"},
    )
    assert names(expansion) == [
        ["Namespace shop"],
        ["CustomResourceDefinition widgets.example.org"],
        ["IstioMesh mesh"],
        ["route", "config"],
    ]


def test_what_the_user_drew_is_stronger() -> None:
    expansion = expanded(config={}, mesh={"type": "IstioMesh", "dependsOn": ["config"]}, other={})
    assert names(expansion) == [["config"], ["IstioMesh mesh"], ["other"]]


def test_drawings_are_told_and_keep_the_order() -> None:
    expansion = expanded(
        top={"dependsOn": ["box"]}, box={"isAnnotation": True, "dependsOn": ["base"]}, base={}
    )
    assert names(expansion) == [["base"], ["top"]]
    assert [str(line) for line in expansion.lines] == [
        "ConfigMap 'box' was left out (a drawing on the canvas)"
    ]


def test_identical_twins_are_one_object() -> None:
    expansion = expanded(
        k1={"name": "a", "dependsOn": ["base"]},
        k2={"name": "a"},
        base={},
        top={"dependsOn": ["k2"]},
    )
    # What depends on the twin waits for the object.
    assert names(expansion) == [["base"], ["a"], ["top"]]
    assert [str(line) for line in expansion.lines] == [
        "ConfigMap 'a' was left out (ConfigMap shop/a is the same object as that of ConfigMap 'a')"
    ]


def test_two_components_for_one_object_with_other_content_are_refused() -> None:
    twins = {
        "k1": {"name": "a", "settings": {"data": {"x": "1", "y": "1"}}},
        "k2": {"name": "a", "settings": {"data": {"x": "2", "y": "1"}}},
    }
    told = "ConfigMap 'a': ConfigMap shop/a comes from ConfigMap 'a', too, with another data.x"
    assert told in refusal(**twins)
    apart = expanded(k1={"name": "a"}, k2={"name": "a", "namespace": "other"})
    assert titles(apart) == ["ConfigMap shop/a", "ConfigMap other/a"]


def test_an_empty_design_has_no_steps() -> None:
    empty = expand(read_design(definitions()), is_deletion=False, default_namespace="shop")
    assert empty == Expansion()
    assert empty.steps == ()


# --- the mesh and its add-ons --------------------------------------------------------------------


def mesh_step(**fields: Any) -> Step:
    [step] = expanded(mesh={"type": "IstioMesh"} | fields).steps
    return step


@pytest.mark.parametrize("profile", ["default", "demo", "minimal", "ambient"])
def test_a_mesh_has_the_profile_that_it_names(profile: str) -> None:
    step = mesh_step(settings={"profile": profile})
    assert (step.kind, step.title, step.objects) == (StepKind.MESH, "IstioMesh mesh", [])
    assert parse_request(step.body).profile == profile


def test_a_mesh_without_settings_is_the_default_one() -> None:
    step = mesh_step(settings=None)
    assert parse_request(step.body) == parse_request("")
    assert step.version == ""


def test_lifecycle_takes_what_a_mesh_says() -> None:
    settings = {
        "profile": "demo",
        "revision": "canary",
        "tags": ["prod"],
        "readinessTimeoutSeconds": 60,
    }
    for shape in (settings, {"spec": settings}, {"spec": settings, "metadata": {}}):
        request = parse_request(mesh_step(settings=shape).body)
        assert (request.profile, request.revision, request.tags) == ("demo", "canary", ("prod",))
        assert request.readiness_timeout == timedelta(seconds=60)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"version": "1.30.2"}, "1.30.2"),
        ({"version": "1.30.2", "settings": {"version": "1.31.0"}}, "1.31.0"),
        ({"settings": {"version": "v1.31.0"}}, "1.31.0"),
        ({"settings": {"spec": {"version": "1.31.0-rc.1"}}}, "1.31.0-rc.1"),
        ({"version": "v1.0.0"}, ""),
        ({}, ""),
    ],
)
def test_the_version_of_a_mesh(fields: dict[str, Any], expected: str) -> None:
    assert mesh_step(**fields).version == expected


def test_a_mesh_of_each_generation() -> None:
    declared = definition("mesh", "IstioMesh", "core.meshmodel.dev/v1alpha1")
    declared["configuration"] = {"spec": {"profile": "demo"}}
    for design in (
        read_declarations([text(declared)]),
        read_oam([oam(type="IstioMesh", settings={"profile": "demo"})], ""),
    ):
        [step] = expand(design, is_deletion=True, default_namespace="shop").steps
        assert (step.kind, step.version, step.is_deletion) == (StepKind.MESH, "1.16.0", True)
        assert parse_request(step.body).profile == "demo"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"profile": 1}, "settings.profile is not a name"),
        ({"profile": "Demo!"}, "settings.profile is not a name"),
        ({"revision": ["a"]}, "settings.revision is not a name"),
        ({"tags": "prod"}, "settings.tags is not a list"),
        ({"tags": ["A"]}, "settings.tags is not a list"),
        ({"readinessTimeoutSeconds": True}, "readinessTimeoutSeconds is not 1 to 3600"),
        ({"readinessTimeoutSeconds": 0}, "readinessTimeoutSeconds is not 1 to 3600"),
        ({"version": "latest"}, "settings.version is not a version such as '1.31.0'"),
        ({"spec": "demo"}, "settings.spec is not a mapping"),
    ],
)
def test_what_a_mesh_may_not_say(settings: dict[str, Any], expected: str) -> None:
    assert expected in refusal(mesh={"type": "IstioMesh", "settings": settings})


def test_what_a_mesh_says_in_vain_is_told() -> None:
    expansion = expanded(
        mesh={"type": "IstioMesh", "namespace": "mesh", "settings": {"values": {}, "x": 1}}
    )
    assert [line.source for line in expansion.lines] == [
        "settings 'values', 'x' of IstioMesh 'mesh'",
        "namespace of IstioMesh 'mesh'",
    ]


def test_two_meshes_of_one_revision_are_refused() -> None:
    mesh = {"type": "IstioMesh"}
    assert "IstioMesh b comes from IstioMesh 'a', too" in refusal(a=mesh, b=mesh)
    canary = mesh | {"settings": {"revision": "canary"}}
    assert len(expanded(a=mesh, b=canary).steps) == 2


def test_a_mesh_of_somebody_elses_is_an_object() -> None:
    [step] = expanded(mesh={"type": "IstioMesh", "apiVersion": "servicemesh.example.org/v1"}).steps
    assert step.kind is StepKind.MANIFEST


@pytest.mark.parametrize("name", ["grafana", "jaeger", "kiali", "prometheus", "zipkin"])
def test_add_ons_are_lifecycles_operations(name: str) -> None:
    addon = {"type": f"{name.title()}IstioAddon", "apiVersion": "core.meshmodel.dev/v1alpha1"}
    first, second = expanded(a=addon, mesh={"type": "IstioMesh"}).steps
    assert first.kind is StepKind.MESH
    assert second == Step(
        title=f"{name.title()}IstioAddon a",
        kind=StepKind.APPLICATION,
        name=f"{name}-addon",
        namespace="istio-system",
    )


def test_smi_objects_stay_as_they_are() -> None:
    [step] = expanded(split={"type": "TrafficSplit", "settings": {"service": "a"}}).steps
    assert step.kind is StepKind.MANIFEST
    assert step.objects[0]["apiVersion"] == "split.smi-spec.io/v1alpha4"


# --- traits --------------------------------------------------------------------------------------


def with_traits(**traits: Any) -> Expansion:
    return expanded(a={"traits": traits})


@pytest.mark.parametrize(
    ("policy", "mode"),
    [
        ("mutual", "PERMISSIVE"),
        ("permissive", "PERMISSIVE"),
        ("strict", "STRICT"),
        ("STRICT", "STRICT"),
        ("disable", "DISABLE"),
    ],
)
def test_mtls_is_a_policy_of_each_namespace(policy: str, mode: str) -> None:
    expansion = with_traits(mTLS={"policy": policy, "namespaces": ["a", "b", "a"]})
    own, *policies = expansion.steps
    assert own.title == "ConfigMap shop/a"
    assert [step.objects[0]["kind"] for step in policies] == ["PeerAuthentication"] * 2
    assert [step.objects[0]["metadata"]["namespace"] for step in policies] == ["a", "b"]
    assert all(step.objects[0]["spec"] == {"mtls": {"mode": mode}} for step in policies)
    # The other modes of the same namespace must not stay beside it.
    assert {obj["metadata"]["namespace"] for obj in policies[0].obsolete} == {"a"}
    assert len({str(obj["metadata"]["name"]) for obj in policies[0].obsolete}) == 2


def test_injection_is_a_step_of_each_namespace() -> None:
    expansion = with_traits(**{"automaticSidecarInjection.Istio": {"namespaces": ["a", "b"]}})
    assert [(step.kind, step.namespace, step.body) for step in expansion.steps[1:]] == [
        (StepKind.INJECTION, "a", ""),
        (StepKind.INJECTION, "b", ""),
    ]


def test_injection_by_a_mesh_with_a_revision_names_it() -> None:
    [_, step] = expanded(
        mesh={
            "type": "IstioMesh",
            "settings": {"revision": "canary"},
            "traits": {"automaticSidecarInjection": {"namespaces": ["a"]}},
        }
    ).steps
    assert parse_request(step.body).revision == "canary"


def test_traits_of_processoam_are_steps() -> None:
    strict = configuration(mTLS={"policy": "strict", "namespaces": ["shop"]}, meshmap={})
    design = read_oam([oam(type="IstioMesh", settings={})], strict)
    expansion = expand(design, is_deletion=False, default_namespace="default")
    assert [step.kind for step in expansion.steps] == [StepKind.MESH, StepKind.MANIFEST]
    assert [line.source for line in expansion.lines] == [
        "namespace of IstioMesh 'reviews'",
        "trait 'meshmap' of 'reviews'",
    ]


def test_dependents_wait_for_traits() -> None:
    injected = {"automaticSidecarInjection": {"namespaces": ["shop"]}}
    components: dict[str, dict[str, Any]] = {
        "app": {"dependsOn": ["mesh"]},
        "mesh": {"type": "IstioMesh", "traits": injected},
    }
    order = ["IstioMesh mesh", "sidecar injection of shop", "ConfigMap shop/app"]
    assert titles(expanded(**components)) == order
    assert titles(removed(**components)) == order[::-1]


def test_unknown_traits_are_told_once() -> None:
    expansion = expanded(**{f"c{n}": {"traits": {"meshmap": {"x": 1}, "odd": 1}} for n in range(5)})
    assert [(line.source, line.note) for line in expansion.lines] == [
        ("trait 'meshmap' of 'c0', 'c1', 'c2' and 2 more", "position data"),
        ("trait 'odd' of 'c0', 'c1', 'c2' and 2 more", "no trait of this name means anything here"),
    ]


@pytest.mark.parametrize(
    "properties", [None, {}, {"namespaces": None}, {"policy": "strict", "namespaces": []}]
)
def test_a_trait_without_a_namespace_is_told(properties: Any) -> None:
    expansion = with_traits(mTLS=properties)
    assert titles(expansion) == ["ConfigMap shop/a"]
    assert [line.note for line in expansion.lines] == ["it names no namespace"]


@pytest.mark.parametrize(
    ("trait", "properties", "expected"),
    [
        ("mTLS", {"policy": "x", "namespaces": ["a"]}, "policy: 'x' is none of disable"),
        ("mTLS", {"policy": "x"}, "policy: 'x' is none of disable"),
        ("mTLS", {"namespaces": ["a"]}, "policy: it is none of disable"),
        ("mTLS", {"policy": ["strict"], "namespaces": ["a"]}, "policy: it is none of"),
        ("mTLS", {"policy": "strict", "namespaces": "a"}, "namespaces is not a list"),
        ("mTLS", {"policy": "strict", "namespaces": [1]}, "namespaces is not a list"),
        (
            "mTLS",
            {"policy": "strict", "namespaces": ["a/b"]},
            "namespaces: 'a/b' is not a namespace's",
        ),
        ("automaticSidecarInjection", {"namespaces": {}}, "namespaces is not a list"),
        ("automaticSidecarInjection", {"namespaces": [""]}, "namespaces: '' is not a name"),
        ("automaticSidecarInjection", {"namespaces": ["a"] * 101}, "namespaces has more than 100"),
    ],
)
def test_what_a_trait_may_not_say(trait: str, properties: Any, expected: str) -> None:
    text = refusal(a={"traits": {trait: properties}})
    assert f"ConfigMap 'a': traits.{trait}.{expected}" in text


def test_the_same_trait_twice_is_one_step() -> None:
    strict = {"mTLS": {"policy": "strict", "namespaces": ["a"]}}
    assert len(expanded(a={"traits": strict}, b={"traits": strict}).steps) == 3


def test_traits_that_contradict_are_refused() -> None:
    traits = [{"mTLS": {"policy": p, "namespaces": ["n"]}} for p in ("strict", "mutual")]
    text = refusal(a={"traits": traits[0]}, b={"traits": traits[1]})
    assert "ConfigMap 'b': PeerAuthentication n/" in text
    assert "contradicts PeerAuthentication n/" in text


def test_a_design_of_only_traits_and_drawings() -> None:
    design = read_design(services(a={"type": "Comment", "isAnnotation": True, "traits": {}}))
    assert expand(design, is_deletion=False, default_namespace="shop").steps == ()
