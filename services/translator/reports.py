"""The report of a translation: findings about objects, and lines that say what they became.

`Report` is the one accumulator: a step of a translation takes it and adds objects, lines and
findings to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Follow

Path: TypeAlias = tuple[str | int, ...]
"""A place in an object: keys of mappings and positions in lists, from the root."""


class Level(StrEnum):
    """An `error` keeps the request from being applied; a `warning` and an `info` do not."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding about one place of one object."""

    level: Level
    rule: str
    """The rule that the object breaks: `schema`, `cel`, a code of istioctl's (IST…), or our own."""
    subject: Ref
    path: Path = ()
    message: str
    remedy: str = ""
    document: int = 0
    """Number of the document in the input, from 1; 0 when it came from elsewhere."""
    line: int = 0
    """Line in the input, from 1."""

    @property
    def place(self) -> str:
        return dotted(self.path)

    def at(self, *, document: int, line: int) -> Finding:
        return replace(self, document=document, line=line)

    def __str__(self) -> str:
        """Such as `line 12: VirtualService default/a: spec.http[0].route: is required`."""
        where = f"line {self.line}: " if self.line else ""
        place = f"{self.place}: " if self.path else ""
        return f"{where}{self.subject}: {place}{self.message}"

    def as_json(self) -> dict[str, Any]:
        return {
            "level": self.level.value,
            "rule": self.rule,
            "object": str(self.subject),
            "path": self.place,
            "message": self.message,
            "remedy": self.remedy,
            "document": self.document,
            "line": self.line,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One source object, or one part of it, and what became of it."""

    source: str
    """Such as `TrafficSplit shop/checkout`."""
    targets: tuple[str, ...] = ()
    """The objects that it became; empty when it was left out."""
    note: str = ""
    """Reason why it was left out, or a remark on its translation."""

    def __str__(self) -> str:
        fate = f"became {', '.join(self.targets)}" if self.targets else "was left out"
        if not self.targets and not self.note:
            return f"{self.source} needed no object of its own"
        return f"{self.source} {fate}" + (f" ({self.note})" if self.note else "")

    def as_json(self) -> dict[str, Any]:
        return {"source": self.source, "targets": list(self.targets), "note": self.note}


_SEVERAL = Ref("", "", "", "")


@dataclass(slots=True)
class Report:
    """Objects, lines and findings of one subject; an error keeps it from being translated.

    A report about several objects has no subject of its own and collects those of single objects.
    """

    subject: Ref = _SEVERAL
    base: Path = ()
    """Prefix of every finding's path."""
    objects: list[KubeObject] = field(default_factory=list)
    """The objects that the subject became."""
    kept: list[KubeObject] = field(default_factory=list)
    """Objects that stay in the cluster when the subject is deleted."""
    lines: list[Line] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    follow: list[Follow] = field(default_factory=list)
    """The sources, each with the facts that its translation used."""

    @property
    def has_errors(self) -> bool:
        return any(finding.level is Level.ERROR for finding in self.findings)

    def about(self, subject: Ref) -> Report:
        """The same report, for findings about another subject."""
        return replace(self, subject=subject)

    def error(self, path: Path, message: str, *, rule: str = "schema", remedy: str = "") -> None:
        self._add(Level.ERROR, path, message, rule=rule, remedy=remedy)

    def warning(self, path: Path, message: str, *, rule: str, remedy: str = "") -> None:
        self._add(Level.WARNING, path, message, rule=rule, remedy=remedy)

    def info(self, path: Path, message: str, *, rule: str, remedy: str = "") -> None:
        self._add(Level.INFO, path, message, rule=rule, remedy=remedy)

    def note(self, part: str, note: str) -> None:
        """Adds a line about one part of the subject."""
        self.lines.append(Line(source=f"{self.subject}, {part}", note=note))

    def left_out(self, part: str, note: str, *, path: Path, rule: str) -> None:
        """Adds a line and a warning: a part of the subject was not translated."""
        self.note(part, note)
        self.warning(path, f"{part}: {note}", rule=rule)

    def became(self, note: str) -> None:
        """Puts the subject's own line before those about its parts."""
        targets = tuple(str(Ref.of(obj)) for obj in self.objects)
        self.lines.insert(0, Line(source=str(self.subject), targets=targets, note=note))

    def collect(self, other: Report) -> None:
        """Takes over everything that another report holds."""
        self.objects += other.objects
        self.kept += other.kept
        self.lines += other.lines
        self.findings += other.findings
        self.follow += other.follow

    def _add(self, level: Level, path: Path, message: str, *, rule: str, remedy: str) -> None:
        self.findings.append(
            Finding(
                level=level,
                rule=rule,
                subject=self.subject,
                path=self.base + path,
                message=message,
                remedy=remedy,
            )
        )


def dotted(path: Path) -> str:
    """Such as `spec.http[0].match`; a key that is no word stands in quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def differing(one: Any, other: Any, at: Path = ()) -> Iterator[Path]:
    """The paths at which two documents differ; of lists of another length the list's own."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}, key=str):
            yield from differing(one.get(name), other.get(name), (*at, name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from differing(first, second, (*at, index))
    elif one != other:
        yield at


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.ERROR]
