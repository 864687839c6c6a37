"""Validates objects against the definitions of their kinds, as the API server will.

All findings come at once, in the order of the object, each with its place and in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.definitions.rules import Checks, Outcome
from services.translator.definitions.schemas import CompiledSchema, Definition, Schemas
from services.translator.definitions.wording import (
    BLOCKING,
    SEARCHED_LIMIT,
    Problem,
    beginning,
    listed,
    near,
    problems,
)
from services.translator.reports import Finding, Path, Report

SCHEMA = "schema"
CEL = "cel"
VERSION = "version"
UNCHECKED = "unchecked"
"""The rule of findings about checks that only the API server can do."""


def validate(obj: KubeObject, *, schemas: Schemas) -> list[Finding]:
    """Validates one object; kinds of groups that are not in `schemas` have no findings.

    Raises `SchemasMissing` when the kind's definition cannot be read, and nothing else, whatever
    stands in the object.
    """
    report = Report(_subject(obj))
    subject = report.subject
    definition = schemas.find(subject.group, subject.kind)
    if definition is None:
        _check_kind(report, schemas.kinds_of(subject.group))
        return report.findings
    version = subject.api_version.rpartition("/")[2]
    if version not in definition.versions:
        _refuse_version(report, definition)
        return report.findings
    compiled = schemas.compiled(definition, version)
    _check_schema(obj, compiled, report)
    for pattern in compiled.unread_patterns:
        message = f"the pattern {pattern} was not checked here; the API server checks it"
        report.info((), message, rule=UNCHECKED)
    return _sorted(report.findings, obj)


def _subject(obj: KubeObject) -> Ref:
    """As `Ref.of`, but also for an object without valid metadata."""
    metadata = obj.get("metadata")
    return Ref.of(obj if isinstance(metadata, dict) else {**obj, "metadata": {}})


def _check_kind(report: Report, kinds: Sequence[str]) -> None:
    """Reports a kind without a definition where its group has other kinds."""
    if not kinds:
        return
    group, kind = report.subject.group_kind
    close = near(kind, kinds)
    report.error(
        ("kind",),
        f"{group} has no kind `{kind}`",
        rule=VERSION,
        remedy=f"write {close}" if close else f"write one of {listed(kinds)}",
    )


def _refuse_version(report: Report, definition: Definition) -> None:
    subject = report.subject
    served = [f"{subject.group}/{version}" for version in definition.versions]
    report.error(
        ("apiVersion",),
        f"{subject.kind} is not served as {subject.api_version}",
        rule=VERSION,
        remedy=f"write {served[0]}" if len(served) == 1 else f"write one of {listed(served)}",
    )


def _check_schema(obj: KubeObject, compiled: CompiledSchema, report: Report) -> None:
    completed = compiled.completed(obj)
    blocked: set[Path] = set()
    try:
        if not compiled.validator.is_valid(completed):
            searched = beginning(completed)
            for problem in problems(compiled.validator, compiled.schema, searched):
                blocked |= _around(problem)
                report.error(problem.path, problem.message, rule=SCHEMA, remedy=problem.remedy)
            if searched is not completed:
                message = f"has faults; they were searched for in its first {SEARCHED_LIMIT} values"
                report.error((), message, rule=SCHEMA)
                return
    except (ValueError, TypeError, RecursionError):
        # A key that is no text, a half of a surrogate pair, a hundred nested lists: no JSON.
        report.error((), "holds something that cannot be written as JSON", rule=SCHEMA)
        return
    if compiled.checks is not None:
        _run_checks(completed, compiled.checks, report, blocked=blocked)


def _around(problem: Problem) -> set[Path]:
    """The places whose rules would fail only because of this problem."""
    if problem.keyword not in BLOCKING:
        return set()
    return {problem.path[:length] for length in range(len(problem.path) + 1)}


def _run_checks(obj: KubeObject, checks: Checks, report: Report, *, blocked: set[Path]) -> None:
    for path, value, check in checks.walk(obj):
        for place, earlier in check.duplicates(value):
            shared = f"has the same {', '.join(check.keys)} as" if check.keys else "is the same as"
            message = f"{shared} item {earlier} of the list; no two may"
            report.error((*path, place), message, rule=SCHEMA, remedy="take one of them out")
        if path not in blocked:
            for outcome, rule, message in check.broken(value):
                _report_outcome(report, (*path, *rule.field), outcome, message)


def _report_outcome(report: Report, path: Path, outcome: Outcome, message: str) -> None:
    match outcome:
        case Outcome.BROKEN:
            report.error(path, message, rule=CEL)
        case Outcome.BROKEN_WHEN_NEW:
            report.warning(path, f"{message} (holds for a new object)", rule=CEL)
        case Outcome.TRANSITION:
            text = f"only the API server can compare with the object as it was: {message}"
            report.info(path, text, rule=UNCHECKED)
        case Outcome.NOT_EVALUATED:
            text = f"a rule was not checked here, the API server checks it: {message}"
            report.info(path, text, rule=UNCHECKED)


def _sorted(findings: list[Finding], obj: KubeObject) -> list[Finding]:
    """Sorts findings in the order of the object; missing fields come after their neighbours."""
    return sorted(findings, key=lambda found: (_position(found.path, obj), found.place, str(found)))


def _position(path: Path, value: Any) -> tuple[int, ...]:
    position: list[int] = []
    for part in path:
        if isinstance(value, dict):
            names = list(value)
            position.append(names.index(part) if part in value else len(names))
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            position.append(part)
            value = value[part] if part < len(value) else None
        else:
            break
    return tuple(position)
