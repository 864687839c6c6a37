"""Evaluates rules for what a change touches, and tells which findings came and went.

A unit is one rule on one object. Each evaluation records what it looked at (`lenses.py`); a change
evaluates again the units that looked at what changed, and those whose own object it is.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

import structlog

from services.topology.analysis.catalog import Rule
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens, marks_of
from services.topology.cluster.indices import TwoWay
from services.topology.cluster.objects import Change, Key
from services.topology.cluster.state import State

log = structlog.get_logger(__name__)

_MOST_OF_A_CODE = 10
"""Findings of one code that a unit may have. Some rules find each pair of objects: five hundred
VirtualServices of one host would be a quarter of a million findings."""


_NOTHING: frozenset[Finding] = frozenset()
_UNMARKED: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class News:
    """What an evaluation changed."""

    found: tuple[Finding, ...] = ()
    withdrawn: tuple[Finding, ...] = ()


class _Unit(NamedTuple):
    rule: int
    key: Key


@dataclass(slots=True)
class _About:
    """The rules about a kind, each a bit at its place."""

    always: int = 0
    """Those that any change matters to."""
    some: list[tuple[int, Callable[[Change], bool]]] = field(default_factory=list)


@dataclass(slots=True)
class Analysis:
    """All rules over one cluster."""

    state: State
    rules: Sequence[Rule]
    _found: dict[_Unit, frozenset[Finding]] = field(default_factory=dict)
    _marks: TwoWay[_Unit, Key] = field(default_factory=TwoWay)
    """What each unit looked at."""
    _counts: dict[Finding, int] = field(default_factory=dict)
    """Two units may find the same."""
    _due: dict[Key, int] = field(default_factory=dict)
    """Objects to evaluate, and by which rules, each a bit: there may be a dozen for each object."""
    _turns: deque[Key] = field(default_factory=deque)
    """The same objects, in the order in which they became due."""
    _about: dict[str, _About] = field(init=False)
    """By kind."""

    def __post_init__(self) -> None:
        self._about = defaultdict(_About)
        for index, rule in enumerate(self.rules):
            for kind in rule.kinds:
                if rule.matters is None:
                    self._about[kind].always |= 1 << index
                else:
                    self._about[kind].some.append((1 << index, rule.matters))

    @property
    def findings(self) -> Iterable[Finding]:
        return self._counts.keys()

    @property
    def is_due(self) -> bool:
        return bool(self._due)

    def touch(self, changes: Iterable[Change]) -> None:
        """Notes what has to be evaluated; cheap."""
        for change in changes:
            if (about := self._about.get(change.key.kind)) is not None:
                bits = about.always
                for bit, matters in about.some:
                    if matters(change):
                        bits |= bit
                self._owe(change.key, bits)
            for mark in marks_of(change):
                for unit in self._marks.having(mark):
                    self._owe(unit.key, 1 << unit.rule)

    def _owe(self, key: Key, bits: int) -> None:
        known = self._due.get(key, 0)
        if known | bits != known:
            self._due[key] = known | bits
            if not known:
                self._turns.append(key)

    def evaluate(self, *, most: int = 200) -> News:
        """Evaluates up to `most` units, so that a caller can let others work in between."""
        before: dict[Finding, int] = {}
        for unit in self._taken(most):
            self._replace(unit, self._evaluated(unit), before)
        found = [f for f, count in before.items() if count == 0 and f in self._counts]
        gone = [f for f, count in before.items() if count > 0 and f not in self._counts]
        return News(tuple(found), tuple(gone))

    def _taken(self, most: int) -> Iterator[_Unit]:
        """The units that were due first, which are not due any more."""
        left = most
        while self._turns and left > 0:
            key = self._turns.popleft()
            bits = self._due.pop(key)
            try:
                while bits and left > 0:
                    rule = (bits & -bits).bit_length() - 1
                    bits &= bits - 1
                    left -= 1
                    yield _Unit(rule, key)
            finally:
                if bits:
                    self._due[key] = bits
                    self._turns.appendleft(key)
        if not self._due:
            self._due = {}  # its table stays as large as it was

    def _evaluated(self, unit: _Unit) -> frozenset[Finding]:
        rule = self.rules[unit.rule]
        lens = Lens(self.state)
        obj = self.state.at(unit.key)
        found = _NOTHING
        if obj is not None:
            try:
                # Most find nothing, and there are a dozen for each object.
                if told := list(rule.check(lens, obj)):
                    found = frozenset(_few(unit.key, told))
            except Exception:
                # An object of an unforeseen form must not end the analysis of all others.
                log.exception("rule_failed", finds=rule.finds, object=str(unit.key))
        self._marks.put(unit, frozenset(lens.marks) if obj is not None else _UNMARKED)
        return found

    def _replace(self, unit: _Unit, found: frozenset[Finding], before: dict[Finding, int]) -> None:
        known = self._found.get(unit, _NOTHING)
        if not known and not found:
            return
        for finding in known | found:
            before.setdefault(finding, self._counts.get(finding, 0))
        for finding in found - known:
            self._counts[finding] = self._counts.get(finding, 0) + 1
        for finding in known - found:
            left = self._counts[finding] - 1
            if left:
                self._counts[finding] = left
            else:
                del self._counts[finding]
        if found:
            self._found[unit] = found
        else:
            self._found.pop(unit, None)


def _few(about: Key, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first of each code, in an order that does not depend on how they were found. Those of
    the object itself come first: each of the others has a unit of its own."""
    found = sorted(set(findings), key=lambda one: (one.code, one.object != about, one))
    for _, group in groupby(found, key=lambda one: one.code):
        first = list(group)
        yield from first[: _MOST_OF_A_CODE - 1]
        for last in first[_MOST_OF_A_CODE - 1 : _MOST_OF_A_CODE]:
            is_all = len(first) == _MOST_OF_A_CODE
            yield last if is_all else replace(last, message=f"{last.message}; more like this")
