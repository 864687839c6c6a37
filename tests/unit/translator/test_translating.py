"""From objects to steps: places, versions, forms, SMI beside the rest, deletions."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.kube.objects import MANAGED_BY, MANAGER, KubeObject, Ref, annotations_of
from services.chassis.messages import ClusterFacts, MeshFact, Step, StepKind
from services.translator.contexts import Context, smi_objects
from services.translator.definitions.schemas import Schemas
from services.translator.designs import expand, read_design
from services.translator.documents import read_input
from services.translator.intents.policies import MutualTls, other_modes
from services.translator.options import Options
from services.translator.reports import Level
from services.translator.smi import TRANSLATED_FROM
from services.translator.translating import (
    Translation,
    steps_for,
    steps_of,
    translate,
)
from tests.unit.translator.designs.samples import definition as component
from tests.unit.translator.designs.samples import definitions as design
from tests.unit.translator.objects import networking, obj, virtual_service
from tests.unit.translator.smi import samples
from tests.unit.translator.smi.samples import facts, port, services, workload
from tests.unit.translator.worlds import definition_texts

SCHEMAS = Schemas.read(definition_texts())
SPLIT_KIND = "split.smi-spec.io/TrafficSplit"
TARGET = "TrafficTarget.access.smi-spec.io shop/reach-api"
SHOP = facts(
    services=services(port(80)),
    workloads=[workload("api"), workload("web")],
    meshes=[MeshFact(revision="default", version="1.31.0", trust_domain="mesh.test")],
)


def context(about: ClusterFacts = SHOP, **changes: Any) -> Context:
    given: dict[str, Any] = {
        "facts": about,
        "schemas": None,
        "version": "",
        "options": Options(),
        "is_deletion": False,
    }
    return Context(**(given | changes))


def translated(*objects: KubeObject, **changes: Any) -> Translation:
    is_deletion = bool(changes.get("is_deletion", False))
    step = Step(title="t", objects=copy.deepcopy(list(objects)), level=1, is_deletion=is_deletion)
    return translate([step], context(**changes))


def objects_of(translation: Translation) -> list[KubeObject]:
    return [obj for step in translation.steps for obj in step.objects]


def names(*steps: Step) -> list[list[str]]:
    return [[str(Ref.of(obj)) for obj in step.objects] for step in steps]


def told(translation: Translation) -> str:
    return "\n".join(str(line) for line in translation.lines)


def text(*objects: KubeObject) -> str:
    return yaml.safe_dump_all(objects)


def steps_from(
    *objects: KubeObject,
    designs: tuple[dict[str, Any], ...] = (),
    namespace: str = "shop",
    is_deletion: bool = False,
) -> list[Step]:
    expansions = [
        expand(read_design(one), is_deletion=is_deletion, default_namespace=namespace)
        for one in designs
    ]
    given = read_input(text(*objects)) if objects else None
    return steps_of(given, expansions, namespace=namespace, is_deletion=is_deletion)


# ---- Places --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api_version", "kind", "given", "becomes"),
    [
        ("networking.istio.io/v1", "VirtualService", None, "shop"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "", "shop"),
        ("security.istio.io/v1", "PeerAuthentication", None, "shop"),
        ("telemetry.istio.io/v1", "Telemetry", None, "shop"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin", None, "shop"),
        ("split.smi-spec.io/v1alpha4", "TrafficSplit", None, "shop"),
        ("networking.istio.io/v1", "VirtualService", "other", "other"),
        # Lifecycle knows of these whether they have a namespace at all.
        ("gateway.networking.k8s.io/v1", "GatewayClass", None, None),
        ("v1", "ConfigMap", None, None),
        ("v1", "Namespace", None, None),
        ("example.org/v1", "VirtualService", None, None),
    ],
)
def test_the_request_s_namespace_is_for_objects_of_ours_without_one(
    api_version: str, kind: str, given: str | None, becomes: str | None
) -> None:
    one = obj(api_version, kind, namespace="")
    if given is not None:
        one["metadata"]["namespace"] = given
    [step] = steps_from(one)
    assert step.objects[0]["metadata"].get("namespace") == becomes


# ---- Order ---------------------------------------------------------------------------------------

A_DESIGN = design(
    component("space", "Namespace", "v1", configuration={}),
    component("reviews"),
    component(
        "config",
        "ConfigMap",
        "v1",
        configuration={"data": {"a": "b"}},
        metadata={"dependsOn": ["id-reviews"]},
    ),
)
ANOTHER = design(
    component("second", "Namespace", "v1", configuration={}),
    component("more", "ConfigMap", "v1", configuration={"data": {}}),
)


def test_designs_come_first_and_plain_objects_after_them() -> None:
    steps = steps_from(obj("v1", "ConfigMap", name="plain"), virtual_service(), designs=(A_DESIGN,))
    assert [(step.level, *own) for step, own in zip(steps, names(*steps), strict=True)] == [
        (1, "Namespace space"),
        (2, "VirtualService shop/reviews"),
        (3, "ConfigMap shop/config"),
        (4, "ConfigMap shop/plain", "VirtualService shop/a"),
    ]
    assert steps[-1].title == "ConfigMap shop/plain, VirtualService shop/a"


def test_levels_count_on_from_one_design_to_the_next() -> None:
    steps = steps_from(designs=(A_DESIGN, ANOTHER))
    assert [(step.level, step.title) for step in steps] == [
        (1, "Namespace space"),
        (2, "VirtualService shop/reviews"),
        (3, "ConfigMap shop/config"),
        (4, "Namespace second"),
        (5, "ConfigMap shop/more"),
    ]


def test_a_deletion_goes_the_other_way() -> None:
    plain = obj("v1", "ConfigMap", name="plain")
    forth = steps_from(plain, designs=(A_DESIGN, ANOTHER))
    back = steps_from(plain, designs=(A_DESIGN, ANOTHER), is_deletion=True)
    assert [step.title for step in back] == [step.title for step in forth][::-1]
    assert [step.level for step in back] == [1, 2, 3, 4, 5, 6]
    assert all(step.is_deletion for step in back)


def test_a_title_names_three_objects_and_counts_the_others() -> None:
    [step] = steps_from(*(obj("v1", "ConfigMap", name=f"c{number}") for number in range(5)))
    assert step.title == "ConfigMap shop/c0, ConfigMap shop/c1, ConfigMap shop/c2 and 2 more"


def test_what_smi_objects_become_stands_right_after_them() -> None:
    """The second design's Namespace comes before the VirtualService in it."""
    splitting = design(
        component("space", "Namespace", "v1", configuration={}),
        component(
            "canary",
            "TrafficSplit",
            "split.smi-spec.io/v1alpha4",
            configuration={
                "metadata": {"namespace": "shop"},
                "spec": samples.split()["spec"],
            },
        ),
    )
    steps = steps_from(virtual_service(), designs=(A_DESIGN, splitting))
    found = translate(steps, context())
    assert [(step.level, *own) for step, own in zip(found.steps, names(*found.steps), strict=True)][
        3:
    ] == [
        (4, "Namespace space"),
        (5, "VirtualService shop/canary-split"),
        (6, "VirtualService shop/a"),
    ]


# ---- Versions and forms --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "becomes"),
    [
        (["v1", "v1beta1", "v1alpha3"], "v1"),
        (["v1beta1", "v1alpha3"], "v1beta1"),
        (["v1alpha3"], "v1alpha3"),
        ([], "v1"),
    ],
)
def test_an_object_gets_a_version_that_the_cluster_serves(served: list[str], becomes: str) -> None:
    about = facts(served={"networking.istio.io/VirtualService": served} if served else {})
    for version in ("v1", "v1beta1", "v1alpha3"):
        given = {**virtual_service(), "apiVersion": f"networking.istio.io/{version}"}
        [made] = objects_of(translated(given, about=about))
        assert made == {**given, "apiVersion": f"networking.istio.io/{becomes}"}


@pytest.mark.parametrize("api_version", ["example.org/v1alpha1", "v1", "apps/v1beta2"])
def test_a_kind_that_nothing_is_known_of_stays_as_it_is(api_version: str) -> None:
    given = obj(api_version, "Thing", {"a": [1, None, "x"]}, labels={"b": "c"})
    found = translated(given)
    assert objects_of(found) == [given]
    assert found.findings == ()


def test_what_a_step_replaces_gets_a_served_version_too() -> None:
    about = facts(served={"security.istio.io/PeerAuthentication": ["v1beta1"]})
    step = Step(
        title="t",
        objects=[obj("security.istio.io/v1", "PeerAuthentication", name="strict")],
        obsolete=other_modes(MutualTls.STRICT, namespace="shop"),
    )
    [made] = translate([step], context(about)).steps
    versions = {o["apiVersion"] for o in (*made.objects, *made.obsolete)}
    assert versions == {"security.istio.io/v1beta1"}
    assert [Ref.of(o).name for o in made.obsolete] == ["permissive", "disable"]


def test_a_deprecated_form_becomes_the_current_one_and_is_told() -> None:
    given = virtual_service({"route": [{"destination": {"host": "a"}}], "corsPolicy": {}})
    given["spec"]["http"][0]["corsPolicy"] = {"allowOrigin": ["https://a.example"]}
    found = translated({**given, "apiVersion": "networking.istio.io/v1alpha3"})
    [made] = objects_of(found)
    assert made["apiVersion"] == "networking.istio.io/v1"
    [route] = made["spec"]["http"]
    assert route["corsPolicy"] == {"allowOrigins": [{"exact": "https://a.example"}]}
    assert [(f.level, f.rule, f.place) for f in found.findings] == [
        (Level.INFO, "deprecated", "spec.http[0].corsPolicy.allowOrigin"),
        (Level.INFO, "api-version", "apiVersion"),
    ]


def test_an_older_istio_gets_no_form_that_it_does_not_read() -> None:
    given = obj(
        "security.istio.io/v1beta1",
        "AuthorizationPolicy",
        {"targetRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}},
    )
    [old] = objects_of(translated(given, version="1.21.0"))
    [new] = objects_of(translated(given, version="1.31.0"))
    assert "targetRef" in old["spec"]
    assert "targetRefs" in new["spec"]


def test_a_policy_of_the_whole_mesh_goes_to_the_mesh_s_own_namespace() -> None:
    given = obj(
        "authentication.istio.io/v1alpha1",
        "MeshPolicy",
        {"peers": [{"mtls": {}}]},
        name="default",
        namespace="",
    )
    about = facts(meshes=[MeshFact(revision="default", namespace="mesh", version="1.31.0")])
    [made] = objects_of(translated(given, about=about))
    assert str(Ref.of(made)) == "PeerAuthentication mesh/default"


def test_all_findings_of_all_objects_come_at_once() -> None:
    found = translated(
        virtual_service({"route": [{"destination": {}}]}, {}, unknown=1),
        obj("v1", "ConfigMap"),
        obj("networking.istio.io/v1", "DestinationRule", {"host": 7}, name="b"),
        obj("networking.istio.io/v1", "Sidecart", {}, name="c"),
        samples.split(backends=[("web-v1", "x")]),
        schemas=SCHEMAS,
    )
    wrong = {
        (str(finding.subject), finding.place)
        for finding in found.findings
        if finding.level is Level.ERROR
    }
    assert {place for subject, place in wrong if subject == "VirtualService shop/a"} >= {
        "spec.http[1].route",
    }
    assert ("DestinationRule shop/b", "spec.host") in wrong
    assert ("Sidecart shop/c", "kind") in wrong
    assert ("TrafficSplit shop/canary", "spec.backends[0].weight") in wrong
    assert not any("ConfigMap" in subject for subject, _ in wrong)


def test_what_cannot_be_validated_is_not_wrong() -> None:
    routed = {"route": [{"destination": {"host": "a"}}], "unknown": 1}
    found = translated(virtual_service(routed), schemas=None)
    assert found.findings == ()


def test_without_definitions_istio_s_own_rules_still_hold() -> None:
    [found] = translated(virtual_service({}), schemas=None).findings
    assert (found.rule, found.place) == ("webhook", "spec.http[0]")


# ---- SMI -----------------------------------------------------------------------------------------


def test_smi_objects_are_left_out_where_the_cluster_does_not_serve_them() -> None:
    found = translated(samples.split(), obj("v1", "ConfigMap"))
    assert names(*found.steps) == [["ConfigMap shop/a"], ["VirtualService shop/canary-split"]]
    # A title that named what is left out would promise it.
    assert [step.title for step in found.steps] == [
        "ConfigMap shop/a",
        "VirtualService shop/canary-split",
    ]
    assert told(found).startswith(
        "TrafficSplit shop/canary became VirtualService shop/canary-split"
    )


def test_smi_objects_pass_where_the_cluster_serves_them() -> None:
    about = SHOP.model_copy(update={"served": {SPLIT_KIND: ["v1alpha2"]}})
    given = samples.split(version="v1alpha4")
    found = translated(given, about=about)
    original, made = objects_of(found)
    assert original == {**given, "apiVersion": "split.smi-spec.io/v1alpha2"}
    assert str(Ref.of(made)) == "VirtualService shop/canary-split"


def test_only_the_served_ones_of_several_smi_kinds_pass() -> None:
    about = SHOP.model_copy(update={"served": {SPLIT_KIND: ["v1alpha4"]}})
    found = translated(
        samples.split(), samples.target(), samples.group(samples.match("all")), about=about
    )
    assert names(*found.steps)[0] == ["TrafficSplit shop/canary"]
    kinds = [obj["kind"] for obj in found.steps[1].objects]
    assert kinds == ["VirtualService", "AuthorizationPolicy", "AuthorizationPolicy"]


def test_the_trust_domain_is_the_option_s_else_the_mesh_s() -> None:
    given = (samples.target(), samples.group(samples.match("all")))
    for options, domain in ((Options(), "mesh.test"), (Options(trustDomain="a.test"), "a.test")):
        assert f"{domain}/ns/shop/sa/web" in str(objects_of(translated(*given, options=options)))
    assert context(ClusterFacts()).trust_domain == "cluster.local"


def managed(name: str, origin: str, *, kind: str = "AuthorizationPolicy") -> KubeObject:
    group = "security.istio.io" if kind == "AuthorizationPolicy" else "networking.istio.io"
    return obj(
        f"{group}/v1",
        kind,
        {},
        name=name,
        labels={MANAGED_BY: MANAGER},
        annotations={TRANSLATED_FROM: origin},
    )


def with_objects(*objects: KubeObject) -> ClusterFacts:
    return SHOP.model_copy(update={"objects": list(objects)})


RULES = samples.group(samples.match("all"))


def test_what_an_earlier_translation_left_is_replaced() -> None:
    [policy, _] = objects_of(translated(samples.target(), RULES))
    stale = managed("reach-api-former", TARGET)
    # The same object, kept in another version, is no leftover.
    same = managed(Ref.of(policy).name, TARGET) | {"apiVersion": "security.istio.io/v1beta1"}
    other = managed("reach-db-former", "TrafficTarget.access.smi-spec.io shop/reach-db")
    mine = obj("security.istio.io/v1", "AuthorizationPolicy", {}, name="by-hand")
    about = with_objects(stale, same, other, mine)
    [step] = translated(samples.target(), RULES, about=about).steps
    assert step.obsolete == [stale]
    assert len(step.objects) == 2


def test_what_becomes_nothing_any_more_is_still_taken_away() -> None:
    """Without a workload of its account, a target has no policy; its former ones have to go."""
    stale = managed("reach-api-former", TARGET)
    about = with_objects(stale).model_copy(update={"workloads": []})
    given = samples.target()
    found = translated(given, RULES, about=about)
    assert [obj for step in found.steps for obj in step.obsolete] == [stale]


def test_what_the_cluster_keeps_is_made_anew_with_its_routes_and_leaves_nothing_behind() -> None:
    stale = managed("reach-api-former", TARGET)
    about = with_objects(samples.target(), stale)
    [step] = translated(samples.group(samples.match("get", "/", "GET")), about=about).steps
    assert "GET" in str(step.objects)
    assert step.obsolete == [stale]


# ---- Deletions -----------------------------------------------------------------------------------


def test_a_deletion_takes_away_what_was_made_and_keeps_what_denies() -> None:
    former = managed("reach-api-former", TARGET)
    deny = managed("smi-deny-by-default", "TrafficTarget.access.smi-spec.io shop/*")
    applied = translated(samples.target(), RULES)
    [allow, kept] = objects_of(applied)
    found = translated(
        samples.target(), RULES, about=with_objects(allow, former, deny), is_deletion=True
    )
    [step] = found.steps
    assert step.is_deletion
    assert step.obsolete == []
    assert [Ref.of(obj).name for obj in step.objects] == [Ref.of(allow).name, "reach-api-former"]
    assert Ref.of(kept).name == "smi-deny-by-default"
    assert "AuthorizationPolicy shop/smi-deny-by-default" in told(found)
    assert "access is denied by default" in told(found)


def test_an_error_does_not_keep_an_object_from_being_deleted() -> None:
    broken = samples.target(rules=[samples.rule("HTTPRouteGroup", "gone")])
    applied = translated(broken)
    assert any(finding.level is Level.ERROR for finding in applied.findings)
    former = managed("reach-api-former", TARGET)
    wrong = networking("VirtualService", {"hosts": 7}, name="wrong")
    found = translated(broken, wrong, about=with_objects(former), is_deletion=True, schemas=SCHEMAS)
    assert found.findings == ()
    assert [name for step in names(*found.steps) for name in step] == [
        "VirtualService shop/wrong",
        "AuthorizationPolicy shop/reach-api-former",
    ]
    assert all(step.is_deletion for step in found.steps)


def test_a_deletion_finds_objects_in_the_version_that_is_served() -> None:
    about = facts(served={"networking.istio.io/VirtualService": ["v1beta1"]})
    [made] = objects_of(translated(virtual_service(), about=about, is_deletion=True))
    assert made["apiVersion"] == "networking.istio.io/v1beta1"


def test_what_the_cluster_keeps_has_no_say_in_a_deletion() -> None:
    about = with_objects(samples.target())
    found = translated(RULES, about=about, is_deletion=True)
    assert objects_of(found) == []


def test_a_mesh_and_an_injection_pass_untouched() -> None:
    steps = [
        Step(title="m", kind=StepKind.MESH, version="1.31.0", body="x"),
        Step(title="i", kind=StepKind.INJECTION, namespace="shop"),
    ]
    assert list(translate(steps, context()).steps) == steps


# ---- Whatever is asked ---------------------------------------------------------------------------

MIXED = [
    virtual_service({"route": [{"destination": {"host": "a"}}]}),
    networking("VirtualService", {"http": [{"websocketUpgrade": True}]}, name="two"),
    networking("VirtualService", {"hosts": ["a"]}, name="old", version="v1alpha3"),
    obj("security.istio.io/v1beta1", "PeerAuthentication", {"mtls": {"mode": "STRICT"}}),
    obj("gateway.networking.k8s.io/v1beta1", "HTTPRoute", {"parentRefs": []}, name="route"),
    obj("v1", "ConfigMap", name="plain"),
    samples.split(),
    samples.split("other", version="v1alpha1", backends=[("web-v1", "900m"), ("web-v2", "100m")]),
    samples.target(),
    samples.target("second", rules=[samples.rule("TCPRoute", "ports")]),
    samples.group(samples.match("get", "/shop.*", "GET")),
    samples.tcp_route(8080),
]
SERVED = {
    "networking.istio.io/VirtualService": ["v1beta1", "v1alpha3"],
    "security.istio.io/AuthorizationPolicy": ["v1beta1"],
}
some_objects = st.lists(st.sampled_from(range(len(MIXED))), min_size=1, unique=True)
some_served = st.dictionaries(st.sampled_from(sorted(SERVED)), st.none()).map(
    lambda kinds: {kind: SERVED[kind] for kind in kinds}
)


@given(some_objects, some_served, st.booleans())
def test_the_same_input_gives_the_same_plan(
    chosen: list[int], served: dict[str, list[str]], is_deletion: bool
) -> None:
    about = SHOP.model_copy(update={"served": served})
    given = [MIXED[number] for number in chosen]
    before = copy.deepcopy(given)
    once = translated(*given, about=about, is_deletion=is_deletion)
    assert translated(*given, about=about, is_deletion=is_deletion) == once
    assert given == before, "what was given is not changed"


@given(some_objects, some_served, st.randoms())
def test_the_order_of_the_objects_says_nothing(
    chosen: list[int], served: dict[str, list[str]], shuffle: random.Random
) -> None:
    about = SHOP.model_copy(update={"served": served})
    given = [MIXED[number] for number in chosen]
    once = translated(*given, about=about)
    shuffle.shuffle(given)
    again = translated(*given, about=about)
    by_name = {str(Ref.of(obj)): obj for obj in objects_of(once)}
    assert {str(Ref.of(obj)): obj for obj in objects_of(again)} == by_name
    assert set(again.findings) == set(once.findings)
    assert set(again.lines) == set(once.lines)


@given(some_objects, some_served)
def test_what_was_translated_stays_as_it_is(
    chosen: list[int], served: dict[str, list[str]]
) -> None:
    about = SHOP.model_copy(update={"served": served})
    made = objects_of(translated(*(MIXED[number] for number in chosen), about=about))
    again = translate(steps_for(made), context(about))
    assert objects_of(again) == made
    assert again.lines == ()


@given(some_objects)
def test_every_object_that_was_made_tells_what_of(chosen: list[int]) -> None:
    given = [MIXED[number] for number in chosen]
    found = translated(*given)
    plain = {Ref.of(obj).name for obj in given if obj not in smi_objects(steps_for(given))}
    for made in objects_of(found):
        if Ref.of(made).name not in plain:
            assert annotations_of(made)[TRANSLATED_FROM]
