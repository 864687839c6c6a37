"""What we call valid and what the real `istioctl validate` of each version does, both ways.

Ours is the whole verdict that a request gets: by the definition, by our checks of extensions, and
by Istio's rules beyond both.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.chassis.kube.objects import KubeObject
from services.translator.definitions.schemas import Schemas
from services.translator.reports import Finding, errors
from services.translator.validity.judging import judged
from services.translator.vetting import vetted
from tests.real.translator.validity.istioctl import Answer, answers
from tests.testbed import building
from tests.testbed.recipe import DISTRIBUTIONS, ISTIO_VERSION
from tests.unit.translator.validity.table import Case, cases

MUTANTS = 600
SEEDS = 2
# What only Envoy's own definitions tell, which istioctl has and Meshbus has not.
OF_ENVOY = "Envoy filter: "


@cache
def schemas(version: str) -> Schemas:
    base = building.distributions_folder() / version / "manifests" / "charts" / "base"
    return Schemas.read([(base / "files" / "crd-all.gen.yaml").read_text()])


def ours(obj: KubeObject, version: str) -> list[Finding]:
    return vetted(obj, schemas=schemas(version), version=version, root_namespace="istio-system")


@pytest.mark.parametrize("version", DISTRIBUTIONS)
def test_istioctl_and_we_say_the_same(built: None, version: str, tmp_path: Path) -> None:
    """Disagreements are those that the table names, and each of them is one."""
    table = cases()
    said = answers([case.obj for case in table], version=version, folder=tmp_path)
    wrongly = [
        (str(case), answer, [str(finding) for finding in found])
        for case, answer in zip(table, said, strict=True)
        if not _is_as_told(case, answer, found := ours(case.obj, version), version)
    ]
    assert wrongly == []


def _is_as_told(case: Case, answer: Answer, found: list[Finding], version: str) -> bool:
    theirs, own = bool(answer.errors), bool(errors(found))
    match case.verdict:
        case "right":
            return not theirs and not own
        case "wrong" | "wrong by definition":
            return theirs and own
        case "wrong before 1.31":
            is_newest = version == ISTIO_VERSION
            return theirs == own == (not is_newest)
        case "stricter":
            return not theirs and own
        case "noted":
            return theirs and not own and bool(found)
    return False


@pytest.mark.parametrize("version", DISTRIBUTIONS)
def test_what_istioctl_warns_of_is_no_error(built: None, version: str, tmp_path: Path) -> None:
    table = [case for case in cases() if case.verdict == "right"]
    said = answers([case.obj for case in table], version=version, folder=tmp_path)

    assert sum(bool(answer.warnings) for answer in said) > 20
    assert not any(answer.errors for answer in said)


# ---- Objects by chance ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(SEEDS))
def test_of_mutants_the_same_are_refused(built: None, seed: int, tmp_path: Path) -> None:
    """Objects of the table with one or two values exchanged or taken out, the same each time.

    Those that their definition refuses are left out: istioctl does not look at it.
    """
    dice = random.Random(seed)
    values = _values_by_place()
    mutants = [
        mutant
        for mutant in _mutants(dice, values)
        if not errors(_by_definition(mutant)) and not _is_by_chance(mutant)
    ]
    said = answers(mutants, version=ISTIO_VERSION, folder=tmp_path)
    wrongly = [
        (mutant, answer, [str(finding) for finding in found])
        for mutant, answer in zip(mutants, said, strict=True)
        if bool(errors(found := judged(mutant, target=ISTIO_VERSION))) != bool(answer.errors)
        and not _is_of_envoy(answer)
    ]
    refused = sum(bool(answer.errors) for answer in said)

    assert wrongly == []
    assert len(mutants) / 5 < refused < len(mutants) * 4 / 5


def _is_of_envoy(answer: Answer) -> bool:
    return all(OF_ENVOY in error for error in answer.errors) and bool(answer.errors)


def _is_by_chance(obj: KubeObject) -> bool:
    """Istio goes through the shares of a locality in an order of chance, and says accordingly."""
    policy = obj["spec"].get("trafficPolicy", {})
    return "distribute" in str(policy.get("loadBalancer", {}))


def _by_definition(obj: KubeObject) -> list[Finding]:
    return [
        finding
        for finding in ours(obj, ISTIO_VERSION)
        if finding.rule in ("schema", "cel", "version")
    ]


def _values_by_place() -> dict[tuple[str, ...], list[Any]]:
    """All values of the table that stand at one place of one kind."""
    values: dict[tuple[str, ...], list[Any]] = {}
    for case in _mutable():
        for path, value in _walked(case.obj["spec"]):
            values.setdefault((case.kind, *_place(path)), []).append(value)
    return values


def _mutable() -> list[Case]:
    return [case for case in cases() if case.kind != "Service" and len(str(case.obj)) < 2000]


def _mutants(dice: random.Random, values: dict[tuple[str, ...], list[Any]]) -> Iterator[KubeObject]:
    sources = [case.obj for case in _mutable()]
    for _ in range(MUTANTS):
        mutant = copy.deepcopy(dice.choice(sources))
        for _ in range(dice.choice((1, 1, 2))):
            _mutate(mutant, dice, values)
        yield mutant


def _mutate(obj: KubeObject, dice: random.Random, values: dict[tuple[str, ...], list[Any]]) -> None:
    places = [path for path, _ in _walked(obj["spec"]) if path]
    if not places:
        return
    path = dice.choice(places)
    holder: Any = obj["spec"]
    for part in path[:-1]:
        holder = holder[part]
    if dice.random() < 0.25:
        del holder[path[-1]]
        return
    known = values[(obj["kind"], *_place(path))] if dice.random() < 0.8 else ["", "a b", "*", 0]
    holder[path[-1]] = copy.deepcopy(dice.choice(known))


def _place(path: Sequence[str | int]) -> tuple[str, ...]:
    return tuple("*" if isinstance(part, int) else part for part in path)


def _walked(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    yield path, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _walked(part, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walked(item, (*path, index))
