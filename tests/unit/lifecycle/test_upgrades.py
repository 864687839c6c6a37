"""What an upgrade's report keeps back and what it only tells."""

from __future__ import annotations

from typing import Any

import pytest

from services.chassis.errors import (
    BusUnavailable,
    ClusterForbidden,
    MeshbusError,
    PrecheckRefused,
    WorkerUnavailable,
)
from services.lifecycle.mesh.prechecks import judged, unchecked


def change(level: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    """As `mesh.translator.upgrade` tells it."""
    return {
        "level": level,
        "rule": "schema",
        "since": "1.31",
        "object": f"VirtualService shop/v{number}",
        "path": "spec.http[0]",
        "reason": "is gone",
        "remedy": "write it anew",
        "rewritten": None,
    } | fields


TOLD = "VirtualService shop/v0 spec.http[0]: is gone (write it anew)"


@pytest.mark.parametrize(
    ("level", "refusals", "warnings"),
    [("error", [TOLD], []), ("warning", [], [TOLD]), ("info", [], []), ("other", [], [])],
)
def test_errors_refuse_and_warnings_are_told(
    level: str, refusals: list[str], warnings: list[str]
) -> None:
    findings = judged({"changes": [change(level)]})
    assert (findings.refusals, findings.warnings) == (refusals, warnings)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"path": ""}, "VirtualService shop/v0: is gone (write it anew)"),
        ({"remedy": ""}, "VirtualService shop/v0 spec.http[0]: is gone"),
        ({"path": "", "remedy": ""}, "VirtualService shop/v0: is gone"),
    ],
)
def test_what_is_not_known_is_not_told(fields: dict[str, Any], text: str) -> None:
    assert judged({"changes": [change("error", **fields)]}).refusals == [text]


@pytest.mark.parametrize("report", [{}, {"changes": []}, {"changes": None}])
def test_a_report_without_changes_keeps_nothing_back(report: dict[str, Any]) -> None:
    findings = judged(report)
    assert findings.settle(force=False) == []


@pytest.mark.parametrize(("count", "told"), [(9, 9), (10, 10), (11, 11), (5000, 11)])
def test_only_the_first_of_many_are_told(count: int, told: int) -> None:
    report = {"changes": [change("error", n) for n in range(count)] + [change("warning")]}
    findings = judged(report)
    assert len(findings.refusals) == told
    assert findings.warnings == [TOLD], "many of the one do not crowd out the other"
    assert findings.refusals[0] == TOLD
    if count > 10:
        assert findings.refusals[-1].startswith(f"{count - 10} more; ")
        assert "mesh.translator.upgrade" in findings.refusals[-1]


def test_errors_stop_an_upgrade_that_is_not_forced() -> None:
    findings = judged({"changes": [change("error"), change("warning", 1)]})
    with pytest.raises(PrecheckRefused, match="is gone"):
        findings.settle(force=False)
    assert findings.settle(force=True) == [
        f"forced although {TOLD}",
        TOLD.replace("v0", "v1"),
    ]


@pytest.mark.parametrize(
    "error",
    [
        WorkerUnavailable("no translator is connected"),
        BusUnavailable("no answer"),
        ClusterForbidden("virtualservices is forbidden"),
    ],
)
def test_without_an_answer_the_upgrade_goes_on_with_a_warning(error: MeshbusError) -> None:
    findings = unchecked(error, current="1.30.3", target="1.31.0")
    [warning] = findings.settle(force=False)
    assert warning == (
        "what 1.30.3 to 1.31.0 means for the cluster's objects was not checked: " + error.summary
    )
