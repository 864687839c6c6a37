"""An object held against the definitions of two versions of Istio.

What is wrong in both is no fault of the upgrade and is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.chassis.kube.objects import KubeObject
from services.translator.definitions.schemas import Definition, Schemas
from services.translator.definitions.validating import validate
from services.translator.deprecations.modernizing import modernized
from services.translator.istio.reading import group_kind, minor_of, subject_of, text, told_minor
from services.translator.reports import Finding, Level, errors
from services.translator.upgrades.reports import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From which version to which, and what is known of both."""

    current: str
    target: str
    root_namespace: str
    current_schemas: Schemas | None
    target_schemas: Schemas | None

    @property
    def since(self) -> str:
        return told_minor(minor_of(self.target))


def definition_changes(obj: KubeObject, step: Step) -> Iterator[Change]:
    """What was in the definitions of the current version and is not in those of the target."""
    if step.target_schemas is None:
        return
    group, kind = group_kind(obj)
    version = text(obj.get("apiVersion")).rpartition("/")[2]
    if step.current_schemas is not None:
        now = step.current_schemas.find(group, kind)
        if now is None or version not in now.versions:
            return
    elif not step.target_schemas.kinds_of(group):
        return
    then = step.target_schemas.find(group, kind)
    if then is None:
        yield _gone_kind(obj, step)
    elif version not in then.versions:
        yield _gone_version(obj, then, step)
    else:
        yield from _gone_fields(obj, step)


def _gone_kind(obj: KubeObject, step: Step) -> Change:
    rewritten = _modern(obj, step)
    return Change(
        subject=subject_of(obj),
        path=("kind",),
        level=Level.ERROR,
        rule="kind",
        since=step.since,
        reason=f"Istio {step.target} has no {obj['kind']} of {group_kind(obj)[0]}",
        remedy="apply the rewritten object" if rewritten else _successor(obj, step),
        rewritten=rewritten,
    )


def _successor(obj: KubeObject, step: Step) -> str:
    found = modernized(obj, target=step.target, root_namespace=step.root_namespace).findings
    return next((finding.remedy for finding in found if finding.rule == "gone"), "")


def _gone_version(obj: KubeObject, then: Definition, step: Step) -> Change:
    rewritten = _modern(obj, step)
    served = ", ".join(f"{then.group}/{version}" for version in then.versions)
    return Change(
        subject=subject_of(obj),
        path=("apiVersion",),
        level=Level.ERROR,
        rule="api-version",
        since=step.since,
        reason=f"{obj['apiVersion']} is not served any more, only {served}",
        remedy="apply the rewritten object" if rewritten else f"write it as {served}",
        rewritten=rewritten,
    )


def _gone_fields(obj: KubeObject, step: Step) -> Iterator[Change]:
    wrong = _wrong(obj, step.target_schemas)
    if not wrong:
        return
    known = {(finding.path, finding.rule) for finding in _wrong(obj, step.current_schemas)}
    rewritten = _modern(obj, step)
    for finding in wrong:
        if (finding.path, finding.rule) not in known:
            yield Change(
                subject=finding.subject,
                path=finding.path,
                level=Level.ERROR,
                rule=finding.rule,
                since=step.since,
                reason=finding.message,
                remedy="apply the rewritten object" if rewritten else finding.remedy,
                rewritten=rewritten,
            )


def _wrong(obj: KubeObject, schemas: Schemas | None) -> Sequence[Finding]:
    return errors(validate(obj, schemas=schemas)) if schemas is not None else ()


def _modern(obj: KubeObject, step: Step) -> KubeObject | None:
    """The object in today's forms, if the target takes it then."""
    modern = modernized(obj, target=step.target, root_namespace=step.root_namespace).obj
    if modern == obj or step.target_schemas is None:
        return None
    group, kind = group_kind(modern)
    if step.target_schemas.find(group, kind) is None or _wrong(modern, step.target_schemas):
        return None
    return modern
