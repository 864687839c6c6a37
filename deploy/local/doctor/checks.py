"""The outcome of one look, and how all of them are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    """Meshbus works, and something that somebody may want does not."""
    FAIL = "fail"
    """Something that was asked for does not work; the doctor's exit status is 1."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Check:
    return Check(name, Verdict.OK, text)


def warn(name: str, text: str, remedy: str) -> Check:
    return Check(name, Verdict.WARN, text, remedy)


def fail(name: str, text: str, remedy: str) -> Check:
    return Check(name, Verdict.FAIL, text, remedy)


def as_lines(checks: Sequence[Check]) -> str:
    """For people: verdict, name, what was seen, and the remedy below it."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.verdict:<5}{check.name:<{width}}  {check.text}")
        if check.remedy:
            lines.append(f"{'':<5}{'':<{width}}  → {check.remedy}")
    return "\n".join(lines)


def as_json(checks: Sequence[Check]) -> str:
    """For programs."""
    return json.dumps([asdict(check) for check in checks], indent=1)


def status_of(checks: Sequence[Check]) -> int:
    return int(any(check.verdict is Verdict.FAIL for check in checks))
