"""Reading: every generation as the same components, what is dropped, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from services.chassis.errors import DesignMalformed
from services.translator.designs import (
    Design,
    expand,
    is_design,
    read_declarations,
    read_design,
    read_oam,
)
from tests.unit.translator.designs.samples import (
    CANARIES,
    NOTED,
    ROUTES,
    VIRTUAL_SERVICE,
    ZERO_CONFIGURATION,
    configuration,
    definition,
    definitions,
    model,
    oam,
    plain_services,
    registrant,
    service,
    services,
    text,
)


def objects_of(design: Design) -> list[dict[str, Any]]:
    expansion = expand(design, is_deletion=False, default_namespace="other")
    return [obj for step in expansion.steps for obj in step.objects]


# The same VirtualService in every form that reaches an adapter.
FORMS: dict[str, Callable[[], Design]] = {
    "v1alpha2, settings are the spec": lambda: read_design(services(reviews=service())),
    "v1alpha2, settings have a spec": lambda: read_design(
        services(reviews=service(settings={"spec": ROUTES, "status": {}}))
    ),
    "v1alpha2, keyed by id": lambda: read_design(services(**{"id-1": service()})),
    "v1beta1": lambda: read_design(definitions(definition())),
    "v1beta2": lambda: read_design(
        definitions(definition(generation="v1beta2"), generation="v1beta2")
    ),
    "v1beta3 with components of v1beta2": lambda: read_design(
        definitions(definition(generation="v1beta2"), generation="v1beta3")
    ),
    "declaration of v1beta1": lambda: read_declarations([text(definition())]),
    "declaration of v1beta3": lambda: read_declarations([text(definition(generation="v1beta3"))]),
    "declaration, configuration is the spec": lambda: read_declarations(
        [
            text(
                definition(
                    configuration={"metadata": definition()["configuration"]["metadata"], **ROUTES}
                )
            )
        ]
    ),
    "declaration that is an OAM component": lambda: read_declarations([oam(annotations=NOTED)]),
    "OAM with annotations": lambda: read_oam([oam(annotations=NOTED)], ZERO_CONFIGURATION),
    "OAM with annotations, settings have a spec": lambda: read_oam(
        [oam(annotations=NOTED, settings={"spec": ROUTES})], ""
    ),
    "OAM, spec.spec of the older adapter": lambda: read_oam(
        [oam(annotations=NOTED, settings={"spec": {"spec": ROUTES}})], "null"
    ),
    "OAM of the first era": lambda: read_oam(
        [
            oam(
                annotations={
                    "pattern.meshery.io.k8s.k8sAPIVersion": "networking.istio.io/v1alpha3",
                    "pattern.meshery.io.k8s.k8sKind": "VirtualService",
                    "owner": "team-a",
                },
                type="VirtualService.Istio",
            )
        ],
        "{}",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_generation_gives_the_same_object(form: str) -> None:
    assert objects_of(FORMS[form]()) == [VIRTUAL_SERVICE]


def test_oam_without_annotations_gets_the_kind_from_its_type() -> None:
    [obj] = objects_of(read_oam([oam(type="VirtualService.Istio")], ZERO_CONFIGURATION))
    assert (obj["apiVersion"], obj["kind"]) == ("networking.istio.io/v1", "VirtualService")
    assert "annotations" not in obj["metadata"]


def test_what_a_component_keeps() -> None:
    [component] = read_design(services(one=service(dependsOn=["two"]))).components
    assert (component.name, component.kind) == ("reviews", "VirtualService")
    assert (component.model, component.model_version) == ("istio", "1.16.0")
    assert component.depends_on == ("two",)
    assert component.ids == ("id-reviews", "one")
    assert component.labels == {"tier": "front"}
    assert component.annotations == {"owner": "team-a"}
    assert component.traits == {"meshmap": {}}


def test_names_of_designs() -> None:
    assert read_design(definitions()).name == "shop"
    assert read_design(services(reviews=service())).name == "shop"
    assert read_oam([oam()], configuration()).name == "shop"
    assert read_declarations([text(definition())]).name == "shop"


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("model", model("istio", "1.31.0"), ("istio", "1.31.0")),
        ("model", None, ("gateway-api", "1.6.0")),
    ],
)
def test_the_version_of_the_software_counts_not_the_definitions(
    place: str, value: Any, expected: tuple[str, str]
) -> None:
    reference = {"name": "gateway-api", "version": "v2.0.0", "model": {"version": "1.6.0"}}
    declared = definition(**{place: value}, modelReference=reference)
    [component] = read_declarations([text(declared)]).components
    assert (component.model, component.model_version) == expected


DESIGNS: list[tuple[str, Any, bool]] = [
    ("v1alpha2", services(reviews=service()), True),
    ("v1alpha2, one service without a type", services(a={}, b={"type": "Pod"}), True),
    ("v1beta1", definitions(), True),
    ("v1beta3", definitions(generation="v1beta3"), True),
    ("a later generation", definitions(generation="v1beta9"), True),
    ("compose file", {"services": {"web": {"image": "nginx"}}}, False),
    ("no services", {"services": {}}, False),
    ("object", {"apiVersion": "v1", "kind": "Service", "services": {"a": {"type": "x"}}}, False),
    ("component", definition(), False),
    ("text", "services:", False),
    ("list", [services(reviews=service())], False),
    ("nothing", None, False),
]


@pytest.mark.parametrize(
    ("document", "expected"), [d[1:] for d in DESIGNS], ids=[d[0] for d in DESIGNS]
)
def test_is_design(document: Any, expected: bool) -> None:
    assert is_design(document) is expected


def test_drawings_need_nothing() -> None:
    drawing = definition(
        "", "", "", metadata={"isAnnotation": True}, component={"kind": "", "version": ""}
    )
    old = service(type="", name="note", isAnnotation=True)
    older = service(
        name="box", traits={"meshmap": {"meshmodel-metadata": {"isAnnotation": "true"}}}
    )
    assert read_declarations([text(drawing)]).components[0].is_annotation
    design = read_design(services(note=old, box=older))
    assert [component.is_annotation for component in design.components] == [True, True]


# --- traits of ProcessOAM ------------------------------------------------------------------------


def test_traits_go_to_the_component_that_they_name_in_any_case() -> None:
    config = configuration(mTLS={"policy": "strict", "namespaces": ["a"]}, meshmap={"x": 1})
    for spelling in (config, config.lower().replace("mtls", "mTLS")):
        design = read_oam([oam()], spelling)
        [component] = design.components
        assert component.traits["mTLS"] == {"policy": "strict", "namespaces": ["a"]}
        assert component.traits["meshmap"] == {}
        assert design.lines == ()


def test_traits_of_components_that_are_not_there_are_told() -> None:
    other = oam().replace("reviews", "ratings")
    design = read_oam([other], configuration(mTLS={"policy": "strict", "namespaces": ["a"]}))
    assert [str(line) for line in design.lines] == [
        "traits of 'reviews' was left out (the request has no such component)"
    ]


@pytest.mark.parametrize("config", ["", "  ", "null", "{}", ZERO_CONFIGURATION, '{"spec":null}'])
def test_a_component_without_traits_has_a_zero_configuration(config: str) -> None:
    design = read_oam([oam()], config)
    assert design.components[0].traits == {}


# --- secrets -------------------------------------------------------------------------------------


def with_secrets() -> list[Design]:
    return [
        read_design(services(reviews=service(registrant=registrant(), connection=registrant()))),
        read_design(definitions(definition(connection=registrant()))),
        read_declarations([text(definition())]),
        read_oam([oam(connection=registrant())], configuration(meshmap={"model": model()})),
    ]


def test_secrets_of_the_registrant_reach_nothing() -> None:
    for design in with_secrets():
        expansion = expand(design, is_deletion=False, default_namespace="shop")
        everything = repr(design) + repr(expansion) + repr(design.components[0].traits)
        everything += "".join(step.model_dump_json() for step in expansion.steps)
        everything += "".join(map(str, expansion.lines))
        for component in design.components:
            everything += repr(dict(component.settings)) + repr(component.annotations)
        assert not [canary for canary in CANARIES if canary in everything]


def test_errors_do_not_repeat_secrets() -> None:
    bad: list[Callable[[], Design]] = [
        lambda: read_design(definitions(definition(component={"kind": registrant()}))),
        lambda: read_design(services(a=service(type=registrant(), traits={"mTLS": CANARIES[0]}))),
        lambda: read_declarations([text(definition(model=[registrant()]))]),
        lambda: read_declarations([text(definition(configuration=CANARIES[0]))]),
        lambda: read_declarations([text(definition())[:-1]]),
        lambda: read_oam([oam(settings=[CANARIES[0]])], "{" + CANARIES[1]),
    ]
    for read in bad:
        with pytest.raises(DesignMalformed) as caught:
            read()
        assert not [canary for canary in CANARIES if canary in str(caught.value)]


def test_settings_stay_out_of_the_repr() -> None:
    secret = plain_services(a={"type": "Secret", "settings": {"stringData": {"p": CANARIES[0]}}})
    assert CANARIES[0] not in repr(read_design(secret))


# --- what is refused -----------------------------------------------------------------------------

MALFORMED: dict[str, tuple[Callable[[], Design], tuple[str, ...]]] = {
    "no design": (lambda: read_design({"kind": "Service"}), ("not a Meshery design",)),
    "later generation": (
        lambda: read_design(definitions(generation="v1beta9")),
        ("'designs.meshery.io/v1beta9'",),
    ),
    "components are a mapping": (
        lambda: read_design(definitions() | {"components": {"a": {}}}),
        ("components are not a list",),
    ),
    "component is text": (
        lambda: read_design(definitions("a")),
        ("component 1: it is not a mapping", "component 1: it has no name"),
    ),
    "service is null": (
        lambda: read_design(services(a=None, b=service())),
        ("component 'a': it does not say of what kind",),
    ),
    "all problems at once": (
        lambda: read_design(
            services(
                a=service(name="a", type="", labels=["x"], settings="y"),
                b=service(name="b", dependsOn="a", traits={"mTLS": 1}),
            )
        ),
        (
            "component 'a': labels is not a mapping",
            "component 'a': settings is not a mapping",
            "component 'a': it does not say of what kind",
            "VirtualService 'b': dependsOn is not a list",
            "VirtualService 'b': traits.mTLS is not a mapping",
        ),
    ),
    "label is a number": (
        lambda: read_design(services(a=service(labels={"version": 1}))),
        ("labels['version'] is not text",),
    ),
    "field stands there twice": (
        lambda: read_design(services(a=service(settings={"cors Policy": 1, "corsPolicy": 2}))),
        ("settings has 'corsPolicy' twice",),
    ),
    "trait stands there twice": (
        lambda: read_design(services(a=service(traits={"mTLS": {}, "mTLS.Istio": {}}))),
        ("traits.mTLS stands there twice",),
    ),
    "not JSON": (lambda: read_declarations(["{}", "{"]), ("component 2: it is not JSON",)),
    "half a surrogate pair": (
        lambda: read_declarations(['{"displayName":"\\ud800"}']),
        ("component 1: it is not JSON",),
    ),
    "JSON list": (lambda: read_declarations(["[]"]), ("component 1: it is not a mapping",)),
    "configuration is no JSON": (
        lambda: read_oam([oam()], "{"),
        ("the configuration: it is not JSON",),
    ),
    "configuration is a list": (
        lambda: read_oam([oam()], "[]"),
        ("the configuration: it is not a mapping",),
    ),
    "traits are a mapping": (
        lambda: read_oam(
            [oam()], '{"spec":{"components":[{"componentName":"reviews","traits":{}}]}}'
        ),
        ("component 'reviews': traits is not a list",),
    ),
    "deep": (
        lambda: read_declarations(['{"configuration":' + "[" * 500 + "]" * 500 + "}"]),
        ("nested more than 100 levels",),
    ),
    "deep document": (lambda: read_design(definitions(nested(2_000))), ("nested more than 100",)),
    "not a number": (
        lambda: read_design(services(a=service(settings={"x": float("nan")}))),
        ("the design: it holds a value that cannot be read",),
    ),
    "huge number": (
        lambda: read_design(services(a=service(settings={"x": 2**64}))),
        ("the design: it holds a value that cannot be read",),
    ),
    "key is no text": (
        lambda: read_design(services(a=service(settings={1: 2}))),
        ("the design: it holds a key that is not text",),
    ),
    "surrogate in a document": (
        lambda: read_design(services(a=service(settings={"x": "\ud800"}))),
        ("the design: it holds a value that cannot be read",),
    ),
    "too many services": (
        lambda: read_design(plain_services(**{f"c{n}": {} for n in range(1001)})),
        ("1001 components, the limit is 1000",),
    ),
    "too many components": (
        lambda: read_design(definitions(*[{}] * 1001)),
        ("1001 components, the limit is 1000",),
    ),
    "too many declarations": (lambda: read_declarations(["{}"] * 1001), ("1001 components",)),
    "too many OAM components": (lambda: read_oam(["{}"] * 1001, ""), ("1001 components",)),
    "too many dependencies": (
        lambda: read_design(
            plain_services(**{f"c{n}": {"dependsOn": ["c0"] * 101} for n in range(100)})
        ),
        ("more than 10000 dependencies",),
    ),
}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_designs_are_refused_with_every_place(case: str) -> None:
    read, expected = MALFORMED[case]
    with pytest.raises(DesignMalformed) as caught:
        read()
    assert [part for part in expected if part not in caught.value.summary] == []


def test_the_limit_itself_is_taken() -> None:
    design = read_design(plain_services(**{f"c{n}": {} for n in range(1000)}))
    assert len(design.components) == 1000


def test_many_problems_are_counted() -> None:
    broken = {f"c{n}": service(name=f"c{n}", labels=1) for n in range(30)}
    with pytest.raises(DesignMalformed, match="'c19': labels is not a mapping; and 10 more probl"):
        read_design(services(**broken))
