"""The catalogue (`catalog.yaml`): each mistake once, with the codes by which the tools call it.

istioctl and Kiali find much of the same. A rule tells a mistake once, and the finding carries the
codes of those tools that would tell it of this object. The level is that of the first of these
codes, so istioctl's goes before Kiali's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.lenses import Lens
from services.topology.cluster.objects import Change, Key


@dataclass(frozen=True, slots=True)
class Code:
    """`name` is the code's own in its tool, such as `ReferencedResourceNotFound`."""

    name: str
    level: Level


@dataclass(frozen=True, slots=True)
class Mistake:
    """The words of a mistake, wherever it is found, and its `codes` in order of precedence."""

    codes: tuple[str, ...]
    cause: str
    remedy: str


_READ = read_yaml(
    files(__package__).joinpath("catalog.yaml").read_text("utf-8"), budget=Budget.trusted()
)
CODES = {code: Code(of["name"], Level(of["level"])) for code, of in _READ["codes"].items()}
MISTAKES = {
    name: Mistake(tuple(of.get("codes", (name,))), of["cause"], of["remedy"])
    for name, of in _READ["mistakes"].items()
}
"""By name; one that has a single code and shares none is named by it."""
LEFT_OUT: dict[str, str] = _READ["left-out"]
"""Codes that no rule finds, and why."""

Check = Callable[[Lens, Any], Iterable[Finding]]
"""Gets a lens and the record of an object of one of the rule's kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One look at an object; `finds` names the mistakes that it may find."""

    finds: tuple[str, ...]
    kinds: tuple[str, ...]
    check: Check
    matters: Callable[[Change], bool] | None = None
    """Whether a change of the rule's own object can change what it finds; None is "always"."""

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(code for name in self.finds for code in MISTAKES[name].codes)


def tell(
    mistake: str,
    about: Key,
    message: str,
    path: str = "",
    *,
    codes: Iterable[str] = (),
    level: Level | None = None,
) -> Finding:
    """A finding. `codes` are those that apply, all of the mistake's without any; `level` is where
    it is not the first code's own."""
    known = MISTAKES[mistake]
    chosen = set(codes) or set(known.codes)
    own = tuple(code for code in known.codes if code in chosen)
    return Finding(
        own, level or CODES[own[0]].level, about, path, message, known.cause, known.remedy
    )


def those(**applies: bool) -> frozenset[str]:
    """The codes that apply."""
    return frozenset(code for code, is_told in applies.items() if is_told)
