"""The operation `istio-vet`: Istio's configuration in a cluster, checked against its definitions.

It validates every object of Istio's and the Gateway API's kinds, names deprecated forms, and looks
at EnvoyFilters and WasmPlugins. What needs a view of the running pods, and the analyzers' findings,
come from the topology service; where that does not watch the cluster, the result says so.
"""

from __future__ import annotations

from typing import TypeAlias

from services.chassis.errors import BusUnavailable, ClusterNotWatched, WorkerUnavailable
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import Phase, Severity
from services.chassis.operations.completion import Result
from services.translator.contexts import schemas_for
from services.translator.definitions.schemas import Schemas
from services.translator.definitions.validating import validate
from services.translator.deprecations.modernizing import modernized
from services.translator.extensions.filters import check_filter
from services.translator.extensions.plugins import check_plugin
from services.translator.options import Options
from services.translator.reports import Finding, Level, errors
from services.translator.work import Work

_OF_TOPOLOGY = (
    "podsinmesh, meshversion, applabel, serviceportprefix, serviceassociation, "
    "danglingroutedestinationhost, conflictingvirtualservicehost and the analyzers"
)
_MOST_EVENTS = 200
_SEVERITIES = {"error": Severity.WARN, "warning": Severity.WARN}
_SYSTEM_NAMESPACE = "istio-system"

_Told: TypeAlias = tuple[str, str, Severity]
"""A summary, its remedy, and how bad it is."""


async def run_vet(work: Work) -> Result:
    """One event for each finding, then a summary; it writes nothing."""
    facts = await work.cluster.facts()
    facts = await work.cluster.facts(kinds=facts.configuration_kinds())
    schemas, version, lines = await schemas_for(facts, Options(), work.definitions)
    for line in lines:
        work.progress.warn(f"{line.source}: {line.note}")
    root = facts.meshes[0].namespace if facts.meshes else _SYSTEM_NAMESPACE
    findings = [
        finding
        for obj in facts.objects
        for finding in vetted(obj, schemas=schemas, version=version, root_namespace=root)
    ]
    # What is wrong comes first, so that remarks crowd none of it out.
    findings.sort(key=lambda finding: finding.level is not Level.ERROR)
    told = [_of_definitions(finding) for finding in findings]
    running, missing = await _of_the_running(work)
    known = {_about(summary) for summary, *_ in told}
    running = [one for one in running if _about(one[0]) not in known]
    told += running
    for summary, details, severity in told[:_MOST_EVENTS]:
        # Findings about a mesh are news about it; the operation itself has not failed.
        work.progress.tell(Phase.NOTE, summary, details, severity=severity)
    if len(told) > _MOST_EVENTS:
        work.progress.note(f"{len(told) - _MOST_EVENTS} more findings were not told one by one")
    wrong = len(errors(findings)) + sum(1 for *_, level in running if level is Severity.WARN)
    counts = f"{len(facts.objects)} objects: {wrong} wrong, {len(told) - wrong} notes"
    if not facts.meshes:
        counts = f"Istio is not installed in this cluster; {counts}"
    return Result(
        "Vetting ran successfully",
        f"{counts}. {missing}".strip(),
        (("objects", len(facts.objects)), ("findings", len(told)), ("wrong", wrong)),
    )


async def _of_the_running(work: Work) -> tuple[list[_Told], str]:
    """What topology says, what is wrong first; and what is missing when it says nothing."""
    try:
        answer = await work.cluster.vetted()
    except (WorkerUnavailable, BusUnavailable, ClusterNotWatched) as error:
        return [], f"Not checked: {_OF_TOPOLOGY}, since {error.summary}."
    told = [
        (
            f"{finding['code']}: {_named(finding['object'])}: {finding['message']}",
            finding["remedy"],
            _SEVERITIES.get(finding["level"], Severity.INFO),
        )
        for finding in answer["findings"]
    ]
    told += [
        (f"{note['vetter']}: {note['text']}", "", _SEVERITIES.get(note["level"], Severity.INFO))
        for note in answer["notes"]
    ]
    told.sort(key=lambda one: one[2] is not Severity.WARN)
    return told, ""


def _about(summary: str) -> tuple[str, ...]:
    """Code and object of a summary: what both services find is told once."""
    return tuple(summary.split(": ")[:2])


def _named(place: dict[str, str]) -> str:
    parts = [part for part in (place["namespace"], place["name"]) if part]
    return f"{place['kind']} {'/'.join(parts)}"


def vetted(
    obj: KubeObject, *, schemas: Schemas | None, version: str, root_namespace: str
) -> list[Finding]:
    """Everything that can be said about one object alone; `version` "" stands for the newest."""
    target = version or None
    return [
        *(validate(obj, schemas=schemas) if schemas is not None else ()),
        *modernized(obj, target=target, root_namespace=root_namespace).findings,
        *check_filter(obj, target=target, root_namespace=root_namespace),
        *check_plugin(obj),
    ]


def _of_definitions(finding: Finding) -> _Told:
    severity = _SEVERITIES.get(finding.level.value, Severity.INFO)
    return f"{finding.rule}: {finding}", finding.remedy, severity
