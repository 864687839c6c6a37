"""Properties: no input ends in a raw exception, order respects dependencies, all is repeatable."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import DesignMalformed
from services.translator.designs import (
    Design,
    Expansion,
    expand,
    read_declarations,
    read_design,
    read_oam,
)
from services.translator.designs.settings import plain
from tests.unit.translator.designs.samples import (
    configuration,
    definition,
    definitions,
    oam,
    plain_services,
    service,
    services,
)

_KEYS = [
    "annotations",
    "apiVersion",
    "component",
    "components",
    "configuration",
    "connection",
    "dependsOn",
    "displayName",
    "id",
    "isAnnotation",
    "kind",
    "labels",
    "meshmap",
    "metadata",
    "model",
    "modelReference",
    "mTLS",
    "name",
    "namespace",
    "namespaces",
    "policy",
    "profile",
    "properties",
    "schemaVersion",
    "services",
    "settings",
    "spec",
    "tags",
    "traits",
    "type",
    "version",
    "automaticSidecarInjection",
    "componentName",
    "revision",
    "cors Policy",
]
_WORDS = [
    "VirtualService",
    "IstioMesh",
    "Namespace",
    "GrafanaIstioAddon",
    "ConfigMap",
    "PeerAuthentication",
    "strict",
    "a",
    "b",
    "networking.istio.io/v1",
    "v1",
    "1.31.0",
    "designs.meshery.io/v1beta1",
    "Component",
    "true",
]

json_texts = st.one_of(st.sampled_from(_WORDS), st.text(max_size=8))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), json_texts, st.just("\ud800")
)
json_keys = st.one_of(st.sampled_from(_KEYS), st.text(max_size=6))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(json_keys, inner, max_size=5)
    ),
    max_leaves=12,
)


def component_like(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings that have most of the fields, each right or wrong."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values))


service_like = component_like(
    "type", "name", "apiVersion", "namespace", "settings", "traits", "dependsOn", "labels", "id"
)
definition_like = component_like(
    "displayName", "component", "configuration", "metadata", "model", "modelReference", "traits"
)
oam_like = component_like("kind", "metadata", "spec")
documents = st.one_of(
    values,
    st.fixed_dictionaries(
        {"services": st.dictionaries(json_texts, st.one_of(service_like, values), max_size=4)}
    ),
    st.fixed_dictionaries(
        {
            "schemaVersion": st.sampled_from(["designs.meshery.io/v1beta1", "designs.meshery.io/"]),
            "components": st.one_of(st.lists(definition_like, max_size=4), values),
        },
        optional={"name": values},
    ),
)


def as_text(value: Any) -> str:
    """As JSON; a value that has no JSON form is told as Python tells it, which is no JSON."""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError):
        return repr(value)


def expand_both(design: Design) -> None:
    for is_deletion in (False, True):
        expansion = expand(design, is_deletion=is_deletion, default_namespace="shop")
        for step in expansion.steps:
            assert step.title
            step.model_dump_json()
        assert all(str(line) for line in expansion.lines)


@given(documents)
def test_any_document_is_a_design_or_refused(document: Any) -> None:
    with contextlib.suppress(DesignMalformed):
        expand_both(read_design(document))


@given(st.lists(st.one_of(definition_like, oam_like, values).map(as_text), max_size=4))
def test_any_declarations_are_a_design_or_refused(texts: list[str]) -> None:
    with contextlib.suppress(DesignMalformed):
        expand_both(read_declarations(texts))


@given(
    st.lists(st.one_of(oam_like, values).map(as_text), max_size=4),
    st.one_of(oam_like, values).map(as_text),
)
def test_any_oam_is_a_design_or_refused(components: list[str], config: str) -> None:
    with contextlib.suppress(DesignMalformed):
        expand_both(read_oam(components, config))


@given(st.text(), st.text())
def test_any_text_is_a_design_or_refused(first: str, second: str) -> None:
    with contextlib.suppress(DesignMalformed):
        read_oam([first], second)
    with contextlib.suppress(DesignMalformed):
        read_declarations([first, second])


# --- sound designs, damaged in a few places ------------------------------------------------------

_TRAITS = {
    "mTLS": {"policy": "strict", "namespaces": ["a", "b"]},
    "automaticSidecarInjection": {"namespaces": ["a"]},
    "meshmap": {"id": "i", "meshmodel-metadata": {"isAnnotation": False}},
}
_MESH = {"profile": "demo", "revision": "r", "tags": ["t"], "readinessTimeoutSeconds": 9}
SOUND: list[Any] = [
    services(
        mesh=service(name="mesh", type="IstioMesh", apiVersion="", settings=_MESH, traits=_TRAITS),
        grafana=service(name="grafana", type="GrafanaIstioAddon", apiVersion="", settings={}),
        reviews=service(dependsOn=["mesh", "grafana"]),
        note=service(name="note", isAnnotation=True),
    ),
    definitions(
        definition("mesh", "IstioMesh", "core.meshmodel.dev/v1alpha1", configuration=_MESH),
        definition(metadata={"dependsOn": ["id-mesh"]}),
    ),
]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = list(enumerate(value))
    return [path, *(place for key, part in parts for place in places_in(part, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn, sound: Any) -> Any:
    """`sound` with up to two of its values replaced by any other."""
    document = copy.deepcopy(sound)
    for _ in range(draw(st.integers(min_value=0, max_value=2))):
        *way, last = draw(st.sampled_from(places_in(document)[1:]))
        target = document
        for key in way:
            target = target[key]
        target[last] = draw(values)
    return document


@given(st.sampled_from(SOUND).flatmap(damaged))
def test_a_damaged_design_is_a_design_or_refused(document: Any) -> None:
    with contextlib.suppress(DesignMalformed):
        expand_both(read_design(document))


@given(damaged(definition()))
def test_a_damaged_declaration_is_a_design_or_refused(declaration: Any) -> None:
    with contextlib.suppress(DesignMalformed):
        expand_both(read_declarations([as_text(declaration)]))


@given(damaged(orjson.loads(oam())), damaged(orjson.loads(configuration(**_TRAITS))))
def test_damaged_oam_is_a_design_or_refused(component: Any, config: Any) -> None:
    with contextlib.suppress(DesignMalformed):
        expand_both(read_oam([as_text(component)], as_text(config)))


def test_the_sound_ones_are_designs() -> None:
    for document in SOUND:
        expand_both(read_design(document))
        assert expand(read_design(document), is_deletion=False, default_namespace="x").steps


# --- order ---------------------------------------------------------------------------------------

kinds = st.sampled_from(["ConfigMap", "Namespace", "IstioMesh", "VirtualService"])


@st.composite
def ordered_designs(draw: st.DrawFn) -> dict[str, Any]:
    """Designs without circles: each component depends on some of those before it, shuffled."""
    count = draw(st.integers(min_value=1, max_value=12))
    components: dict[str, dict[str, Any]] = {}
    for number in range(count):
        before = st.sampled_from([f"c{n}" for n in range(number)]) if number else st.nothing()
        components[f"c{number}"] = {
            "type": draw(kinds),
            "settings": {},
            "dependsOn": draw(st.lists(before, max_size=4)) if number else [],
            "isAnnotation": draw(st.booleans()) and draw(st.booleans()),
            "traits": draw(
                st.sampled_from([{}, {"automaticSidecarInjection": {"namespaces": [f"n{number}"]}}])
            ),
        }
        if components[f"c{number}"]["type"] == "IstioMesh":
            components[f"c{number}"]["settings"] = {"revision": f"r{number}"}
    names = draw(st.permutations(list(components)))
    return plain_services(**{name: components[name] for name in names})


def places(expansion: Expansion) -> dict[str, int]:
    """Level of each component, and of each trait's namespace."""
    return {
        (step.namespace or step.title.rpartition(" ")[2].rpartition("/")[2]): level
        for level, steps in enumerate(expansion.levels)
        for step in steps
    }


@given(ordered_designs())
def test_order_respects_every_dependency(document: dict[str, Any]) -> None:
    applied = places(expand(read_design(document), is_deletion=False, default_namespace="shop"))
    deleted = places(expand(read_design(document), is_deletion=True, default_namespace="shop"))
    components = document["services"]
    assert set(applied) == set(deleted)
    assert applied.keys() & components.keys() == {
        name for name, component in components.items() if not component["isAnnotation"]
    }
    for name in applied.keys() & components.keys():
        for other in _needs(name, components):
            if other in applied:
                assert applied[other] < applied[name]
                assert deleted[other] > deleted[name]
        trait = "n" + name[1:]
        if trait in applied:
            assert applied[trait] > applied[name]
            assert deleted[trait] < deleted[name]


def _needs(name: str, components: dict[str, Any]) -> set[str]:
    """What a component needs, through drawings as well."""
    needs: set[str] = set()
    pending = [name]
    while pending:
        for other in components[pending.pop()]["dependsOn"]:
            if other not in needs:
                needs.add(other)
                pending.append(other)
    return needs


@given(ordered_designs())
def test_expanding_is_repeatable_and_changes_nothing(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    first = expand(read_design(document), is_deletion=False, default_namespace="shop")
    second = expand(read_design(document), is_deletion=False, default_namespace="shop")
    assert first == second
    assert document == before


blankless = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), json_texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(json_keys.filter(lambda key: " " not in key), inner, max_size=5),
    ),
    max_leaves=20,
)


@given(blankless)
def test_settings_without_blanks_are_left_alone(value: Any) -> None:
    twice: list[str] = []
    assert plain(value, twice=twice.append) == value
    assert twice == []
