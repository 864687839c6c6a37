"""From a request's objects to the steps of a plan; pure, so the same input gives the same plan.

What an object goes through: a deprecated form becomes the current one, the API version becomes one
that the cluster serves, and its kind's own definition judges it, as the API server would, and then
what Istio's webhook asks beyond that. All findings of all objects come
at once; one error keeps everything from being applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.kube.objects import KubeObject, Ref, annotations_of
from services.chassis.messages import Follow, FollowMode, Step, StepKind
from services.chassis.messages.following import FOLLOW
from services.translator import smi
from services.translator.contexts import NAMESPACED_GROUPS, Context, known_smi, smi_objects
from services.translator.definitions.validating import validate
from services.translator.deprecations.modernizing import modernized
from services.translator.designs import Expansion
from services.translator.documents import Input
from services.translator.extensions import check_extension
from services.translator.istio.versions import in_served_version
from services.translator.reports import Finding, Level, Line, Report
from services.translator.smi import is_smi
from services.translator.validity.judging import judged


@dataclass(frozen=True, slots=True)
class Translation:
    """The result of a translation."""

    steps: tuple[Step, ...]
    lines: tuple[Line, ...]
    findings: tuple[Finding, ...]
    follow: tuple[Follow, ...] = ()
    """The request's own sources, with the facts that were used."""


def steps_of(
    given: Input | None, expansions: Sequence[Expansion], *, namespace: str, is_deletion: bool
) -> list[Step]:
    """The input as steps, before anything is translated: designs first, then plain objects.

    A deletion goes the other way. Levels count on from one design to the next, so that none of the
    second is carried out before all of the first.
    """
    if is_deletion:
        expansions = expansions[::-1]
    levels = [list(level) for expansion in expansions for level in expansion.levels]
    objects = [document.value for document in given.objects] if given else []
    for obj in (*objects, *(obj for level in levels for step in level for obj in step.objects)):
        _place(obj, namespace)
    if objects:
        plain = [Step(title=_title(objects), objects=objects, is_deletion=is_deletion)]
        levels = [plain, *levels] if is_deletion else [*levels, plain]
    return [
        step.model_copy(update={"level": number})
        for number, level in enumerate(levels, start=1)
        for step in level
    ]


def steps_for(objects: Sequence[KubeObject]) -> list[Step]:
    """Objects that already have their namespaces, as one step."""
    return [Step(title=_title(objects), objects=list(objects), level=1)]


def translate(steps: Sequence[Step], context: Context) -> Translation:
    """Translates every object of the steps into its current form."""
    if context.only:
        steps = [_of_one_source(step, context) for step in steps]
    given = smi_objects(steps)
    report = _from_smi(given, context)
    follow = _with_modes(report, given)
    done = [found for step in steps if (found := _plain_step(step, context, report)) is not None]
    made = _made_step(report, steps, context)
    findings = tuple(report.findings)
    return Translation(tuple(_with_made(done, made)), tuple(report.lines), findings, follow)


def _of_one_source(step: Step, context: Context) -> Step:
    """The step with the one source, and with what it refers to where the cluster keeps none of
    that: what the cluster keeps may have been sent anew since."""

    def counts(obj: KubeObject) -> bool:
        ref = Ref.of(obj)
        if smi.origin_of(ref) == context.only:
            return True
        is_route = is_smi(obj) and ref.group == smi.SPECS_GROUP
        return is_route and _group_kind(obj) not in context.facts.served

    return step.model_copy(update={"objects": [obj for obj in step.objects if counts(obj)]})


def _with_modes(report: Report, given: Sequence[KubeObject]) -> tuple[Follow, ...]:
    """What the sources' annotations say about following them; "" where they say nothing."""
    refs = {smi.origin_of(Ref.of(obj)): obj for obj in given}
    found = []
    for follow in report.follow:
        obj = refs[follow.source]
        mode = str(annotations_of(obj).get(FOLLOW, ""))
        if mode and mode not in {one.value for one in FollowMode}:
            report.about(Ref.of(obj)).warning(
                ("metadata", "annotations", FOLLOW),
                f"is none of {', '.join(FollowMode)}, so the service's setting counts",
                rule="follow",
            )
            mode = ""
        found.append(follow.model_copy(update={"mode": mode}))
    return tuple(found)


def _from_smi(given: list[KubeObject], context: Context) -> Report:
    report = smi.translate(
        given,
        # Objects that stay in the cluster have no influence on a deletion.
        known=[] if context.is_deletion else known_smi(context.facts),
        facts=context.facts,
        options=context.options,
        trust_domain=context.trust_domain,
        root_namespace=context.root_namespace,
    )
    if context.is_deletion:
        # An object that could not be translated any more can still be deleted.
        report.findings = [one for one in report.findings if one.level is not Level.ERROR]
        report.lines += [
            Line(source=str(Ref.of(obj)), note="it stays: access is denied by default")
            for obj in report.kept
        ]
    return report


def _plain_step(step: Step, context: Context, report: Report) -> Step | None:
    """A step without its SMI objects, unless the cluster keeps those; None when it is empty."""
    if step.kind is not StepKind.MANIFEST:
        return step
    served = context.facts.served
    kept = [obj for obj in step.objects if not is_smi(obj) or _group_kind(obj) in served]
    if not kept:
        return None
    return step.model_copy(
        update={
            "title": step.title if len(kept) == len(step.objects) else _title(kept),
            "objects": [_current(obj, context, report) for obj in kept],
            "obsolete": [in_served_version(obj, served) for obj in step.obsolete],
        }
    )


def _made_step(report: Report, steps: Sequence[Step], context: Context) -> Step | None:
    """The step with what the SMI objects became, and with what it replaces."""
    stale = _stale(report, steps, context)
    objects = [_current(obj, context, report) for obj in report.objects]
    if context.is_deletion:
        objects += stale
    else:
        objects += [_current(obj, context, report) for obj in report.kept]
    if not objects and not stale:
        return None
    return Step(
        title=_title(objects or stale),
        objects=objects,
        obsolete=[] if context.is_deletion else stale,
        is_deletion=context.is_deletion,
        level=max((step.level for step in steps if any(map(is_smi, step.objects))), default=0),
    )


def _current(obj: KubeObject, context: Context, report: Report) -> KubeObject:
    """One object in its current form and a served version; findings go into `report`."""
    target, root = context.version or None, context.root_namespace
    modern = modernized(obj, target=target, root_namespace=root)
    current = in_served_version(modern.obj, context.facts.served)
    if context.is_deletion:
        return current
    report.findings += modern.findings
    found = validate(current, schemas=context.schemas) if context.schemas is not None else []
    found += check_extension(current, target=target, root_namespace=root)
    report.findings += [*found, *judged(current, target=target, known=found)]
    return current


def _stale(report: Report, steps: Sequence[Step], context: Context) -> list[KubeObject]:
    """Objects that earlier translations of the same sources made and this one no longer makes.

    A TrafficTarget has a policy for each workload of its destination; when the workloads change,
    so do the names.
    """
    sources = {smi.origin_of(Ref.of(obj)) for obj in smi_objects(steps)}
    # Also what the cluster keeps is made anew when its routes are in the request.
    sources |= {annotations_of(obj)[smi.TRANSLATED_FROM] for obj in report.objects}
    made = {_identity(obj) for obj in (*report.objects, *report.kept)}
    return [
        obj
        for obj in context.facts.objects
        if annotations_of(obj).get(smi.TRANSLATED_FROM) in sources and _identity(obj) not in made
    ]


def _with_made(steps: list[Step], made: Step | None) -> list[Step]:
    """`made` stands where the last of its sources' steps does."""
    if made is None:
        return steps
    later = next((i for i, step in enumerate(steps) if step.level > made.level), len(steps))
    return [*steps[:later], made, *steps[later:]]


def _place(obj: KubeObject, namespace: str) -> None:
    """Gives the request's namespace to Istio's and SMI's objects without one.

    Lifecycle does the same for all other kinds.
    """
    if str(obj.get("apiVersion", "")).rpartition("/")[0] in NAMESPACED_GROUPS:
        metadata = obj["metadata"]
        metadata["namespace"] = metadata.get("namespace") or namespace


def _identity(obj: KubeObject) -> tuple[str, str, str, str]:
    """Group, kind, namespace and name: an object without the version of its API."""
    ref = Ref.of(obj)
    return (ref.group, ref.kind, ref.namespace, ref.name)


def _group_kind(obj: KubeObject) -> str:
    ref = Ref.of(obj)
    return f"{ref.group}/{ref.kind}"


def _title(objects: Sequence[KubeObject]) -> str:
    names = ", ".join(str(Ref.of(obj)) for obj in objects[:3])
    return names if len(objects) <= 3 else f"{names} and {len(objects) - 3} more"
