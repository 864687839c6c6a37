"""Designs on their way in: what of a component goes on, and that no registrant's secret does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import (
    MalformedRequest,
    ManifestMalformed,
    RequestTooLarge,
)
from services.chassis.kube.manifests import dump_manifest, read_documents
from services.chassis.messages import ErrorReport, Event, Phase, Severity
from services.gateway.designs import process_oam_body, provision_body, without_registrants
from services.gateway.wire import design_lines

LIMIT = 1_000_000
CANARY = "canary-9b1f"
SECRET: dict[str, Any] = {
    "kind": "kubernetes",
    "name": CANARY,
    "metadata": {"client-key-data": CANARY, "list": [[{"token": CANARY}]]},
    "credential": {"secret": {"token": CANARY}},
}
MODEL: dict[str, Any] = {
    "id": CANARY,
    "name": "istio-base",
    "version": "v1.0.0",
    "model": {"version": "1.31.0", "registrant": SECRET},
    "registrant": SECRET,
    "registrants": [SECRET],
    "connection": SECRET,
    "connection_id": CANARY,
    "metadata": {"token": CANARY},
}
KEPT_MODEL = {"name": "istio-base", "version": "v1.0.0", "model": {"version": "1.31.0"}}
SPEC: dict[str, Any] = {
    "hosts": ["reviews"],
    # A user's own field may have any name.
    "connection": {"registrant": "own"},
    "http": [{"route": [{"weight": 1.5}], "match": [[1], {"a": None}]}],
}
CANVAS: dict[str, Any] = {
    "id": "id-1",
    "meshmodel-data": MODEL,
    "meshmodel-metadata": {"isAnnotation": True, "token": CANARY},
    "position": {"x": CANARY},
}


def definition(**fields: Any) -> dict[str, Any]:
    """A ComponentDefinition with a secret wherever one can stand."""
    return {
        "id": "id-1",
        "schemaVersion": "components.meshery.io/v1beta1",
        "displayName": "reviews",
        "description": CANARY,
        "model": MODEL,
        "modelReference": {**MODEL, "id": CANARY},
        "registrant": SECRET,
        "connection": SECRET,
        "styles": {"token": CANARY},
        "capabilities": [SECRET],
        "metadata": {
            "isAnnotation": False,
            "dependsOn": ["id-2", SECRET],
            "registrant": SECRET,
            "token": CANARY,
        },
        "configuration": {"spec": SPEC, "annotations": {"design.meshmodel.io.name": "shop"}},
        "component": {
            "kind": "VirtualService",
            "version": "networking.istio.io/v1",
            "schema": CANARY,
            "registrant": SECRET,
        },
        "traits": {
            "mTLS": {"policy": "strict", "namespaces": ["shop"], "registrant": SECRET},
            "meshmap": CANVAS,
            "other": SECRET,
            "text": "x",
        },
    } | fields


KEPT_TRAITS = {
    "mTLS": {"policy": "strict", "namespaces": ["shop"]},
    "meshmap": {"id": "id-1", "meshmodel-metadata": {"isAnnotation": True}},
    "other": {},
    "text": None,
}
KEPT_DEFINITION = {
    "id": "id-1",
    "schemaVersion": "components.meshery.io/v1beta1",
    "displayName": "reviews",
    "model": KEPT_MODEL,
    "modelReference": KEPT_MODEL,
    "metadata": {"isAnnotation": False, "dependsOn": ["id-2", None]},
    "configuration": {"spec": SPEC, "annotations": {"design.meshmodel.io.name": "shop"}},
    "component": {"kind": "VirtualService", "version": "networking.istio.io/v1"},
    "traits": KEPT_TRAITS,
}


def application(**fields: Any) -> dict[str, Any]:
    """An OAM Component with a secret wherever one can stand."""
    return {
        "kind": "Component",
        "apiVersion": "core.oam.dev/v1alpha2",
        "registrant": SECRET,
        "metadata": {
            "name": "reviews",
            "namespace": "shop",
            "labels": {"tier": "front"},
            "annotations": {"design.meshmodel.io.k8s.Kind": "VirtualService", "nested": SECRET},
            "creationTimestamp": None,
            "managedFields": [SECRET],
        },
        "spec": {
            "type": "VirtualService",
            "version": "1.16.0",
            "apiVersion": "",
            "model": "istio",
            "settings": SPEC,
            "parameters": [SECRET],
            "connection": SECRET,
        },
    } | fields


KEPT_APPLICATION = {
    "kind": "Component",
    "apiVersion": "core.oam.dev/v1alpha2",
    "metadata": {
        "name": "reviews",
        "namespace": "shop",
        "labels": {"tier": "front"},
        "annotations": {"design.meshmodel.io.k8s.Kind": "VirtualService", "nested": None},
    },
    "spec": {
        "type": "VirtualService",
        "version": "1.16.0",
        "apiVersion": "",
        "model": "istio",
        "settings": SPEC,
    },
}


def service(**fields: Any) -> dict[str, Any]:
    """A service of a v1alpha2 design, with its model behind the canvas."""
    return {
        "name": "reviews",
        "type": "VirtualService",
        "apiVersion": "networking.istio.io/v1",
        "model": "istio",
        "version": "1.16.0",
        "namespace": "shop",
        "labels": {"tier": "front"},
        "annotations": {"owner": "team-a"},
        "dependsOn": ["other"],
        "settings": SPEC,
        "traits": {"meshmap": CANVAS},
        "registrant": SECRET,
        "connection": SECRET,
    } | fields


def text(value: Any) -> str:
    return orjson.dumps(value).decode()


def designs_in(body: str) -> list[Any]:
    return [document for _, document in read_documents(body)]


# ---- Calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param(definition(), KEPT_DEFINITION, id="a definition"),
        pytest.param(application(), KEPT_APPLICATION, id="an application's component"),
        pytest.param(
            application(apiVersion="", kind="Component"),
            {**KEPT_APPLICATION, "apiVersion": ""},
            id="a component without a version",
        ),
    ],
)
@pytest.mark.parametrize("call", ["Provision", "ProcessOAM"])
def test_only_what_a_component_is_made_of_goes_on(
    call: str, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    if call == "Provision":
        body = provision_body([text(given)], limit=LIMIT)
        [component] = orjson.loads(body)["declarations"]
    else:
        body = process_oam_body([text(given)], "", limit=LIMIT)
        [component] = orjson.loads(body)["components"]
    assert CANARY not in body
    assert orjson.loads(component) == kept


def test_a_configuration_keeps_traits_and_nothing_else() -> None:
    """Go writes it with the names of its fields."""
    given = {
        "TypeMeta": {"token": CANARY},
        "Kind": "ApplicationConfiguration",
        "metadata": {"name": "shop", "annotations": {"token": CANARY}},
        "Spec": {
            "Components": [
                {
                    "ComponentName": "reviews",
                    "Traits": [
                        {"Name": "mTLS", "Properties": {"policy": "strict", "namespaces": ["a"]}},
                        {"Name": "meshmap", "Properties": CANVAS},
                        {"Name": "registrant", "Properties": SECRET},
                    ],
                    "Scopes": [{"ScopeRef": SECRET}],
                    "Registrant": SECRET,
                }
            ]
        },
        "registrant": SECRET,
    }
    body = process_oam_body([text(application())], text(given), limit=LIMIT)
    assert CANARY not in body
    assert orjson.loads(orjson.loads(body)["config"]) == {
        "Kind": "ApplicationConfiguration",
        "metadata": {"name": "shop"},
        "Spec": {
            "Components": [
                {
                    "ComponentName": "reviews",
                    "Traits": [
                        {"Name": "mTLS", "Properties": {"policy": "strict", "namespaces": ["a"]}},
                        {"Name": "meshmap", "Properties": KEPT_TRAITS["meshmap"]},
                        {"Name": "registrant", "Properties": {}},
                    ],
                }
            ]
        },
    }


@pytest.mark.parametrize(
    ("config", "kept"),
    [("", ""), (" \n", ""), ("null", ""), ("{}", "{}"), ('{"Spec":{"Components":null}}',) * 2],
)
def test_a_configuration_that_says_nothing(config: str, kept: str) -> None:
    body = process_oam_body([text(application())], config, limit=LIMIT)
    assert orjson.loads(body)["config"] == kept


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: provision_body([], limit=LIMIT), "declarations is empty"),
        (lambda: process_oam_body([], "{}", limit=LIMIT), "oam_comps is empty"),
        (lambda: provision_body(["{}", "no JSON"], limit=LIMIT), "declarations[1] is not a JSON"),
        (lambda: provision_body(["[]"], limit=LIMIT), "declarations[0] is not a JSON object"),
        (lambda: provision_body(["null"], limit=LIMIT), "declarations[0] is not a JSON object"),
        (lambda: provision_body(['{"a": NaN}'], limit=LIMIT), "declarations[0]"),
        (lambda: provision_body(["\ud800"], limit=LIMIT), "declarations[0]"),
        (lambda: process_oam_body(["7"], "{}", limit=LIMIT), "oam_comps[0] is not a JSON object"),
        (lambda: process_oam_body(["{}"], "a: b", limit=LIMIT), "oam_config is not a JSON object"),
        (lambda: process_oam_body(["{}"], "[]", limit=LIMIT), "oam_config is not a JSON object"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(make: Callable[[], str], words: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        make()
    assert words in caught.value.summary


def nested(name: str, depth: int) -> str:
    return f'{{"{name}": {"[" * depth}{"]" * depth}}}'


@pytest.mark.parametrize("name", ["configuration", "displayName"])
def test_json_of_some_depth_is_taken(name: str) -> None:
    body = provision_body([nested(name, 200)], limit=LIMIT)
    [component] = orjson.loads(body)["declarations"]
    assert component == nested(name, 200).replace(" ", "")


@pytest.mark.parametrize("name", ["configuration", "displayName"])
@pytest.mark.parametrize("depth", [300, 900, 20_000])
def test_deeper_json_is_refused_in_words(name: str, depth: int) -> None:
    with pytest.raises(MalformedRequest, match=r"declarations\[0\] is"):
        provision_body([nested(name, depth)], limit=LIMIT)


def test_a_body_has_a_limit() -> None:
    with pytest.raises(RequestTooLarge, match="the limit is 100"):
        provision_body([text(definition())], limit=100)


# ---- Designs in a manifest -----------------------------------------------------------------------


def design(*components: Any, generation: str = "v1beta1", **fields: Any) -> dict[str, Any]:
    return {
        "id": CANARY,
        "name": "shop",
        "schemaVersion": f"designs.meshery.io/{generation}",
        "components": list(components),
        "relationships": [{"registrant": SECRET}],
        "metadata": {"connection": SECRET},
        "registrant": SECRET,
    } | fields


DESIGNS = {
    **{
        generation: (
            design(definition(), generation=generation),
            {
                "name": "shop",
                "schemaVersion": f"designs.meshery.io/{generation}",
                "components": [KEPT_DEFINITION],
            },
        )
        for generation in ("v1beta1", "v1beta2", "v1beta3", "v9")
    },
    "v1alpha2": (
        {"name": "shop", "patternFile": CANARY, "services": {"reviews": service()}},
        {
            "name": "shop",
            "services": {
                "reviews": {
                    **{k: v for k, v in service().items() if k not in ("registrant", "connection")},
                    "traits": {"meshmap": KEPT_TRAITS["meshmap"]},
                }
            },
        },
    ),
    "a component alone": (
        definition(),
        {"schemaVersion": "components.meshery.io/v1beta1"},
    ),
    "a model alone": (
        {"schemaVersion": "models.meshery.io/v1beta1", **MODEL},
        {"schemaVersion": "models.meshery.io/v1beta1", "name": "istio-base"},
    ),
    "components that are no list": (
        design(components=definition()),
        {
            "name": "shop",
            "schemaVersion": "designs.meshery.io/v1beta1",
            "components": KEPT_DEFINITION,
        },
    ),
    "components that are lists": (
        design([definition()], None, "x"),
        {
            "name": "shop",
            "schemaVersion": "designs.meshery.io/v1beta1",
            "components": [[KEPT_DEFINITION], None, None],
        },
    ),
}


def as_yaml(value: Any) -> str:
    return dump_manifest([value])


@pytest.mark.parametrize("write", [text, as_yaml], ids=["JSON", "YAML"])
@pytest.mark.parametrize("case", DESIGNS)
def test_a_design_in_a_manifest_loses_its_secrets(case: str, write: Callable[[Any], str]) -> None:
    given, kept = DESIGNS[case]
    body = without_registrants(write(given))
    assert CANARY not in body
    assert designs_in(body) == [kept]


PLAIN = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}   # registrant: stays
data:
  on: 1:30
  text: |
    schemaVersion: designs.meshery.io/v1beta1

    ---x
"""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="nothing"),
        pytest.param(PLAIN, id="a manifest that speaks of designs"),
        pytest.param("a: [", id="no YAML"),
        pytest.param("kind: A\nschemaVersion: '2'\nregistrant: {token: x}\n", id="another schema"),
        pytest.param("kind: A\nservices: {a: {registrant: x}}\n", id="an object with services"),
        pytest.param("- registrant\n", id="a list"),
    ],
)
def test_all_else_stays_as_text(body: str) -> None:
    assert without_registrants(body) == body


def test_a_text_that_may_hold_a_design_and_cannot_be_read_goes_no_further() -> None:
    with pytest.raises(ManifestMalformed, match="line 2"):
        without_registrants(f"registrant: {CANARY}\n a: b: c\n")


SEPARATED = (
    "---\n",
    "---   # a comment\n",
    "...\n---\n",
    "...\n%YAML 1.1\n---\n",
    "\n\n---\n",
)


@pytest.mark.parametrize("separator", SEPARATED)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_keep_their_numbers_beside_a_design(separator: str, end: str) -> None:
    parts = [
        "# first\n" + PLAIN,
        as_yaml(DESIGNS["v1beta1"][0]),
        PLAIN.replace("name: a", "name: b"),
        text(DESIGNS["v1alpha2"][0]) + "\n",
        PLAIN.replace("name: a", "name: c"),
    ]
    given = separator.join(parts).replace("\n", end)
    body = without_registrants(given)
    assert CANARY not in body
    before, after = (
        given.replace("\r\n", "\n").splitlines(),
        body.replace("\r\n", "\n").splitlines(),
    )
    assert len(after) == len(before)
    for number, line in enumerate(before):
        if "registrant: stays" in line:
            assert after[number] == line
    first, design_read, second, other_read, third = designs_in(body)
    assert [first, second, third] == designs_in(given)[::2]
    assert design_read == DESIGNS["v1beta1"][1]
    assert other_read == DESIGNS["v1alpha2"][1]


@pytest.mark.parametrize("before", [0, 1, 5, 9, 10, 11])
def test_a_credential_that_begins_anywhere_in_a_long_text_is_found(before: int) -> None:
    """Texts are searched in slices."""
    given = text({"services": {"a": {"name": "a", "registrant": {"token": CANARY}}}})
    filled = "# " + "x" * (128 * 1024 - 3 - before - given.index("registrant")) + "\n" + given
    assert filled.index("registrant") == 128 * 1024 - before
    assert CANARY not in without_registrants(filled)


letters = st.characters(codec="utf-8", exclude_categories=["Cs"])


@given(st.dictionaries(st.text(letters, max_size=20), st.text(letters, max_size=20), max_size=4))
def test_whatever_a_component_is_set_to_arrives(settings: dict[str, str]) -> None:
    """JSON has characters that YAML reads in another way, or not at all."""
    given = design(definition(configuration={"spec": settings}))
    body = without_registrants(as_yaml(given))
    assert CANARY not in body
    [read] = designs_in(body)
    assert read["components"][0]["configuration"] == {"spec": settings}


numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(numbers | st.booleans() | st.none(), max_size=4))
def test_numbers_stay_numbers(values: list[Any]) -> None:
    written = as_yaml(design(definition(configuration={"spec": values})))
    [before] = designs_in(written)
    [after] = designs_in(without_registrants(written))
    assert after["components"][0]["configuration"] == before["components"][0]["configuration"]


places = st.recursive(
    st.just(CANARY),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(
            st.sampled_from(["registrant", "connection", "model", "metadata", "name", "x"]),
            inner,
            min_size=1,
            max_size=2,
        )
    ),
    max_leaves=5,
)


@given(
    st.sampled_from(["registrant", "connection", "credential", "styles", "x", "Registrant"]),
    st.sampled_from(["model", "component", "modelReference", "metadata", ""]),
    places,
)
def test_no_place_that_is_not_named_goes_on(name: str, holder: str, secret: Any) -> None:
    inside = {name: secret}
    component = definition(**({holder: inside} if holder else inside))
    for body in (
        provision_body([text(component)], limit=LIMIT),
        without_registrants(text(design(component))),
    ):
        assert CANARY not in body


@given(st.text(alphabet="abregistrant \n:-?[]{}&*!|>'\"%#,.", max_size=120))
def test_any_text_is_passed_on_or_refused_with_our_error(more: str) -> None:
    for body in (more, f"schemaVersion: designs.meshery.io/v1beta1\n{more}"):
        with contextlib.suppress(ManifestMalformed):
            assert isinstance(without_registrants(body), str)


# ---- Lines of an answer --------------------------------------------------------------------------


def final(cluster: str, phase: Phase, summary: str, details: str = "") -> Event:
    is_done = phase is Phase.DONE
    return Event(
        operation="op",
        kind="design",
        service="lifecycle",
        cluster=cluster,
        phase=phase,
        severity=Severity.INFO if is_done else Severity.ERROR,
        summary=summary,
        details=details,
        error=None if is_done else ErrorReport(code="MB-3001", summary="s", cause="c", remedy="r"),
    )


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        pytest.param(
            final("c1", Phase.DONE, "Design deployed", "a deployed\nb deployed"),
            ["prod: a deployed", "prod: b deployed"],
            id="one for each component",
        ),
        pytest.param(
            final("c1", Phase.DONE, "Design deployed"), ["prod: Design deployed"], id="none"
        ),
        pytest.param(
            final("c1", Phase.FAILED, "Error while deploying the design", "Error: away."),
            ["prod: Error while deploying the design. Error: away."],
            id="a failure",
        ),
        pytest.param(
            final(
                "c1",
                Phase.FAILED,
                "Error while deploying x",
                "Error: 2 problems:\na\n\nb.",
            ),
            ["prod: Error while deploying x. Error: 2 problems:", "prod: a", "prod: b."],
            id="a failure of many lines",
        ),
        pytest.param(
            final("c1", Phase.CANCELLED, "Cancelled while deploying the design"),
            ["prod: Cancelled while deploying the design."],
            id="a cancelled one",
        ),
        pytest.param(final("c9", Phase.DONE, "x"), ["prod: not finished in time"], id="another's"),
    ],
)
def test_each_line_names_its_cluster(event: Event, lines: list[str]) -> None:
    assert design_lines({event.cluster: event}, {"c1": "prod"}) == lines


def test_clusters_come_in_the_order_of_the_request() -> None:
    finals = {name: final(name, Phase.DONE, "d", f"{name} done") for name in ("c2", "c1")}
    names = {"c1": "prod", "c2": "stage", "c3": "test"}
    assert design_lines(finals, names) == [
        "prod: c1 done",
        "stage: c2 done",
        "test: not finished in time",
    ]
