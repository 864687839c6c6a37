"""Our verdict on objects beside the API server's, with the real definitions.

What is compared is whether an object is refused, by a server-side apply that is only tried
(`dryRun=All`) and that refuses unknown fields (`fieldValidation=Strict`).
"""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import orjson
import pytest

from services.chassis.errors import ObjectInvalid
from services.chassis.kube.client import APPLY_PATCH, KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml_documents
from services.translator import smi
from services.translator.definitions.rules import Check, Checks
from services.translator.definitions.schemas import Definition, Schemas
from services.translator.definitions.validating import UNCHECKED, validate
from services.translator.options import Options
from services.translator.reports import errors
from tests.real.translator.definitions.judged import OBJECTS, ROUTES, made
from tests.real.translator.definitions.mutating import mutated
from tests.real.translator.definitions.translating import random_objects
from tests.testbed import building
from tests.testbed.clusters import Cluster, has_condition
from tests.testbed.recipe import DISTRIBUTIONS, ISTIO_VERSION
from tests.testbed.waiting import eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ISTIO = "istio.io"
GATEWAY_API = "gateway.networking.k8s.io"
SEEDS = 4
MUTANTS = 250
TRANSLATED = 25


def istio_text(version: str) -> str:
    folder = building.distributions_folder() / version / "manifests" / "charts" / "base" / "files"
    return (folder / "crd-all.gen.yaml").read_text()


def gateway_api_texts() -> list[str]:
    return [path.read_text() for path in sorted(building.gateway_api_folder().glob("*.yaml"))]


def definitions_in(text: str) -> list[KubeObject]:
    documents = read_yaml_documents(text, budget=Budget.trusted())
    return [obj for obj in documents if obj and obj["kind"] == "CustomResourceDefinition"]


def samples(version: str) -> Iterator[tuple[Path, KubeObject]]:
    """Every object of an Istio or Gateway API kind; what is no YAML is a template."""
    for path in sorted((building.distributions_folder() / version / "samples").rglob("*.y*ml")):
        try:
            documents = list(read_yaml_documents(path.read_text(), budget=Budget.trusted()))
        except ValueError:
            continue
        for obj in documents:
            is_named = isinstance(obj, dict) and "name" in (obj.get("metadata") or {})
            if is_named and Ref.of(obj).group.endswith((ISTIO, GATEWAY_API)):
                yield path, obj


@pytest.fixture(scope="module")
def schemas(built: None) -> Schemas:
    """Of the newest Istio and the Gateway API."""
    return Schemas.read([istio_text(ISTIO_VERSION), *gateway_api_texts()])


@pytest.fixture(scope="module")
async def defined(
    built: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[KubeClient]:
    """A cluster with all the definitions.

    It is one of its own, because taking away 25 definitions at once can take the API server
    minutes: its finalizer waits longer with each try that meets a storage not yet ready.
    """
    texts = [istio_text(ISTIO_VERSION), *gateway_api_texts()]
    definitions = [obj for text in texts for obj in definitions_in(text)]
    names = {obj["metadata"]["name"] for obj in definitions}
    with Cluster(tmp_path_factory.mktemp("definitions"), name="definitions") as cluster:
        for obj in definitions:
            cluster.api.request("POST", CRDS, obj)
        await eventually(
            lambda: names <= set(_established(cluster)), what="the definitions", within_s=60.0
        )
        async with KubeClient(parse_kubeconfig(cluster.kubeconfig_text)) as client:
            yield client


def _established(cluster: Cluster) -> Iterator[str]:
    for obj in cluster.api.request("GET", CRDS)["items"]:
        if has_condition(obj, "Established"):
            yield obj["metadata"]["name"]


async def refusal(client: KubeClient, schemas: Schemas, obj: KubeObject) -> str:
    """The API server's words against an object; "" when it would take it."""
    ref = Ref.of(obj)
    definition = definition_of(schemas, *ref.group_kind)
    place = f"/namespaces/{ref.namespace}" if definition.namespaced else ""
    query = {"dryRun": "All", "fieldValidation": "Strict", "fieldManager": "meshbus"}
    try:
        await client.request(
            "PATCH",
            f"/apis/{ref.api_version}{place}/{definition.plural}/{ref.name}",
            query={**query, "force": "true"},
            body=orjson.dumps(obj),
            content_type=APPLY_PATCH,
        )
    except ObjectInvalid as invalid:
        return invalid.summary
    return ""


def definition_of(schemas: Schemas, group: str, kind: str) -> Definition:
    definition = schemas.find(group, kind)
    assert definition is not None, (group, kind)
    return definition


def placed(obj: KubeObject, schemas: Schemas) -> KubeObject:
    """The object in the namespace that is always there, or in none."""
    metadata = {**obj["metadata"], "namespace": "default"}
    if not definition_of(schemas, *Ref.of(obj).group_kind).namespaced:
        del metadata["namespace"]
    return {**obj, "metadata": metadata}


# --- the definitions themselves -----------------------------------------------------------------


@pytest.mark.parametrize("version", DISTRIBUTIONS)
def test_all_definitions_of_istio_load(built: None, version: str) -> None:
    text = istio_text(version)
    schemas = Schemas.read([text])
    named = {
        (obj["spec"]["group"], obj["spec"]["names"]["kind"]): obj for obj in definitions_in(text)
    }

    assert len(named) == 15
    assert schemas.kinds() == set(named)
    for group_kind, obj in named.items():
        found = definition_of(schemas, *group_kind)
        assert found.plural == obj["spec"]["names"]["plural"]
        assert set(found.versions) == {v["name"] for v in obj["spec"]["versions"] if v["served"]}


@pytest.mark.parametrize("version", DISTRIBUTIONS)
def test_all_versions_of_an_istio_kind_have_one_schema(built: None, version: str) -> None:
    """What `in_version` rests on."""
    schemas = Schemas.read([istio_text(version)])

    for group_kind in schemas.kinds():
        known = definition_of(schemas, *group_kind).schemas
        assert len({id(schema) for schema in known.values()}) == 1, group_kind


def test_all_definitions_of_the_gateway_api_load(built: None) -> None:
    schemas = Schemas.read(gateway_api_texts())

    assert {("Gateway", True), ("GatewayClass", False), ("HTTPRoute", True)} <= {
        (kind, definition_of(schemas, group, kind).namespaced) for group, kind in schemas.kinds()
    }
    assert len(schemas.kinds()) == len([t for t in gateway_api_texts() if definitions_in(t)])


@pytest.mark.parametrize("version", [*DISTRIBUTIONS, GATEWAY_API])
def test_no_rule_and_no_pattern_is_beyond_us(built: None, version: str) -> None:
    texts = gateway_api_texts() if version == GATEWAY_API else [istio_text(version)]
    schemas = Schemas.read(texts)
    counted = 0
    for group_kind in schemas.kinds():
        definition = definition_of(schemas, *group_kind)
        for name in definition.versions:
            compiled = schemas.compiled(definition, name)
            assert compiled.unread_patterns == ()
            for check in _all_checks(compiled.checks):
                counted += bool(check.rules)
                problems = [rule.expression.problem for rule in check.rules]
                assert not any(problems), (group_kind, problems)

    assert counted > 50


def _all_checks(checks: Checks | None) -> Iterator[Check]:
    if checks is None:
        return
    if checks.own is not None:
        yield checks.own
    for below in (*checks.properties.values(), checks.items, checks.others):
        yield from _all_checks(below)


# --- valid objects ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", DISTRIBUTIONS)
def test_the_samples_are_valid(built: None, version: str) -> None:
    schemas = Schemas.read([istio_text(version)])
    seen = 0
    for path, obj in samples(version):
        found = validate(obj, schemas=schemas)
        assert errors(found) == [], path
        assert not [finding for finding in found if finding.rule == UNCHECKED], path
        seen += Ref.of(obj).group.endswith(ISTIO)

    assert seen > 50


async def test_the_samples_are_valid_in_every_version(
    defined: KubeClient, schemas: Schemas
) -> None:
    """The API server takes an object in any version that we make of it."""
    of_one_kind = {Ref.of(obj).group_kind: obj for _, obj in samples(ISTIO_VERSION)}
    for (group, kind), obj in of_one_kind.items():
        if not group.endswith(ISTIO):
            continue
        for version in definition_of(schemas, group, kind).versions:
            made = placed({**obj, "apiVersion": f"{group}/{version}"}, schemas)
            assert validate(made, schemas=schemas) == []
            assert await refusal(defined, schemas, made) == ""


# --- objects that somebody could write ----------------------------------------------------------


@pytest.mark.parametrize(("obj", "words"), OBJECTS.values(), ids=OBJECTS.keys())
async def test_the_api_server_says_the_same(
    obj: KubeObject, words: str, defined: KubeClient, schemas: Schemas
) -> None:
    found = errors(validate(obj, schemas=schemas))
    refused = await refusal(defined, schemas, obj)

    assert bool(found) == bool(refused), (found, refused)
    if words:
        assert [finding for finding in found if words in finding.message], found
    else:
        assert found == []


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_of_mutants_the_same_are_refused(
    seed: int, defined: KubeClient, schemas: Schemas
) -> None:
    """Right objects with one or two things broken or added at random, the same ones each time."""
    chosen = random.Random(seed)
    right = [obj for obj, words in OBJECTS.values() if not words]
    right += [placed(obj, schemas) for _, obj in samples(ISTIO_VERSION) if _is_served(obj, schemas)]
    refused_ones = 0
    for _ in range(MUTANTS):
        obj = chosen.choice(right)
        definition = definition_of(schemas, *Ref.of(obj).group_kind)
        schema = definition.schemas[obj["apiVersion"].rpartition("/")[2]]
        mutant = mutated(copy.deepcopy(obj), schema=schema, chosen=chosen)
        found = errors(validate(mutant, schemas=schemas))
        refused = await refusal(defined, schemas, mutant)
        assert bool(found) == bool(refused), (mutant, found, refused)
        refused_ones += bool(refused)

    assert MUTANTS / 5 < refused_ones < MUTANTS * 4 / 5


def _is_served(obj: KubeObject, schemas: Schemas) -> bool:
    version = obj["apiVersion"].rpartition("/")[2]
    return version in definition_of(schemas, *Ref.of(obj).group_kind).versions


def test_what_only_the_api_server_can_check_is_told(schemas: Schemas) -> None:
    obj = made(ROUTES, "GatewayClass", {"controllerName": "a.example/b"})
    [found] = validate(obj, schemas=schemas)

    assert (found.rule, found.place) == (UNCHECKED, "spec.controllerName")


# ---- What SMI objects become ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["istio", "gateway-api"])
@pytest.mark.parametrize("seed", range(TRANSLATED))
async def test_what_smi_objects_become_is_valid_and_taken(
    seed: int, form: Literal["istio", "gateway-api"], defined: KubeClient, schemas: Schemas
) -> None:
    given, facts = random_objects(seed)
    translation = smi.translate(
        given, known=[], facts=facts, options=Options(form=form), trust_domain="cluster.local"
    )
    assert errors(translation.findings) == []
    made_of_smi = [*translation.objects, *translation.kept]
    assert made_of_smi
    for obj in made_of_smi:
        assert validate(obj, schemas=schemas) == []
        assert await refusal(defined, schemas, obj) == ""
