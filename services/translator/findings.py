"""Findings: what is wrong with an object, where, and what to do; all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from services.chassis.kube.objects import Ref

Path: TypeAlias = tuple[str | int, ...]
"""Where in an object: keys of mappings and places in lists, from the root."""


class Level(StrEnum):
    """`error` keeps an object from being applied; a warning is told; `info` changes nothing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding about one place of one object."""

    level: Level
    rule: str
    """What was broken: `schema`, `cel`, an IST code of istioctl's, or a name of ours."""
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

    def told(self) -> dict[str, Any]:
        """As JSON."""
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


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.ERROR]
