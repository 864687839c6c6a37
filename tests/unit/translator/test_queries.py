"""What the translator answers over the service API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import yaml

from services.chassis.errors import (
    DesignMalformed,
    MalformedRequest,
    ManifestMalformed,
    ManifestRefused,
    MeshbusError,
    OptionsMalformed,
    SchemasMissing,
)
from services.chassis.kube.manifests import parse_manifest
from services.chassis.messages import ClusterFacts, MeshFact
from services.translator.queries import Answers
from tests.unit.translator.designs import samples as designs
from tests.unit.translator.objects import destination_rule, networking, obj
from tests.unit.translator.smi import samples
from tests.unit.translator.smi.samples import facts, port, services
from tests.unit.translator.worlds import FixedCluster, KnownDefinitions

SERVED = {
    "networking.istio.io/VirtualService": ["v1beta1"],
    "networking.istio.io/DestinationRule": ["v1"],
}
SHOP = facts(
    services=services(port(80)),
    served=SERVED,
    meshes=[MeshFact(revision="default", version="1.30.3")],
).model_copy(update={"objects": [destination_rule({})]})
VIRTUAL_SERVICE = """\
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}}]}]
"""


class Asking:
    """The answers, with one registered cluster `c1`."""

    def __init__(self, about: ClusterFacts = SHOP, *versions: str) -> None:
        self.cluster = FixedCluster(about)
        self.definitions = KnownDefinitions(*(versions or ("1.31.0", "1.30.1")))
        self.tokens: list[str] = []
        self._answers = Answers(self.definitions, self._cluster_of)

    def _cluster_of(self, token: str) -> FixedCluster:
        self.tokens.append(token)
        return self.cluster

    async def __call__(self, verb: str, **question: Any) -> dict[str, Any]:
        by_verb = {query.verb: query for query in self._answers.queries()}
        answer: dict[str, Any] = await by_verb[verb].answer(question)
        # It has to travel.
        return orjson.loads(orjson.dumps(answer))  # type: ignore[no-any-return]


# ---- translate -----------------------------------------------------------------------------------


async def test_a_manifest_is_translated_without_a_cluster() -> None:
    ask = Asking()
    answer = await ask("translate", manifest=VIRTUAL_SERVICE)
    [made] = answer["objects"]
    assert made["apiVersion"] == "networking.istio.io/v1"
    assert made["metadata"] == {"name": "reviews", "namespace": "default"}
    assert parse_manifest(answer["yaml"]) == answer["objects"]
    assert answer["steps"] == ["VirtualService default/reviews"]
    assert [finding["rule"] for finding in answer["findings"]] == ["api-version"]
    assert answer["findings"][0]["line"] == 1
    assert ask.tokens == []


async def test_a_cluster_s_versions_and_services_count() -> None:
    ask = Asking()
    text = VIRTUAL_SERVICE + "---\n" + yaml.safe_dump(samples.split())
    answer = await ask("translate", manifest=text, cluster="c1", namespace="shop")
    assert ask.tokens == ["c1"]
    assert {made["apiVersion"] for made in answer["objects"]} == {"networking.istio.io/v1beta1"}
    assert answer["report"] == [
        {
            "source": "TrafficSplit shop/canary",
            "targets": ["VirtualService shop/canary-split"],
            "note": answer["report"][0]["note"],
        }
    ]
    assert ask.definitions.asked == ["1.30.1"]


async def test_what_is_wrong_is_answered_and_not_raised() -> None:
    answer = await Asking()("translate", manifest=VIRTUAL_SERVICE.replace("[reviews]", "7"))
    assert [(f["level"], f["path"], f["line"]) for f in answer["findings"]][:1] == [
        ("info", "apiVersion", 1)
    ]
    assert ("error", "spec.hosts", 5) in [
        (f["level"], f["path"], f["line"]) for f in answer["findings"]
    ]


@pytest.mark.parametrize("text", ["1e3", "y", "no", "1.10", "0o17", "08", "2024-01-01", "1:30"])
async def test_text_stays_text_in_the_answered_yaml(text: str) -> None:
    given = obj("v1", "ConfigMap", labels={"version": text})
    answer = await Asking()("translate", manifest=yaml.safe_dump({**given, "data": {"a": "x"}}))
    [read] = parse_manifest(answer["yaml"])
    [told] = answer["objects"]
    assert read == told


async def test_a_design_is_translated_with_its_steps() -> None:
    design = designs.definitions(
        designs.definition("reviews"), designs.definition("space", "Namespace", "v1")
    )
    answer = await Asking()("translate", manifest=designs.text(design))
    assert answer["steps"] == ["Namespace space", "VirtualService shop/reviews"]
    assert not any(canary in str(answer) for canary in designs.CANARIES)


# ---- validate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "valid"), [("[reviews]", True), ("7", False), ("[reviews]\n  unknown: 1", False)]
)
async def test_a_manifest_is_valid_or_not(text: str, valid: bool) -> None:
    answer = await Asking()("validate", manifest=VIRTUAL_SERVICE.replace("[reviews]", text))
    assert answer["valid"] is valid
    assert any(finding["level"] == "error" for finding in answer["findings"]) is not valid


async def test_what_the_webhook_would_refuse_is_told_with_line_path_and_remedy() -> None:
    text = (
        "apiVersion: networking.istio.io/v1\n"
        "kind: VirtualService\n"
        "metadata: {name: a}\n"
        "spec:\n"
        "  hosts: [a]\n"
        "  http:\n"
        "  - match:\n"
        "    - uri: {regex: '^/(?!admin).*'}\n"
        "    route:\n"
        "    - destination: {host: a}\n"
        "  - match:\n"
        "    - uri: {prefix: /m1}\n"
    )
    answer = await Asking()("validate", manifest=text)

    assert not answer["valid"]
    found = [finding for finding in answer["findings"] if finding["rule"] == "webhook"]
    assert [(finding["line"], finding["path"], finding["level"]) for finding in found] == [
        (8, "spec.http[0].match[0].uri.regex", "error"),
        (11, "spec.http[1]", "error"),
    ]
    assert all(finding["remedy"] for finding in found)


async def test_a_version_is_named_beside_the_manifest_or_in_it() -> None:
    ask = Asking()
    await ask("validate", manifest=VIRTUAL_SERVICE, istioVersion="1.30.1")
    options = "apiVersion: meshbus.io/v1\nkind: TranslationOptions\nspec: {istioVersion: 1.30.1}\n"
    await ask("validate", manifest=f"{VIRTUAL_SERVICE}---\n{options}")
    await ask("validate", manifest=f"{VIRTUAL_SERVICE}---\n{options}", istioVersion="1.31.0")
    assert ask.definitions.asked == ["1.30.1", "1.30.1", "1.31.0"]


# ---- upgrade -------------------------------------------------------------------------------------


async def test_an_upgrade_of_a_manifest() -> None:
    old = networking(
        "DestinationRule",
        {"host": "a", "trafficPolicy": {}},
        version="v1alpha3",
        name="old",
    )
    between = {"from": "1.30.3", "to": "1.31.0"}
    answer = await Asking()("upgrade", manifest=yaml.safe_dump(old), **between)
    assert (answer["current"], answer["target"]) == ("1.30.3", "1.31.0")
    assert set(answer["counts"]) == {"error", "warning", "info"}


async def test_an_upgrade_of_a_cluster_starts_at_what_is_installed() -> None:
    ask = Asking()
    answer = await ask("upgrade", cluster="c1", to="1.31.0")
    assert answer["current"] == "1.30.3"
    assert ask.cluster.asked[1]["kinds"] == sorted(SERVED)
    assert sorted(ask.definitions.asked) == ["1.30.1", "1.31.0"]


async def test_an_upgrade_of_given_objects_asks_no_cluster() -> None:
    ask = Asking()
    answer = await ask(
        "upgrade", objects=[destination_rule({})], cluster="c1", to="1.31.0", **{"from": "1.30.3"}
    )
    assert answer["target"] == "1.31.0"
    assert ask.tokens == []


async def test_an_upgrade_between_unknown_versions_does_without_definitions() -> None:
    ask = Asking()
    answer = await ask("upgrade", objects=[], to="1.29.0", **{"from": "1.28.0"})
    assert answer["changes"] == [] or all(c["rule"] != "schema" for c in answer["changes"])


async def test_versions_are_listed() -> None:
    assert await Asking()("versions") == {"versions": ["1.31.0", "1.30.1"]}


# ---- Questions that cannot be answered -----------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "question", "error"),
    [
        ("translate", {}, ManifestMalformed),
        ("translate", {"manifest": 7}, MalformedRequest),
        ("translate", {"manifest": None}, MalformedRequest),
        ("translate", {"manifest": "a: ["}, ManifestMalformed),
        ("translate", {"manifest": VIRTUAL_SERVICE, "namespace": ["a"]}, MalformedRequest),
        ("translate", {"manifest": VIRTUAL_SERVICE, "cluster": {}}, MalformedRequest),
        ("translate", {"manifest": yaml.safe_dump(designs.definitions())}, DesignMalformed),
        (
            "translate",
            {"manifest": yaml.safe_dump(obj("install.istio.io/v1alpha1", "IstioOperator", {}))},
            ManifestRefused,
        ),
        ("validate", {"manifest": VIRTUAL_SERVICE, "istioVersion": "1.2.3"}, SchemasMissing),
        ("validate", {"manifest": VIRTUAL_SERVICE, "istioVersion": "x" * 5000}, SchemasMissing),
        ("upgrade", {}, ManifestMalformed),
        ("upgrade", {"manifest": VIRTUAL_SERVICE}, MalformedRequest),
        ("upgrade", {"manifest": VIRTUAL_SERVICE, "to": "1.31.0"}, MalformedRequest),
        ("upgrade", {"cluster": "c1"}, MalformedRequest),
        ("upgrade", {"objects": [], "from": "new", "to": "newer"}, OptionsMalformed),
        ("upgrade", {"objects": [7], "from": "1.30.0", "to": "1.31.0"}, ManifestMalformed),
        ("upgrade", {"objects": [{}], "from": "1.30.0", "to": "1.31.0"}, ManifestMalformed),
        (
            "upgrade",
            {
                "objects": [{"apiVersion": "v1", "kind": "A", "metadata": "a"}],
                "from": "1.30.0",
                "to": "1.31.0",
            },
            ManifestMalformed,
        ),
    ],
)
async def test_a_question_that_makes_no_sense_gets_our_error(
    verb: str, question: dict[str, Any], error: type[MeshbusError]
) -> None:
    with pytest.raises(error) as caught:
        await Asking()(verb, **question)
    assert caught.value.remedy
