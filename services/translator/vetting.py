"""The operation `istio-vet`: Istio's configuration in a cluster, checked against its definitions.

It validates every object of Istio's and the Gateway API's kinds, names deprecated forms, and checks
EnvoyFilters and WasmPlugins. The seven vetters and the analyzers are a projection of what the
topology service finds; where that does not watch the cluster, the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.chassis.errors import BusUnavailable, ClusterNotWatched, WorkerUnavailable
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import Phase, Severity
from services.chassis.operations.completion import Result
from services.translator.contexts import root_namespace, schemas_for
from services.translator.definitions.schemas import Schemas
from services.translator.definitions.validating import validate
from services.translator.deprecations.modernizing import modernized
from services.translator.extensions import check_extension
from services.translator.options import Options
from services.translator.reports import Finding
from services.translator.validity.judging import judged
from services.translator.work import Work

_OF_TOPOLOGY = (
    "podsinmesh, meshversion, applabel, serviceportprefix, serviceassociation, "
    "danglingroutedestinationhost, conflictingvirtualservicehost and the analyzers"
)
_MOST_EVENTS = 200
_LEVELS = ("error", "warning", "info")
_SEVERITIES = {"error": Severity.WARN, "warning": Severity.WARN, "info": Severity.INFO}
"""Findings about a mesh are news about it; the operation itself has not failed."""


@dataclass(frozen=True, slots=True)
class _Remark:
    """One finding of the translator or of topology, as it is streamed."""

    summary: str
    remedy: str
    level: str

    @property
    def severity(self) -> Severity:
        return _SEVERITIES.get(self.level, Severity.INFO)

    @property
    def place(self) -> int:
        """What is worst comes first."""
        return _LEVELS.index(self.level) if self.level in _LEVELS else len(_LEVELS)

    @property
    def about(self) -> tuple[str, ...]:
        """Its code and object: a finding of both services is streamed once."""
        return tuple(self.summary.split(": ")[:2])


async def run_vet(work: Work) -> Result:
    """Streams one event for each finding, then a summary; it writes nothing."""
    facts = await work.cluster.facts()
    facts = await work.cluster.facts(kinds=facts.configuration_kinds())
    schemas, version, lines = await schemas_for(facts, Options(), work.definitions)
    for line in lines:
        work.progress.warn(f"{line.source}: {line.note}")
    root = root_namespace(facts)
    own = [
        _of_translator(finding)
        for obj in facts.objects
        for finding in vetted(obj, schemas=schemas, version=version, root_namespace=root)
    ]
    known = {remark.about for remark in own}
    running, missing = await _of_topology(work)
    running = [remark for remark in running if remark.about not in known]
    # Errors come first, so that they are streamed even where remarks are too many.
    remarks = [
        *sorted(own, key=lambda remark: remark.place),
        *sorted(running, key=lambda remark: remark.place),
    ]
    for remark in remarks[:_MOST_EVENTS]:
        work.progress.tell(Phase.NOTE, remark.summary, remark.remedy, severity=remark.severity)
    if len(remarks) > _MOST_EVENTS:
        work.progress.note(f"{len(remarks) - _MOST_EVENTS} more findings were not told one by one")
    wrong, warnings, notes = (
        sum(remark.place in places for remark in remarks) for places in ((0,), (1,), (2, 3))
    )
    counts = f"{len(facts.objects)} objects: {wrong} wrong, {warnings} warnings, {notes} notes"
    if not facts.meshes:
        counts = f"Istio is not installed in this cluster; {counts}"
    return Result(
        "Vetting ran successfully",
        f"{counts}. {missing}".strip(),
        (
            ("objects", len(facts.objects)),
            ("findings", len(remarks)),
            ("wrong", wrong),
            ("warnings", warnings),
            ("notes", notes),
        ),
    )


async def _of_topology(work: Work) -> tuple[list[_Remark], str]:
    """Remarks of topology on the running cluster; and a note on what is missing without them."""
    try:
        answer = await work.cluster.vetted()
    except (WorkerUnavailable, BusUnavailable, ClusterNotWatched) as error:
        return [], f"Not checked: {_OF_TOPOLOGY}, since {error.summary}."
    remarks = [
        _of_running(f"{found['code']}: {_named(found['object'])}: {found['message']}", found)
        for found in answer["findings"]
    ]
    # A note with codes repeats a finding.
    remarks += [
        _of_running(f"{note['vetter']}: {note['text']}", note)
        for note in answer["notes"]
        if not note.get("codes")
    ]
    return remarks, ""


def _of_running(summary: str, found: dict[str, Any]) -> _Remark:
    return _Remark(summary, found.get("remedy", ""), found["level"])


def _of_translator(finding: Finding) -> _Remark:
    return _Remark(f"{finding.rule}: {finding}", finding.remedy, finding.level)


def _named(place: dict[str, str]) -> str:
    parts = [part for part in (place["namespace"], place["name"]) if part]
    return f"{place['kind']} {'/'.join(parts)}"


def vetted(
    obj: KubeObject, *, schemas: Schemas | None, version: str, root_namespace: str
) -> list[Finding]:
    """All findings about one object alone; `version` "" stands for the newest."""
    target = version or None
    found = [
        *(validate(obj, schemas=schemas) if schemas is not None else ()),
        *modernized(obj, target=target, root_namespace=root_namespace).findings,
        *check_extension(obj, target=target, root_namespace=root_namespace),
    ]
    return [*found, *judged(obj, target=target, known=found)]
