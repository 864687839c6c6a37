"""Objects held against the definitions of their kinds, as the API server would, before it does.

All findings come at once, in the order of the object, each with its place and in words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.definitions.checks import duplicates
from services.translator.definitions.expressions import Outcome
from services.translator.definitions.forms import Form
from services.translator.definitions.schemas import Definition, Schemas
from services.translator.definitions.wording import BLOCKING, Problem, listed, near, problems
from services.translator.findings import Finding, Level, Path

SCHEMA = "schema"
CEL = "cel"
VERSION = "version"
UNCHECKED = "unchecked"
"""The rule of findings that say what only the API server can check."""


def validate(obj: KubeObject, *, schemas: Schemas) -> list[Finding]:
    """Everything that is wrong with one object; nothing for kinds of groups not in `schemas`.

    Raises `SchemasMissing` when the kind's definition cannot be read, and nothing else, whatever
    stands in the object.
    """
    subject = _subject(obj)
    definition = schemas.find(subject.group, subject.kind)
    if definition is None:
        return _unknown_kind(subject, schemas)
    version = subject.api_version.rpartition("/")[2]
    if version not in definition.versions:
        return [_unknown_version(subject, definition)]
    form = schemas.form(definition, version)
    found = [
        *_by_schema(obj, form, subject),
        *(_unread(pattern, subject) for pattern in form.unread_patterns),
    ]
    return _sorted(found, obj) if found else found


def _subject(obj: KubeObject) -> Ref:
    """As `Ref.of`, but also of an object that is no object yet."""
    metadata = obj.get("metadata")
    return Ref.of(obj if isinstance(metadata, dict) else {**obj, "metadata": {}})


def _unknown_kind(subject: Ref, schemas: Schemas) -> list[Finding]:
    kinds = schemas.kinds_of(subject.group)
    if not kinds:
        return []
    close = near(subject.kind, kinds)
    return [
        Finding(
            level=Level.ERROR,
            rule=VERSION,
            subject=subject,
            path=("kind",),
            message=f"{subject.group} has no kind `{subject.kind}`",
            remedy=f"write {close}" if close else f"write one of {listed(kinds)}",
        )
    ]


def _unknown_version(subject: Ref, definition: Definition) -> Finding:
    group = subject.group
    served = [f"{group}/{version}" for version in definition.versions]
    return Finding(
        level=Level.ERROR,
        rule=VERSION,
        subject=subject,
        path=("apiVersion",),
        message=f"{subject.kind} is not served as {subject.api_version}",
        remedy=f"write {served[0]}" if len(served) == 1 else f"write one of {listed(served)}",
    )


def _unread(pattern: str, subject: Ref) -> Finding:
    return Finding(
        level=Level.INFO,
        rule=UNCHECKED,
        subject=subject,
        message=f"the pattern {pattern} was not checked here; the API server checks it",
    )


def _by_schema(obj: KubeObject, form: Form, subject: Ref) -> Iterator[Finding]:
    completed = form.completed(obj)
    blocked: set[Path] = set()
    try:
        if not form.validator.is_valid(completed):
            for problem in problems(form.validator, form.schema, completed):
                blocked |= _around(problem)
                yield _finding(problem, subject)
    except (ValueError, TypeError, RecursionError):
        # A key that is no text, a half of a surrogate pair, a hundred nested lists: no JSON.
        yield _finding(Problem((), "holds something that cannot be written as JSON"), subject)
        return
    if form.checks is not None:
        yield from _by_checks(completed, form, subject, blocked)


def _around(problem: Problem) -> set[Path]:
    """The places whose rules would fail only because of the problem."""
    if problem.keyword not in BLOCKING:
        return set()
    return {problem.path[:length] for length in range(len(problem.path) + 1)}


def _finding(problem: Problem, subject: Ref) -> Finding:
    return Finding(
        level=Level.ERROR,
        rule=SCHEMA,
        subject=subject,
        path=problem.path,
        message=problem.message,
        remedy=problem.remedy,
    )


def _by_checks(obj: KubeObject, form: Form, subject: Ref, blocked: set[Path]) -> Iterator[Finding]:
    if form.checks is None:
        return
    for path, value, check in form.checks.walk(obj):
        if check.keys is not None:
            for place, earlier in duplicates(value, check.keys):
                yield _finding(_duplicate(path, place, earlier, check.keys), subject)
        if check.rules is not None and path not in blocked:
            for outcome, rule, message in check.rules.broken(check.seen(value)):
                yield _broken(subject, (*path, *rule.field), outcome, message)


def _duplicate(path: Path, place: int, earlier: int, keys: tuple[str, ...]) -> Problem:
    shared = f"has the same {', '.join(keys)} as" if keys else "is the same as"
    message = f"{shared} item {earlier} of the list; no two may"
    return Problem((*path, place), message, "take one of them out")


def _broken(subject: Ref, path: Path, outcome: Outcome, message: str) -> Finding:
    level, rule, words = {
        Outcome.BROKEN: (Level.ERROR, CEL, "{}"),
        Outcome.BROKEN_WHEN_NEW: (Level.WARNING, CEL, "{} (holds for a new object)"),
        Outcome.TRANSITION: (
            Level.INFO,
            UNCHECKED,
            "only the API server can compare with the object as it was: {}",
        ),
        Outcome.UNCHECKED: (
            Level.INFO,
            UNCHECKED,
            "a rule was not checked here, the API server checks it: {}",
        ),
    }[outcome]
    text = words.replace("{}", message)
    return Finding(level=level, rule=rule, subject=subject, path=path, message=text)


def _sorted(findings: list[Finding], obj: KubeObject) -> list[Finding]:
    """In the order of the object; what is missing stands after its neighbours."""
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
