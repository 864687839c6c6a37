"""Kiali's codes: each on a cluster that has it and on one that has not, and as the cluster changes.

`repaired` takes the one cluster to the other by single changes, so a rule that leaves too few marks
keeps a finding that is no longer true.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from services.topology.analysis.catalog import CODES, LEFT_OUT
from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import Level
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change
from services.topology.cluster.state import State
from tests.unit.topology.analysis.kia import ambients, policies, traffic
from tests.unit.topology.analysis.kia.cases import (
    SIDECARS,
    Case,
    analysis_of,
    deployment,
    objects_of,
    of_code,
    place,
    pod,
    service,
    settle,
)

CASES = (*policies.CASES, *traffic.CASES, *ambients.CASES)
BOTH = {
    "KIA0101": ("IST0101",),
    "KIA0202": ("IST0174",),
    "KIA0203": ("IST0173",),
    "KIA0302": ("IST0101",),
    "KIA0601": ("IST0118",),
    "KIA0602": ("IST0118",),
    "KIA1101": ("IST0101",),
    "KIA1102": ("IST0101", "IST0132"),
    "KIA1106": ("IST0109",),
    "KIA1107": ("IST0101",),
    "KIA1212": ("IST0177",),
}
"""istioctl's codes for the same mistake, which the finding carries first; its level is theirs."""
KNOWN = {code for code in CODES if code.startswith("KIA")}
ALL_CODES = """
    0002 0003 0004 0005 0101 0102 0104 0105 0106 0107 0108 0109 0110 0201 0202 0203 0204 0205 0206
    0207 0208 0209 0210 0211 0212 0301 0302 0401 0501 0505 0506 0601 0602 0701 1004 1006 1007 1101
    1102 1104 1105 1106 1107 1108 1109 1110 1111 1112 1113 1114 1115 1116 1117 1211 1212 1301 1311
    1312 1313 1314 1315 1316 1317 1401 1402 1501 1502 1503 1504 1601 1701 1702
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_code_is_found_where_it_is_and_nowhere_else(case: Case) -> None:
    found = of_code(analysis_of(case.wrong).findings, case.code)
    assert [place(finding) for finding in found] == sorted([(case.on, case.path), *case.also])
    codes = case.codes or (*BOTH.get(case.code, ()), case.code)
    assert {finding.codes for finding in found} == {codes}
    assert {finding.level for finding in found} == {case.level or CODES[codes[0]].level}
    for finding in found:
        assert finding.cause
        assert finding.remedy
        assert finding.message
        assert "\n" not in finding.message
    assert of_code(analysis_of(case.right).findings, case.code) == []


def test_every_code_of_the_catalogue_is_told_or_left_out_with_a_reason() -> None:
    codes = {f"KIA{number}" for number in ALL_CODES.split()}
    left_out = {code for code in LEFT_OUT if code.startswith("KIA")}
    assert len(codes) == 72
    assert KNOWN | left_out == codes
    assert not KNOWN & left_out
    assert {code for rule in RULES for code in rule.codes if code.startswith("KIA")} == KNOWN


def test_every_code_that_is_told_has_a_case() -> None:
    """A case has a failing and a passing cluster."""
    assert {case.code for case in CASES} == KNOWN


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_what_is_told_after_changes_is_what_a_fresh_analysis_tells(case: Case) -> None:
    """In both directions, and in an order of changes that no rule knows."""
    order = random.Random(case.code)
    state = State("c1")
    analysis = Analysis(state, RULES)
    for text in (case.wrong, case.right, case.wrong, ""):
        wanted = {obj.key: obj for obj in objects_of(text)}
        gone = [obj.key for kind in state.kinds() for obj in state.all(kind)]
        steps: list[Change | None] = []
        work = [*((key, None) for key in gone if key not in wanted), *wanted.items()]
        order.shuffle(work)
        for key, obj in work:
            steps = [state.drop(key) if obj is None else state.put(obj)]
            analysis.touch(step for step in steps if step is not None)
            settle(analysis)
        fresh = analysis_of(text)
        assert set(analysis.findings) == set(fresh.findings)


def test_readiness_evaluates_nothing_and_the_end_of_a_pod_does() -> None:
    text = SIDECARS + deployment("a") + service("a") + pod("a", "{app: a}")
    analysis = analysis_of(text + policies.policy(policies.A))
    state = analysis.state
    (runs,), (workload,) = state.all(kinds.POD), state.all(kinds.DEPLOYMENT)
    for obj in (
        replace(runs, is_ready=not runs.is_ready, ip="10.0.0.9", phase="Running"),
        replace(workload, ready=2, wanted=3),
    ):
        change = state.put(obj)
        assert change is not None
        analysis.touch([change])
        assert not analysis.is_due
    change = state.put(replace(runs, phase="Succeeded"))
    assert change is not None
    analysis.touch([change])
    assert analysis.is_due


def test_a_lone_subset_without_labels_beside_others_is_a_remark() -> None:
    text = service("a") + traffic.rule(
        "dr", "{host: a, subsets: [{name: all}, {name: v1, labels: {version: v1}}]}"
    )
    (found,) = of_code(analysis_of(text).findings, "KIA0209")
    assert found.level is Level.INFO
