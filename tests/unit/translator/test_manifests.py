"""`custom` and `design`: from a request's body to a plan, or to all that is wrong with it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import yaml

from services.chassis.errors import (
    DesignMalformed,
    ManifestMalformed,
    ManifestRefused,
    MeshbusError,
    ObjectsInvalid,
    OptionsMalformed,
    SchemasMissing,
)
from services.chassis.kube.objects import Ref
from services.chassis.messages import (
    ClusterFacts,
    Command,
    MeshFact,
    Phase,
    Severity,
    StepKind,
    Verb,
)
from services.chassis.messages.following import MADE_KINDS
from services.translator import smi
from services.translator.catalog import offered
from services.translator.contexts import installed_version
from services.translator.manifests import (
    doing_custom,
    doing_design,
    listed,
    refuse_errors,
    run_custom,
    run_design,
)
from services.translator.reports import Finding, Level
from services.translator.smi import TRANSLATED_FROM
from tests.unit.translator.designs import samples as designs
from tests.unit.translator.objects import envoy_filter as filter_of
from tests.unit.translator.objects import obj, patch
from tests.unit.translator.smi import samples
from tests.unit.translator.smi.samples import facts, port, services, workload
from tests.unit.translator.worlds import World, names

MESH = MeshFact(revision="default", version="1.31.0")
SHOP = facts(
    services=services(port(80)),
    workloads=[workload("api"), workload("web")],
    meshes=[MESH],
)
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain}\n"
OPTIONS = "apiVersion: meshbus.io/v1\nkind: TranslationOptions\nspec: {}\n"
VIRTUAL_SERVICE = """\
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
"""


def options(spec: str) -> str:
    return OPTIONS.replace("{}", f"{{{spec}}}")


def documents(*texts: str) -> str:
    return "---\n".join(texts)


def dumped(*objects: Any) -> str:
    return yaml.safe_dump_all(objects)


async def refused(world: World, body: str, **asked: Any) -> ObjectsInvalid:
    with pytest.raises(ObjectsInvalid) as caught:
        await world.run(run_custom, body, **asked)
    return caught.value


# ---- A manifest ----------------------------------------------------------------------------------


async def test_a_manifest_of_all_sorts_is_one_plan() -> None:
    world = World(SHOP)
    design = designs.definitions(designs.definition("ratings"))
    body = documents(dumped(samples.split()), VIRTUAL_SERVICE, CONFIG_MAP, dumped(design))
    plan = await world.plan(run_custom, body)
    assert names(plan) == [
        ["VirtualService shop/ratings"],
        ["VirtualService shop/reviews", "ConfigMap plain"],
        ["VirtualService shop/canary-split"],
    ]
    assert [step.level for step in plan.steps] == [1, 2, 2]
    assert {obj["apiVersion"] for step in plan.steps for obj in step.objects} == {
        "networking.istio.io/v1",
        "v1",
    }
    assert plan.steps[2].objects[0]["metadata"]["annotations"][TRANSLATED_FROM]
    assert (plan.summary, plan.failing) == (
        "Manifest deployed successfully",
        "deploying custom operation",
    )
    assert plan.reports_lines, "a design's components are told one by one"
    [event] = [event for event in world.events if event.phase is Phase.TRANSLATED]
    assert event.summary == "Translated: 1 object became 1"
    assert "TrafficSplit shop/canary became VirtualService shop/canary-split" in event.details
    assert event.numbers == {"sources": 1, "targets": 1}


async def test_what_was_rewritten_is_told() -> None:
    world = World(SHOP)
    await world.plan(run_custom, VIRTUAL_SERVICE)
    [event] = world.events
    assert (event.phase, event.severity) == (Phase.NOTE, Severity.INFO)
    assert event.summary == "Noted: 1 remark"
    assert event.details.startswith(
        "line 1: VirtualService shop/reviews: apiVersion: v1alpha3 was written as v1"
    )


async def test_warnings_are_told_and_keep_nothing_back() -> None:
    world = World(SHOP)
    lua = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
    value = {"name": "x", "typed_config": {"@type": lua, "inlineCode": "--"}}
    relative = filter_of(patch("INSERT_BEFORE", value))
    body = documents(VIRTUAL_SERVICE, dumped(relative))
    plan = await world.plan(run_custom, body)
    assert names(plan) == [["VirtualService shop/reviews", "EnvoyFilter shop/a"]]
    [details] = world.warned
    assert details.splitlines()
    assert all(line.startswith("line ") for line in details.splitlines())
    assert "EnvoyFilter shop/a" in details


@pytest.mark.parametrize("verb", list(Verb))
async def test_plain_kubernetes_objects_ask_for_nothing(verb: Verb) -> None:
    world = World(SHOP, versions=())
    body = documents(CONFIG_MAP, dumped(obj("apps/v1", "Deployment", {"replicas": 1}, name="web")))
    plan = await world.plan(run_custom, body, verb=verb)
    assert names(plan) == [["ConfigMap plain", "Deployment shop/web"]]
    assert world.cluster.asked == []
    assert world.definitions.asked == []
    assert world.events == []
    assert not plan.reports_lines
    assert (
        plan.summary == f"Manifest {'deployed' if verb is Verb.APPLY else 'removed'} successfully"
    )


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        pytest.param(
            obj("security.istio.io/v1", "PeerAuthentication", {}),
            [([], [], [])],
            id="Istio's own: what is served and installed",
        ),
        pytest.param(
            samples.split(), [(["shop"], sorted(smi.SMI_KINDS), list(MADE_KINDS))], id="SMI"
        ),
        pytest.param(
            samples.target(destination=samples.account("api", "back")),
            [(["back", "shop"], sorted(smi.SMI_KINDS), list(MADE_KINDS))],
            id="SMI across namespaces",
        ),
        pytest.param(
            samples.target(destination=samples.account("api", "../../secrets?x=")),
            [(["shop"], sorted(smi.SMI_KINDS), list(MADE_KINDS))],
            id="what is no namespace is not asked for",
        ),
    ],
)
async def test_what_is_asked_of_the_cluster(
    given: dict[str, Any], asked: list[tuple[list[str], list[str], list[str]]]
) -> None:
    world = World(SHOP)
    try:
        await world.run(run_custom, dumped(given))
    except ObjectsInvalid:
        assert given["kind"] == "TrafficTarget"
    questions = [(q["namespaces"], q["kinds"], q["managed_kinds"]) for q in world.cluster.asked]
    assert questions == asked


async def test_what_is_kept_and_made_anew_is_asked_for_too() -> None:
    kept = samples.target(destination=samples.account("api", "back"))
    world = World(SHOP.model_copy(update={"objects": [kept]}))
    await world.run(run_custom, dumped(samples.group(samples.match("all"))))
    assert [question["namespaces"] for question in world.cluster.asked] == [
        ["shop"],
        ["back", "shop"],
    ]


# ---- Errors --------------------------------------------------------------------------------------

WRONG = """\
# Everything in here is wrong.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: reviews
  http:
  - name: first
    route:
    - weight: 1
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: fine}
- apiVersion: networking.istio.io/v1
  kind: DestinationRule
  metadata: {name: reviews}
  spec:
    host: [reviews]
---
{"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit",
 "metadata": {"name": "canary"},
 "spec": {"service": "web",
          "backends": [{"service": "web-v1",
                        "weight": "all"}]}}
"""


async def test_all_errors_refuse_at_once_with_document_and_line() -> None:
    world = World(SHOP)
    error = await refused(world, WRONG)
    lines = error.summary.splitlines()
    assert lines[0] == "4 problems in 3 objects:"
    assert [line.split(": ")[:3] for line in lines[1:]] == [
        ["line 6", "VirtualService shop/reviews", "spec.hosts"],
        ["line 10", "VirtualService shop/reviews", "spec.http[0].route[0].destination"],
        ["line 22", "DestinationRule shop/reviews", "spec.host"],
        ["line 28", "TrafficSplit shop/canary", "spec.backends[0].weight"],
    ]
    assert error.subject == "VirtualService shop/reviews"
    assert error.remedy


async def test_an_error_keeps_the_sound_objects_back_too() -> None:
    world = World(SHOP)
    await refused(world, documents(CONFIG_MAP, VIRTUAL_SERVICE, WRONG))
    assert world.cluster.tried == []
    # A failure that says "removed" would be taken for a success.
    assert "removed" not in world.told


async def test_errors_in_a_deletion_do_not_keep_it_back() -> None:
    plan = await World(SHOP).plan(run_custom, WRONG, verb=Verb.DELETE)
    assert names(plan) == [
        ["VirtualService shop/reviews", "ConfigMap fine", "DestinationRule shop/reviews"]
    ]
    assert all(step.is_deletion for step in plan.steps)
    assert (plan.summary, plan.failing) == (
        "Manifest removed successfully",
        "removing custom operation",
    )


@pytest.mark.parametrize("verb", list(Verb))
async def test_an_operator_is_refused_wherever_it_stands(verb: Verb) -> None:
    operator = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [obj("install.istio.io/v1alpha1", "IstioOperator", {}, name="mesh")],
    }
    world = World(SHOP)
    with pytest.raises(ManifestRefused) as caught:
        await world.run(run_custom, documents(CONFIG_MAP, dumped(operator)), verb=verb)
    assert "`istio`" in caught.value.remedy
    assert world.cluster.asked == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", ManifestMalformed),
        ("a: b: c", ManifestMalformed),
        (f"{CONFIG_MAP}---\n- a\n", ManifestMalformed),
        (documents(CONFIG_MAP, "apiVersion: meshbus.io/v1\nkind: Other\n"), ManifestMalformed),
    ],
)
async def test_a_body_that_cannot_be_read(body: str, error: type[MeshbusError]) -> None:
    world = World(SHOP)
    with pytest.raises(error):
        await world.run(run_custom, body)
    assert world.cluster.asked == []


def problem(number: int, **fields: Any) -> Finding:
    given: dict[str, Any] = {
        "level": Level.ERROR,
        "rule": "schema",
        "subject": Ref("v1", "ConfigMap", "shop", f"c{number}"),
        "message": f"problem {number}",
    }
    return Finding(**(given | fields))


def test_a_thousand_problems_are_counted_and_the_first_told() -> None:
    with pytest.raises(ObjectsInvalid) as caught:
        refuse_errors([problem(number, remedy="mend it") for number in range(1000)])
    lines = caught.value.summary.splitlines()
    assert lines[0] == "1000 problems in 1000 objects:"
    assert lines[1] == "ConfigMap shop/c0: problem 0 (mend it)"
    assert lines[-1] == "and 950 more"
    assert len(lines) == 52


def test_a_warning_refuses_nothing() -> None:
    refuse_errors([problem(1, level=Level.WARNING), problem(2, level=Level.INFO)])


def test_a_line_is_no_longer_than_an_event_can_carry() -> None:
    [line] = listed([problem(1, message="x" * 100_000)]).splitlines()
    assert len(line) == 1000
    assert line.endswith("…")


async def test_a_key_of_a_megabyte_does_not_make_an_error_of_one() -> None:
    key = "k" * 1_000_000
    error = await refused(World(SHOP), VIRTUAL_SERVICE.replace("hosts:", f"? {key}\n  :"))
    assert len(error.summary) < 10_000


# ---- Options -------------------------------------------------------------------------------------


async def test_options_stand_beside_the_objects() -> None:
    body = documents(dumped(samples.split()), options("form: gateway-api"))
    [step] = (await World(SHOP).plan(run_custom, body)).steps
    assert [obj["kind"] for obj in step.objects] == ["HTTPRoute"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (documents(OPTIONS, OPTIONS), ManifestMalformed, "TranslationOptions already"),
        (options("forms: istio"), OptionsMalformed, "spec.forms"),
        (options("form: xml"), OptionsMalformed, "spec.form"),
        (options("istioVersion: 1.29.0"), SchemasMissing, "1.29.0"),
    ],
)
async def test_options_that_cannot_be_used(
    text: str, error: type[MeshbusError], words: str
) -> None:
    for objects in (VIRTUAL_SERVICE, CONFIG_MAP):
        with pytest.raises(error) as caught:
            await World(SHOP).run(run_custom, documents(objects, text))
        assert words in caught.value.summary


@pytest.mark.parametrize(
    ("meshes", "versions", "text", "used"),
    [
        pytest.param(["1.31.0"], ["1.30.1", "1.31.0"], "", ["1.31.0"], id="the installed one"),
        pytest.param(["1.30.7"], ["1.30.1", "1.31.0"], "", ["1.30.1"], id="its minor"),
        pytest.param([], ["1.30.1", "1.31.0"], "", ["1.31.0"], id="none is: the newest"),
        pytest.param(["", "1.30.1"], ["1.30.1", "1.31.0"], "", ["1.30.1"], id="one that tells"),
        pytest.param(
            ["1.30.1"],
            ["1.30.1", "1.31.0"],
            options("istioVersion: 1.31.0"),
            ["1.31.0"],
            id="the wanted one",
        ),
    ],
)
async def test_whose_definitions_judge(
    meshes: list[str], versions: list[str], text: str, used: list[str]
) -> None:
    installed = [MeshFact(revision=f"r{n}", version=v) for n, v in enumerate(meshes)]
    world = World(facts(meshes=installed), versions=versions)
    await world.run(run_custom, documents(VIRTUAL_SERVICE, text) if text else VIRTUAL_SERVICE)
    assert world.definitions.asked == used


@pytest.mark.parametrize("version", ["1.20.3", "latest", "v1.20.0", "my-build", ""])
async def test_without_definitions_nothing_is_judged_and_that_is_told(version: str) -> None:
    """An image's tag may be anything; rules that need a version to compare do without it."""
    world = World(facts(meshes=[MeshFact(revision="default", version=version)]), versions=())
    body = documents(
        VIRTUAL_SERVICE.replace("hosts: [reviews]", "hosts: 7"),
        dumped(filter_of(patch(value={"name": "x"}))),
    )
    plan = await world.plan(run_custom, body)
    assert names(plan) == [["VirtualService shop/reviews", "EnvoyFilter shop/a"]]
    [event] = [event for event in world.events if event.phase is Phase.TRANSLATED]
    assert event.summary == "Translated: 1 note"
    assert "Validation was left out (there are no definitions" in event.details


def test_the_installed_version_is_the_first_that_is_told() -> None:
    meshes = [MeshFact(revision="a"), MeshFact(revision="b", version="1.30.0"), MESH]
    assert installed_version(meshes) == "1.30.0"
    assert installed_version([]) == ""


# ---- Designs -------------------------------------------------------------------------------------


def provision(*declarations: dict[str, Any]) -> str:
    return designs.text({"declarations": [designs.text(one) for one in declarations]})


def process_oam(*components: str, config: str = "{}") -> str:
    return designs.text({"components": list(components), "config": config})


REVIEWS = designs.definition("reviews", version="networking.istio.io/v1")
SPACE = designs.definition("space", "Namespace", "v1", configuration={})


@pytest.mark.parametrize(
    "body",
    [provision(REVIEWS), process_oam(designs.oam(apiVersion="networking.istio.io/v1alpha3"))],
    ids=["Provision", "ProcessOAM"],
)
async def test_a_call_s_components_are_a_design(body: str) -> None:
    world = World(SHOP)
    plan = await world.plan(run_design, body)
    assert names(plan) == [["VirtualService shop/reviews"]]
    assert plan.reports_lines
    assert plan.summary.startswith("Design")
    assert plan.summary.endswith("deployed successfully")
    assert plan.failing == "deploying the design"
    assert not any(canary in world.told + plan.model_dump_json() for canary in designs.CANARIES)


async def test_a_design_keeps_its_levels_and_a_deletion_reverses_them() -> None:
    late = designs.definition(
        "late",
        "ConfigMap",
        "v1",
        configuration={"data": {}},
        metadata={"dependsOn": ["id-reviews"]},
    )
    body = provision(late, REVIEWS, SPACE)
    forth = await World(SHOP).plan(run_design, body)
    back = await World(SHOP).plan(run_design, body, verb=Verb.DELETE)
    titles = ["Namespace space", "VirtualService shop/reviews", "ConfigMap shop/late"]
    assert [step.title for step in forth.steps] == titles
    assert [step.title for step in back.steps] == titles[::-1]
    assert [step.level for step in forth.steps] == [step.level for step in back.steps] == [1, 2, 3]
    assert back.summary.endswith("removed successfully")
    assert back.failing == "removing the design"


async def test_a_mesh_comes_before_what_needs_it() -> None:
    mesh = designs.definition("mesh", "IstioMesh", "", configuration={"spec": {}})
    plan = await World(SHOP).plan(run_design, provision(REVIEWS, mesh, SPACE))
    assert [step.kind for step in plan.steps] == [
        StepKind.MANIFEST,
        StepKind.MESH,
        StepKind.MANIFEST,
    ]


async def test_one_bad_component_refuses_the_design_with_all_that_is_wrong() -> None:
    bad = designs.definition(
        "bad",
        version="networking.istio.io/v1",
        configuration={"spec": {"hosts": 7, "http": [{}]}},
    )
    worse = designs.definition(
        "worse", "DestinationRule", "networking.istio.io/v1", configuration={"spec": {"host": 1}}
    )
    world = World(SHOP)
    with pytest.raises(ObjectsInvalid) as caught:
        await world.run(run_design, provision(REVIEWS, bad, SPACE, worse))
    summary = caught.value.summary
    assert summary.startswith("4 problems in 2 objects:")
    for place in ("spec.hosts", "spec.http[0].route", "DestinationRule shop/worse: spec.host"):
        assert place in summary
    assert "spec.http[0]: leads nowhere" in summary
    assert "reviews" not in summary


async def test_components_that_are_no_objects_are_told_together() -> None:
    nameless = designs.definition("", "ConfigMap", "v1")
    kindless = designs.definition("x", "")
    with pytest.raises(DesignMalformed) as caught:
        await World(SHOP).run(run_design, provision(REVIEWS, nameless, kindless))
    assert "it has no name" in caught.value.summary
    assert "of what kind it is" in caught.value.summary


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize(
    ("run", "body"),
    [
        pytest.param(run_design, provision(), id="Provision"),
        pytest.param(run_design, process_oam(), id="ProcessOAM"),
        pytest.param(run_custom, dumped(designs.definitions()), id="v1beta1"),
        pytest.param(
            run_custom, documents(CONFIG_MAP, dumped(designs.definitions())), id="beside an object"
        ),
    ],
)
async def test_an_empty_design_is_refused(run: Any, body: str, verb: Verb) -> None:
    world = World(SHOP)
    with pytest.raises(DesignMalformed, match="no component"):
        await world.run(run, body, verb=verb)
    assert world.cluster.asked == []


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", "a: b", '{"components": []}', '{"declarations": {}}', "\ud800"]
)
async def test_a_body_that_is_no_call_is_refused(body: str) -> None:
    with pytest.raises(DesignMalformed, match="neither a ProcessOAM nor a Provision call"):
        await World(SHOP).run(run_design, body)


async def test_drawings_are_told_and_make_no_objects() -> None:
    drawing = designs.definition("arrow", metadata={"isAnnotation": True})
    world = World(SHOP)
    plan = await world.plan(run_design, provision(REVIEWS, drawing))
    assert names(plan) == [["VirtualService shop/reviews"]]
    [event] = [event for event in world.events if event.phase is Phase.TRANSLATED]
    assert event.summary == "Translated: 1 note"
    assert "a drawing on the canvas" in event.details


async def test_a_trait_replaces_the_other_modes_in_a_served_version() -> None:
    served = {"security.istio.io/PeerAuthentication": ["v1beta1"]}
    world = World(SHOP.model_copy(update={"served": served}))
    component = {**REVIEWS, "traits": {"mTLS": {"policy": "strict", "namespaces": ["shop"]}}}
    plan = await world.plan(run_design, provision(component))
    [trait] = [step for step in plan.steps if step.obsolete]
    assert {o["apiVersion"] for o in (*trait.objects, *trait.obsolete)} == {
        "security.istio.io/v1beta1"
    }


# ---- A large request -----------------------------------------------------------------------------


async def test_a_large_manifest_is_the_same_plan_as_its_parts() -> None:
    many = [
        obj("networking.istio.io/v1", "DestinationRule", {"host": "a"}, name=f"r{n}")
        for n in range(150)
    ]
    filler = f"# {'x' * 70_000}\n"
    plan = await World(SHOP).plan(run_custom, filler + dumped(*many))
    assert plan.steps[0].objects == many
    error = await refused(
        World(SHOP),
        filler
        + dumped(*many, obj("networking.istio.io/v1", "DestinationRule", {"host": 7}, name="last")),
    )
    assert error.summary.startswith("1 problem in 1 object:\nline ")


# ---- What is offered -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", list(Verb))
def test_a_failure_never_says_that_something_is_gone(verb: Verb) -> None:
    command = Command(operation="op", kind="custom", verb=verb)
    for text in (doing_custom(command), doing_design(command)):
        assert "removed" not in text
        assert text.startswith("removing" if verb is Verb.DELETE else "deploying")


def test_the_design_operation_is_for_the_gateway_alone() -> None:
    listed_names = {name for name, one in offered().items() if one.advertised.is_listed}
    assert "custom" in listed_names
    assert "design" not in listed_names
    assert "design" in offered()


async def test_plans_travel_as_json() -> None:
    plan = await World(SHOP).plan(
        run_custom, documents(dumped(samples.split(), samples.tcp_route(80)), CONFIG_MAP)
    )
    assert type(plan).model_validate_json(orjson.dumps(plan.model_dump(mode="json"))) == plan
    assert ClusterFacts.model_validate(SHOP.model_dump(mode="json")) == SHOP
