"""The operation `smi_conformance`: what this mesh makes of the SMI specifications, case by case.

Each case is a piece of the suites that the SMI project kept (access, specs, split), translated
with the facts of the cluster at hand, validated, and shown to the API server in a dry run. Nothing
is left in the cluster and no requests are sent, as the result says; that the translated objects
do on traffic what the specifications ask for is measured by Meshbus' own tests.

The result has the form that Meshery parses (SmiResult in its server's handling of events). A server
whose provider of identities is None cannot store it and drops the event, so an ordinary event says
first how it went.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import orjson
from pydantic import TypeAdapter

from services.chassis.errors import MeshbusError
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import (
    ClusterFacts,
    Phase,
    ServiceFact,
    ServicePort,
    Severity,
    WorkloadFact,
)
from services.chassis.operations.completion import Result
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.translator.contexts import Context, installed_version, schemas_for
from services.translator.options import Options
from services.translator.reports import errors
from services.translator.translating import steps_for, translate
from services.translator.work import Work

_PORT = 9091


@dataclass(frozen=True, slots=True)
class Case:
    """One assertion of a suite and the objects that it is about."""

    specification: str
    version: str
    assertion: str
    objects: tuple[KubeObject, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a case; `reason` is empty when it passed."""

    case: Case
    became: tuple[str, ...]
    reason: str
    seconds: float

    @property
    def has_passed(self) -> bool:
        return not self.reason


async def run_conformance(work: Work) -> Result:
    """All cases in the request's namespace; the result is the event's details."""
    try:
        return await _conformance(work)
    except MeshbusError as error:
        # Meshery takes whatever names the test for its result, and drops what is none.
        work.progress.warn(f"SMI could not be tested: {error.summary}", error.remedy)
        raise


async def _conformance(work: Work) -> Result:
    namespace = work.command.namespace
    facts = await work.cluster.facts()
    verdicts = [await _judged(work, case, facts) for case in cases(namespace)]
    version = installed_version(facts.meshes)
    passed = sum(verdict.has_passed for verdict in verdicts)
    failed = [verdict for verdict in verdicts if not verdict.has_passed]
    work.progress.tell(
        Phase.NOTE,
        f"SMI: {passed} of {len(verdicts)} cases passed"
        + (f" with Istio {version}" if version else ""),
        "\n".join(f"{verdict.case.assertion}: {verdict.reason}" for verdict in failed),
        severity=Severity.WARN if failed else Severity.INFO,
    )
    # A repeated delivery tells the same result, not a second one.
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{work.command.operation}.{work.command.cluster}")
    result = smi_result(verdicts, identity=str(identity), version=version, date=work.now())
    return Result(
        "Smi conformance test completed successfully",
        orjson.dumps(result).decode(),
        (("cases", len(verdicts)), ("passed", passed), ("seconds", work.progress.seconds)),
    )


async def _judged(work: Work, case: Case, facts: ClusterFacts) -> Verdict:
    began = work.progress.seconds
    known = with_applications(facts, work.command.namespace)
    schemas, version, _ = await schemas_for(known, Options(), work.definitions)
    context = Context(
        facts=known, schemas=schemas, version=version, options=Options(), is_deletion=False
    )
    translation = translate(steps_for(case.objects), context)
    wrong = errors(translation.findings)
    objects = [obj for step in translation.steps for obj in step.objects]
    became = tuple(t for line in translation.lines for t in line.targets)
    if wrong:
        reason = "; ".join(finding.message for finding in wrong)
    elif not objects:
        reason = "it was translated into no object"
    else:
        refusals = [refusal for refusal in await work.cluster.dry_run(objects) if refusal]
        reason = "; ".join(refusals)
    return Verdict(case, became, reason, work.progress.seconds - began)


def with_applications(facts: ClusterFacts, namespace: str) -> ClusterFacts:
    """The facts as they would be with the suites' applications deployed."""
    port = ServicePort(port=_PORT, name="http", target_port=str(_PORT))
    names = ("app-svc", "app-a", "app-b", "app-c")
    services = [ServiceFact(namespace=namespace, name=name, ports=[port]) for name in names]
    workloads = [
        WorkloadFact(
            namespace=namespace,
            kind="Deployment",
            name=f"service-{letter}",
            service_account=f"service-{letter}",
            labels={"app": f"service-{letter}"},
            selector={"app": f"service-{letter}"},
        )
        for letter in "abc"
    ]
    return facts.model_copy(
        update={
            # The cluster keeps no SMI objects of a dry run, whatever it serves.
            "served": {k: v for k, v in facts.served.items() if ".smi-spec.io/" not in k},
            "services": services,
            "workloads": workloads,
            "read_namespaces": [namespace],
        }
    )


def smi_result(
    verdicts: Sequence[Verdict], *, identity: str, version: str, date: datetime
) -> dict[str, Any]:
    """SmiResult, with the names and types that Meshery's server decodes."""
    passed = sum(verdict.has_passed for verdict in verdicts)
    percentage = 100 * passed / len(verdicts) if verdicts else 0.0
    return {
        "id": identity,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "mesh_name": "Istio",
        "mesh_version": version,
        "cases_passed": str(passed),
        "passing_percentage": f"{percentage:.2f}",
        "status": "completed",
        "more_details": [_detail(verdict) for verdict in verdicts],
    }


def _detail(verdict: Verdict) -> dict[str, str]:
    case = verdict.case
    proof = "became " + ", ".join(verdict.became) + "; accepted in a dry run, no requests sent"
    return {
        "smi_specification": case.specification,
        "smi_version": case.version,
        "time": f"{verdict.seconds:.3f}s",
        "assertions": "1",
        "result": f"{case.assertion}: {proof}" if verdict.has_passed else case.assertion,
        "reason": verdict.reason,
        "capability": "FULL" if verdict.has_passed else "NONE",
        "status": "PASSED" if verdict.has_passed else "FAILED",
    }


def cases(namespace: str) -> list[Case]:
    """The suites' assertions with their objects in `namespace`."""
    text = files(__package__).joinpath("conformance.yaml").read_text()
    found: list[Case] = TypeAdapter(list[Case]).validate_python(
        read_yaml(text, budget=Budget.trusted())
    )
    for case in found:
        for obj in case.objects:
            obj["metadata"]["namespace"] = namespace
    return found
