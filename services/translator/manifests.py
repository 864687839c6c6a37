"""The operations that take a manifest or one of Meshery's designs from the user."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.chassis.errors import (
    DesignMalformed,
    ManifestRefused,
    ObjectsInvalid,
)
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Command, Phase, Plan, Verb
from services.chassis.reading.aside import read_aside
from services.chassis.reading.jsons import read_json
from services.translator.contexts import context_of
from services.translator.designs import (
    Design,
    expand,
    read_declarations,
    read_design,
    read_oam,
)
from services.translator.documents import Input, read_input
from services.translator.options import Options
from services.translator.reports import Finding, Level, errors
from services.translator.translating import (
    Translation,
    steps_of,
    translate,
)
from services.translator.work import Cluster, Definitions, Work

# Above this size translating would hold up other commands; a thread does not.
_THREAD_FROM_OBJECTS = 100
_MOST_LINES = 50
_LONGEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request's manifest or designs, parsed but not yet translated."""

    given: Input | None
    designs: tuple[Design, ...]
    options: Options
    namespace: str
    is_deletion: bool
    only: str = ""
    """The one source of it that is translated; "" for all."""


async def run_custom(work: Work) -> Plan:
    """Plans any manifest: SMI, designs and former forms are translated, the rest stays as it is."""
    command = work.command
    request = await read_request(
        command.body, namespace=command.namespace, is_deletion=command.verb is Verb.DELETE
    )
    done = "removed" if request.is_deletion else "deployed"
    return await _planned(
        work,
        request,
        summary=f"Manifest {done} successfully",
        failing=doing_custom(command),
    )


def doing_custom(command: Command) -> str:
    return f"{'removing' if command.verb is Verb.DELETE else 'deploying'} custom operation"


def doing_design(command: Command) -> str:
    return f"{'removing' if command.verb is Verb.DELETE else 'deploying'} the design"


async def run_design(work: Work) -> Plan:
    """Plans the components of a ProcessOAM or Provision call (JSON in the body)."""
    command = work.command
    design = _design_of_call(command.body)
    is_deletion = command.verb is Verb.DELETE
    request = Request(
        given=None,
        designs=(design,),
        options=Options(),
        namespace=command.namespace,
        is_deletion=is_deletion,
    )
    done = "removed" if is_deletion else "deployed"
    name = f" {design.name}" if design.name else ""
    return await _planned(
        work,
        request,
        summary=f"Design{name} {done} successfully",
        failing=doing_design(command),
    )


async def read_request(body: str, *, namespace: str, is_deletion: bool) -> Request:
    """Parses a manifest, a large one in a thread so that other commands go on."""
    given = await read_aside(lambda: read_input(body), size=len(body))
    for document in given.objects:
        refuse_overlays(document.value)
    return Request(
        given=given,
        designs=tuple(read_design(document.value) for document in given.designs),
        options=given.options,
        namespace=namespace,
        is_deletion=is_deletion,
    )


async def translated(
    request: Request, cluster: Cluster | None, definitions: Definitions
) -> Translation:
    """The request as steps, with lines and located findings; errors among them are not raised."""
    for design in request.designs:
        if not design.components:
            raise DesignMalformed("the design has no component")
    expansions = [
        expand(design, is_deletion=request.is_deletion, default_namespace=request.namespace)
        for design in request.designs
    ]
    steps = steps_of(
        request.given,
        expansions,
        namespace=request.namespace,
        is_deletion=request.is_deletion,
    )
    context, notes = await context_of(
        steps,
        options=request.options,
        is_deletion=request.is_deletion,
        cluster=cluster,
        definitions=definitions,
        only=request.only,
    )
    if sum(len(step.objects) for step in steps) > _THREAD_FROM_OBJECTS:
        found = await asyncio.to_thread(translate, steps, context)
    else:
        found = translate(steps, context)
    lines = (*(line for e in expansions for line in e.lines), *found.lines, *notes)
    findings: Sequence[Finding] = found.findings
    if request.given is not None:
        findings = request.given.located(findings)
    return Translation(found.steps, lines, tuple(findings), found.follow)


async def _planned(work: Work, request: Request, *, summary: str, failing: str) -> Plan:
    request = replace(request, only=work.only)
    translation = await translated(request, work.cluster, work.definitions)
    send_report(work, translation)
    refuse_errors(translation.findings)
    return Plan(
        steps=list(translation.steps),
        summary=summary,
        failing=failing,
        reports_lines=bool(request.designs),
        **work.follows.of(translation.follow, work.command, progress=work.progress),
    )


def send_report(work: Work, translation: Translation) -> None:
    """Sends the lines, notes and warnings as events."""
    if translation.lines:
        sources = {line.source for line in translation.lines if line.targets}
        targets = {target for line in translation.lines for target in line.targets}
        others = len({line.source for line in translation.lines} - sources)
        became = f"{counted(len(sources), 'object')} became {len(targets)}" if sources else ""
        left = counted(others, "note") if others else ""
        work.progress.tell(
            Phase.TRANSLATED,
            "Translated: " + ", ".join(part for part in (became, left) if part),
            bounded([str(line) for line in translation.lines]),
            numbers={"sources": len(sources), "targets": len(targets)},
        )
    notes = [f for f in translation.findings if f.level is Level.INFO]
    if notes:
        work.progress.note(f"Noted: {counted(len(notes), 'remark')}", listed(notes))
    warnings = [f for f in translation.findings if f.level is Level.WARNING]
    if warnings:
        work.progress.warn(f"Checked: {counted(len(warnings), 'warning')}", listed(warnings))


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raises `ObjectsInvalid` with every error among the findings."""
    wrong = errors(findings)
    if not wrong:
        return
    objects = len({finding.subject for finding in wrong})
    raise ObjectsInvalid(
        f"{counted(len(wrong), 'problem')} in {counted(objects, 'object')}:\n{listed(wrong)}",
        remedy=next((f.remedy for f in wrong if f.remedy), ""),
        subject=str(wrong[0].subject),
    )


def counted(number: int, noun: str) -> str:
    """Such as `1 object` or `3 objects`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(findings: Sequence[Finding]) -> str:
    """A line for each finding, with its remedy, up to a bound."""
    return bounded([f"{f}" + (f" ({f.remedy})" if f.remedy else "") for f in findings])


def bounded(lines: Sequence[str]) -> str:
    """The first lines, each cut to the length that an event can carry."""
    cut = [line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…" for line in lines]
    more = len(cut) - _MOST_LINES
    return "\n".join([*cut[:_MOST_LINES], f"and {more} more"] if more > 0 else cut)


def refuse_overlays(obj: KubeObject) -> None:
    if Ref.of(obj).group == "install.istio.io":
        raise ManifestRefused(
            "an IstioOperator is not an object of a cluster",
            remedy="send it as the body of the operation `istio`",
        )


def _design_of_call(body: str) -> Design:
    """The design in a body of the gateway's: a call's components or declarations."""
    try:
        call: Any = read_json(body)
    except ValueError:
        call = None
    match call:
        case {"components": list(components), "config": str(config)}:
            return read_oam([str(text) for text in components], config)
        case {"declarations": list(declarations)}:
            return read_declarations([str(text) for text in declarations])
    raise DesignMalformed("the body is neither a ProcessOAM nor a Provision call")
