"""Each code of IST on its cases: one at least that it must find, one that it must not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.topology.analysis.catalog import CODES, LEFT_OUT
from services.topology.analysis.rules import RULES
from tests.unit.topology.analysis.ist.cases.all import ALL
from tests.unit.topology.analysis.ist.worlds import Case, findings_of, key_of, state_of, world

_CODES = [code for code in CODES if code.startswith("IST")]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_finds_just_what_is_wrong(case: Case) -> None:
    state = state_of([*world(case.world), *case.objects()])
    found = [finding for finding in findings_of(state) if case.code in finding.codes]
    assert {str(finding.object) for finding in found} == case.ours
    for finding in found:
        assert finding.message
        assert "\n" not in finding.message
        assert finding.cause
        assert finding.remedy


@pytest.mark.parametrize("case", [case for case in ALL if case.finds], ids=lambda case: case.name)
def test_paths_lead_to_a_place_in_the_object(case: Case) -> None:
    objects = [*world(case.world), *case.objects()]
    by_name = {str(key_of(obj)): obj for obj in objects}
    for finding in findings_of(state_of(objects)):
        if case.code in finding.codes and finding.path:
            holder: Any = by_name[str(finding.object)]
            # What the last step names may be what is missing.
            for step in re.findall(r"\w+", finding.path)[:-1]:
                holder = holder[int(step) if step.isdecimal() else step]
            assert isinstance(holder, (dict, list))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("host-missing", "spec.http[0].route[0].destination.host"),
        ("mirror-missing", "spec.http[0].mirror.host"),
        ("mirrors-missing", "spec.http[0].mirrors[0].destination.host"),
        ("port-missing", "spec.http[0].route[0].destination.port.number"),
        ("subset-missing", "spec.http[0].route[0].destination.subset"),
        ("gateway-missing", "spec.gateways[0]"),
        ("namespace-not", "spec.rules[0].from[0].source.notNamespaces[0]"),
        ("ist0130-3", "spec.http[1]"),
        ("ist0131-1", "spec.http[1].match[0]"),
        ("ist0129-1", "spec.trafficPolicy.portLevelSettings[0].tls"),
        ("ist0144-3", "spec.containers[0].securityContext.runAsUser"),
        ("ist0173-1", "spec.subsets[0].labels"),
    ],
)
def test_names_the_place(name: str, path: str) -> None:
    case = next(case for case in ALL if case.name == name)
    found = findings_of(state_of([*world(case.world), *case.objects()]))
    assert [finding.path for finding in found if case.code in finding.codes] == [path]


@pytest.mark.parametrize("code", _CODES)
def test_each_code_has_a_case_that_it_finds_and_one_that_passes(code: str) -> None:
    outcomes = {bool(case.ours) for case in ALL if case.code == code}
    assert outcomes == {True, False}


def test_a_case_that_differs_from_istioctl_says_why() -> None:
    for case in ALL:
        assert bool(case.because) == (case.istioctl is not None), case.name


def test_each_case_has_a_namespace_of_its_own() -> None:
    assert len({case.name for case in ALL}) == len(ALL)


def test_catalogue_and_rules_name_the_same_codes() -> None:
    found = {code for rule in RULES for code in rule.codes}
    assert {code for code in found if code.startswith("IST")} == set(_CODES)
    assert all(re.fullmatch(r"IST\d{4}", code) for code in _CODES)


def test_no_code_is_both_implemented_and_not() -> None:
    assert not set(_CODES) & set(LEFT_OUT)
