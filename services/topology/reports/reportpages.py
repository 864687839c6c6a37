"""Compliance reports as a table for spreadsheets and as a page for people.

The page (`compliance.html`) stands alone: it has its styles inside and forbids itself everything
else. Where a server's policy forbids inline styles, it links the stylesheet that it is given.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from services.topology.cluster.kinds import short
from services.topology.cluster.objects import Key, Standing
from services.topology.mesh.security import Mode
from services.topology.reports.checks import Check
from services.topology.reports.compliance import ClusterReport, Line, Root, totals
from services.topology.reports.posture import Access, How

if TYPE_CHECKING:
    from jinja2 import Template

COLUMNS = (
    "cluster",
    "namespace",
    "kind",
    "name",
    "mesh",
    "pods",
    "meshed pods",
    "mTLS",
    "mTLS from",
    "mTLS of ports",
    "access by default",
    "policies",
    "proxy version",
    "proxies",
    "certificate until",
    "findings",
    "team",
)
_SOON = timedelta(days=30)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MODES = {
    Mode.STRICT: "good",
    Mode.PERMISSIVE: "warn",
    Mode.DISABLE: "bad",
    Mode.NONE: "bad",
}
_STANDINGS = {
    Standing.SYNCED: "good",
    Standing.STALE: "warn",
    Standing.REJECTED: "bad",
    Standing.LOST: "bad",
}
_FIGURES = {
    "workloads": "Workloads",
    "inMesh": "In the mesh",
    "partlyInMesh": "In the mesh with some of their pods",
    "strict": "mTLS strict",
    "permissive": "mTLS permissive",
    "disabled": "mTLS disabled",
    "portExceptions": "With other modes for single ports",
    "withPolicy": "With an authorization policy",
    "deniedByDefault": "Deny what no policy allows",
    "proxiesInSync": "All proxies in sync with their control plane",
    "proxiesNotInSync": "Proxies stale, rejecting or lost",
    "proxiesNotSupported": "Proxies of a version that does not go with the control plane's",
}


# --- CSV ------------------------------------------------------------------------------------------


def to_csv(reports: Sequence[ClusterReport]) -> str:
    """One line per workload, as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for report in reports:
        name = report.name or report.cluster
        for line in report.lines:
            writer.writerow([_cell(value) for value in (name, *_values(line))])
    return text.getvalue()


def history_csv(answer: Mapping[str, Any]) -> str:
    """How compliance went (`handlers.Handlers.compliance` with `since`): a line for each moment,
    group and check."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(("moment", answer["by"], "check", "passing", "failing", "workloads"))
    for line in answer["lines"]:
        for moment, point in zip(answer["moments"], line["points"], strict=True):
            for check in Check if point is not None else ():
                counts = [point[kind].get(check.value, 0) for kind in ("passing", "failing")]
                writer.writerow(
                    (moment, _cell(line["key"]), check.value, *counts, point["workloads"])
                )
    return text.getvalue()


def _cell(value: str | int) -> str | int:
    """A text that a spreadsheet would take for a formula is marked as text."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _values(line: Line) -> tuple[str | int, ...]:
    posture = line.posture
    key, mtls = posture.object, posture.mtls
    return (
        key.namespace,
        short(key.kind),
        key.name,
        posture.how.value,
        posture.pods,
        posture.meshed_pods,
        mtls.mode.value,
        _named(mtls.source),
        " ".join(f"{port}:{mode.value}" for port, mode in mtls.ports),
        posture.access.value,
        " ".join(f"{action}:{_named(policy)}" for action, policy in posture.policies),
        posture.proxy_version,
        line.proxies.standing.value if posture.proxy_version else "",
        line.proxies.expires,
        line.findings,
        line.team,
    )


def _named(key: Key | None) -> str:
    return f"{key.namespace}/{key.name}" if key is not None else ""


# --- HTML -----------------------------------------------------------------------------------------


def to_html(reports: Sequence[ClusterReport], *, stylesheet: str | None = None) -> str:
    """A whole page. `stylesheet` is the address of one to link instead of the styles inside."""
    return _page().render(
        clusters=[_cluster(report) for report in reports],
        columns=COLUMNS[1:],
        stylesheet=stylesheet,
    )


@cache
def _page() -> Template:
    """Made when the first report is asked for: who needs none starts without jinja2."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("services.topology.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template("compliance.html")


def _cluster(report: ClusterReport) -> dict[str, Any]:
    counted = totals(report)
    figures = [(text, counted[name]) for name, text in _FIGURES.items()]
    figures += [(f"Findings: {level}", count) for level, count in report.findings.items()]
    return {
        "name": report.name or report.cluster,
        "made": _time(report.made),
        "figures": figures,
        "roots": [_root(root, report.made) for root in report.roots],
        "workloads": [_cells(line) for line in report.lines],
    }


def _cells(line: Line) -> list[tuple[str | int, str]]:
    """Each column's value, and the class that its cell gets."""
    posture = line.posture
    classes = {
        "mesh": "bad" if posture.how is How.NONE else "good",
        "mTLS": _MODES.get(posture.mtls.mode, ""),
        "access by default": "good" if posture.access is Access.DENIED else "warn",
        "meshed pods": "warn" if 0 < posture.meshed_pods < posture.pods else "",
        "proxy version": "" if line.proxies.is_supported else "warn",
        "proxies": _STANDINGS.get(line.proxies.standing, "") if posture.proxy_version else "",
        "findings": "warn" if line.findings else "",
    }
    values = zip(COLUMNS[1:], _values(line), strict=True)
    return [(value, classes.get(column, "")) for column, value in values]


def _root(root: Root, now: datetime) -> list[tuple[str, str]]:
    """Its place, its subject, its end, and the beginning of its fingerprint."""
    place = f"{short(root.source.kind)} {root.source.name} {root.part}".strip()
    found = root.certificate
    if found is None:
        return [(place, ""), (f"not readable: {root.error}", "bad"), ("", ""), ("", "")]
    left = found.not_after - now
    mark = "bad" if left <= timedelta(0) else "warn" if left <= _SOON else "good"
    until = f"{_time(found.not_after)}{' (expired)' if left <= timedelta(0) else ''}"
    return [(place, ""), (found.subject, ""), (until, mark), (found.sha256[:16], "")]


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")
