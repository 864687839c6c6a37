"""The operation `istio-vet`: Istio's configuration in a cluster, checked against its definitions.

It validates every object of Istio's and the Gateway API's kinds, names deprecated forms, and looks
at EnvoyFilters and WasmPlugins. What needs a view of the running pods belongs to the topology
service; until that runs, the result names it as not done.
"""

from __future__ import annotations

from services.chassis.kube.objects import KubeObject
from services.chassis.messages import Phase, Severity
from services.chassis.operations.endings import Result
from services.translator.contexts import schemas_for
from services.translator.definitions.schemas import Schemas
from services.translator.definitions.validating import validate
from services.translator.deprecations.modernizing import modernized
from services.translator.extensions.filters import check_filter
from services.translator.extensions.plugins import check_plugin
from services.translator.findings import Finding, Level, errors
from services.translator.options import Options
from services.translator.work import Work

_LATER = (
    "podsinmesh, meshversion, applabel, serviceportprefix, serviceassociation, "
    "danglingroutedestinationhost and conflictingvirtualservicehost need the topology service, "
    "which is not there yet"
)
_MOST_EVENTS = 200
_SYSTEM_NAMESPACE = "istio-system"


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
    for finding in findings[:_MOST_EVENTS]:
        _tell(work, finding)
    if len(findings) > _MOST_EVENTS:
        work.progress.note(f"{len(findings) - _MOST_EVENTS} more findings were not told one by one")
    wrong = len(errors(findings))
    counts = f"{len(facts.objects)} objects: {wrong} wrong, {len(findings) - wrong} notes"
    if not facts.meshes:
        counts = f"Istio is not installed in this cluster; {counts}"
    return Result(
        "Vetting ran successfully",
        f"{counts}. Not yet checked: {_LATER}.",
        (("objects", len(facts.objects)), ("findings", len(findings)), ("wrong", wrong)),
    )


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


def _tell(work: Work, finding: Finding) -> None:
    severities = {Level.ERROR: Severity.WARN, Level.WARNING: Severity.WARN}
    work.progress.tell(
        Phase.NOTE,
        f"{finding.rule}: {finding}",
        finding.remedy,
        # Findings about a mesh are news about it; the operation itself has not failed.
        severity=severities.get(finding.level, Severity.INFO),
    )
