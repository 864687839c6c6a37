"""Compliance reports as a table for spreadsheets and as a page for people.

The page stands alone: it has its styles inside and forbids itself everything else. Where a server's
policy forbids inline styles, it links the stylesheet that it is given instead.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from services.topology.cluster.kinds import short
from services.topology.cluster.objects import Key
from services.topology.mesh.security import Mode
from services.topology.reports.clusterreports import ClusterReport, Line, Root, totals
from services.topology.reports.posture import Access, How

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
    "findings",
)
_SOON = timedelta(days=30)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """\
:root { color-scheme: light dark; --bad: #b3261e; --warn: #8a5a00; --good: #1b6e42; }
@media (prefers-color-scheme: dark) {
  :root { --bad: #ff8a80; --warn: #f0c15c; --good: #7fd6a4; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid #8886; overflow-wrap: anywhere; }
.bad { color: var(--bad); } .warn { color: var(--warn); } .good { color: var(--good); }
"""
_MODES = {
    Mode.STRICT: "good",
    Mode.PERMISSIVE: "warn",
    Mode.DISABLE: "bad",
    Mode.NONE: "bad",
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
        line.findings,
    )


def _named(key: Key | None) -> str:
    return f"{key.namespace}/{key.name}" if key is not None else ""


# --- HTML -----------------------------------------------------------------------------------------


def to_html(reports: Sequence[ClusterReport], *, stylesheet: str | None = None) -> str:
    """A whole page. `stylesheet` is the address of one to link instead of the styles inside."""
    if stylesheet is None:
        head = (
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f"<style>{_STYLE}</style>"
        )
    else:
        head = f'<link rel="stylesheet" href="{escape(stylesheet)}">'
    body = "\n".join(_cluster(report) for report in reports) or "<p>No cluster is watched.</p>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Mesh compliance</title>\n{head}\n</head>\n"
        f"<body>\n<main>\n<h1>Mesh compliance</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _cluster(report: ClusterReport) -> str:
    counted = totals(report)
    figures = [(text, str(counted[name])) for name, text in _FIGURES.items()]
    figures += [(f"Findings: {level}", str(count)) for level, count in report.findings.items()]
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in figures
    )
    return (
        f"<section>\n<h2>{escape(report.name or report.cluster)}</h2>\n"
        f"<p>As of {escape(_time(report.made))}</p>\n"
        f"<table>{rows}</table>\n<h3>Root certificates</h3>\n{_roots(report)}\n"
        f"<h3>Workloads</h3>\n{_workloads(report)}\n</section>"
    )


def _workloads(report: ClusterReport) -> str:
    head = _head(COLUMNS[1:])
    rows = []
    for line in report.lines:
        posture = line.posture
        classes = {
            "mesh": "bad" if posture.how is How.NONE else "good",
            "mTLS": _MODES.get(posture.mtls.mode, ""),
            "access by default": "good" if posture.access is Access.DENIED else "warn",
            "meshed pods": "warn" if 0 < posture.meshed_pods < posture.pods else "",
            "findings": "warn" if line.findings else "",
        }
        cells = zip(COLUMNS[1:], _values(line), strict=True)
        rows.append(
            "<tr>"
            + "".join(_td(str(value), classes.get(column, "")) for column, value in cells)
            + "</tr>"
        )
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _roots(report: ClusterReport) -> str:
    if not report.roots:
        return "<p>No webhook of Istio names one.</p>"
    head = _head(("Trusted by", "Subject", "Holds until", "SHA-256"))
    rows = "".join(_root(root, report.made) for root in report.roots)
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _root(root: Root, now: datetime) -> str:
    place = f"{short(root.source.kind)} {root.source.name} {root.part}".strip()
    found = root.certificate
    if found is None:
        return f"<tr>{_td(place)}{_td(f'not readable: {root.error}', 'bad')}<td></td><td></td></tr>"
    left = found.not_after - now
    mark = "bad" if left <= timedelta(0) else "warn" if left <= _SOON else "good"
    until = f"{_time(found.not_after)}{' (expired)' if left <= timedelta(0) else ''}"
    return f"<tr>{_td(place)}{_td(found.subject)}{_td(until, mark)}{_td(found.sha256[:16])}</tr>"


def _head(names: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr>"


def _td(text: str, mark: str = "") -> str:
    return f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")
