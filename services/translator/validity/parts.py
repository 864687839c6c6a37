"""A part of an object under judgement, and the catalogue of what can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from services.chassis.errors import shortened
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.translator.istio.objects import mapping
from services.translator.istio.versions import Minor, minor_of
from services.translator.reports import Level, Path, Report

WEBHOOK = "webhook"
"""The rule of all findings of this folder."""


class Rule(BaseModel):
    """What is told of one fault; the texts have fields that the check fills in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level = Level.ERROR
    message: str
    remedy: str = ""
    since: str = ""
    """The first minor of Istio that says so, such as 1.31; "" stands for all before."""
    until: str = ""
    """The first minor that says so no more; "" stands for all to come."""

    def holds(self, minor: Minor | None) -> bool:
        """Whether Istio of this minor has the rule; None stands for the newest."""
        if minor is None:
            return not self.until
        is_before = bool(self.since) and minor < minor_of(self.since)
        is_after = bool(self.until) and minor >= minor_of(self.until)
        return not is_before and not is_after


@cache
def rules() -> Mapping[str, Rule]:
    """All rules, by name."""
    text = files(__package__).joinpath("rules.yaml").read_text()
    return TypeAdapter(dict[str, Rule]).validate_python(read_yaml(text, budget=Budget.trusted()))


@dataclass(frozen=True, slots=True)
class Judgement:
    """The report on one object, and the Istio that judges."""

    report: Report
    minor: Minor | None = None
    """None stands for the newest."""


@dataclass(slots=True, eq=False)
class Part:
    """A value in an object, and where; what is wrong with it goes into the object's report.

    A part that is not there has the value None, and so has everything below it; a value of the
    wrong type reads as nothing, because the definitions tell of it. It is not frozen, because it is
    made for every value that a check looks at, and freezing would triple what that costs; for the
    same reason it knows its path by what is above it.
    """

    value: Any
    judgement: Judgement
    above: Part | None = None
    name: str | int = ""
    """In what is above it."""

    @property
    def path(self) -> Path:
        part: Part = self
        names: list[str | int] = []
        while part.above is not None:
            names.append(part.name)
            part = part.above
        return tuple(reversed(names))

    def __getitem__(self, name: str) -> Part:
        """The field of that name."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        return Part(value, self.judgement, self, name)

    def __bool__(self) -> bool:
        """Whether it is there; an empty mapping or list is."""
        return self.value is not None

    def __iter__(self) -> Iterator[Part]:
        """The items of a list."""
        if isinstance(self.value, list):
            for index, item in enumerate(self.value):
                yield Part(item, self.judgement, self, index)

    def fields(self) -> Iterator[tuple[str, Part]]:
        """The entries of a mapping that are there."""
        for name, value in mapping(self.value).items():
            yield str(name), Part(value, self.judgement, self, str(name))

    @property
    def has_items(self) -> bool:
        return isinstance(self.value, (list, dict)) and bool(self.value)

    @property
    def text(self) -> str:
        return self.value if isinstance(self.value, str) else ""

    @property
    def number(self) -> float:
        """A number, 0 for anything else: Istio cannot tell a missing one from 0."""
        is_number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        return self.value if is_number else 0

    @property
    def is_true(self) -> bool:
        return self.value is True

    def tell(self, name: str, /, **values: object) -> None:
        """Tells of the fault called `name`, if the Istio that judges knows it as one."""
        rule = rules()[name]
        if not rule.holds(self.judgement.minor):
            return
        texts = {key: shortened(str(value)) for key, value in values.items()}
        tell = {
            Level.ERROR: self.judgement.report.error,
            Level.WARNING: self.judgement.report.warning,
            Level.INFO: self.judgement.report.info,
        }[rule.level]
        tell(
            self.path,
            rule.message.format_map(texts),
            rule=WEBHOOK,
            remedy=rule.remedy.format_map(texts),
        )

    def tell_if_both(self, rule: str, *names: str) -> None:
        """Tells at the second one of fields that exclude each other."""
        present = [name for name in names if self[name]]
        if len(present) > 1:
            self[present[1]].tell(rule, one=present[0], other=present[1])
