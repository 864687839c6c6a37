"""What Istio's webhook would say of an object."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from services.translator.reports import Finding, Level, errors
from services.translator.validity.judging import CHECKS, judged
from services.translator.validity.parts import rules
from tests.unit.translator.validity.table import Case, cases

OLDER, NEWER = "1.30.3", "1.31.0"
ROUTE = {"route": [{"destination": {"host": "a"}}]}


def of(verdict: str) -> list[Case]:
    return [case for case in cases() if case.verdict == verdict]


def virtual_service(*routes: Any, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"hosts": ["a"], "http": list(routes), **spec},
    }


def told(found: Sequence[Finding]) -> list[str]:
    return [f"{finding.place}: {finding.message}" for finding in found]


def test_the_table_has_every_kind() -> None:
    assert {case.kind for case in cases()} == {kind for _, kind in CHECKS}
    assert len(cases()) > 1000


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_what_istio_takes_has_no_error(version: str) -> None:
    wrongly = [(str(case), found) for case in of("right") if (found := _errors(case, version))]
    assert wrongly == []


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_what_istio_refuses_has_an_error_at_its_place(version: str) -> None:
    for case in of("wrong"):
        found = errors(judged(case.obj, target=version))
        assert case.at in [finding.place for finding in found], (str(case), told(found))


def _errors(case: Case, version: str) -> list[str]:
    return told(errors(judged(case.obj, target=version)))


def test_what_only_an_older_istio_refuses() -> None:
    for case in of("wrong before 1.31"):
        assert _errors(case, OLDER)
        assert not _errors(case, NEWER)
        assert not told(errors(judged(case.obj)))


def test_what_runs_although_istioctl_refuses_it_is_a_warning() -> None:
    for case in of("noted"):
        found = judged(case.obj)
        assert {finding.level for finding in found} == {Level.WARNING}
        assert case.at in [finding.place for finding in found]


def test_every_rule_is_used_and_there() -> None:
    folder = Path("services/translator/validity")
    code = "".join(path.read_text() for path in folder.rglob("*.py"))
    used = set(re.findall(r'"([a-z]+(?:-[a-z]+)+|negative|checksum)"', code))
    assert [name for name in rules() if name not in used] == []


def test_all_faults_come_at_once_with_a_remedy() -> None:
    obj = virtual_service(
        {"match": [{"uri": {"regex": "^/(?!admin).*"}}], **ROUTE},
        {"route": [{"destination": {"host": "a"}, "weight": -1}]},
        {"match": [{"uri": {"prefix": "/a"}}]},
    )
    found = errors(judged(obj))

    assert [finding.place for finding in found] == [
        "spec.http[0].match[0].uri.regex",
        "spec.http[1].route[0].weight",
        "spec.http[2]",
    ]
    assert all(finding.remedy for finding in found)


def test_a_place_that_is_told_already_is_not_told_again() -> None:
    obj = virtual_service({"route": [{"destination": {"host": "a"}, "weight": -1}]})
    known = judged(obj)

    assert known
    assert judged(obj, known=known) == []


@pytest.mark.parametrize("value", [None, 7, "a", [], {}, [7], [[]], {"a": None}])
def test_values_of_a_wrong_type_are_left_to_the_definitions(value: Any) -> None:
    for case in cases()[::7]:
        for changed in _with_each_part_replaced(case.obj["spec"], value):
            judged({**case.obj, "spec": changed})


def _with_each_part_replaced(spec: Any, value: Any) -> Iterator[Any]:
    """The spec with one field of its first two levels replaced at a time."""
    yield value
    if not isinstance(spec, dict):
        return
    for name, part in spec.items():
        yield {**spec, name: value}
        if isinstance(part, list) and part:
            yield {**spec, name: [value]}
            if isinstance(part[0], dict):
                for inner in part[0]:
                    yield {**spec, name: [{**part[0], inner: value}]}


def routes(count: int) -> list[Any]:
    return [{"match": [{"uri": {"prefix": f"/{number}"}}], **ROUTE} for number in range(count)]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: virtual_service(*routes(n)), id="routes"),
        pytest.param(
            lambda n: virtual_service(ROUTE, hosts=[f"*.a{i}.example" for i in range(n)]),
            id="hosts",
        ),
        pytest.param(
            lambda n: virtual_service({**ROUTE, "headers": {"request": {"set": {"a": "%(" * n}}}}),
            id="format",
        ),
        pytest.param(
            lambda n: virtual_service({**ROUTE, "match": [{"uri": {"prefix": "/a" * n}}] * 2}),
            id="prefix",
        ),
    ],
)
def test_no_rule_takes_more_than_its_share(make: Any) -> None:
    """Ten times as much takes about ten times as long, not a hundred."""

    def taken(count: int) -> float:
        obj = make(count)
        best = 10.0
        for _ in range(3):
            start = time.process_time()
            judged(obj)
            best = min(best, time.process_time() - start)
        return best

    assert taken(4000) < 40 * taken(400) + 0.02
