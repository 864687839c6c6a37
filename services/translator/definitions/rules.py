"""The parts of a structural schema that JSON Schema lacks: CEL rules, and lists without duplicates.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
A rule that cannot be evaluated here is reported as unchecked, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

import cel
import orjson

from services.translator.definitions.expressions import Expression, compiled
from services.translator.definitions.structures import Schema
from services.translator.definitions.trees import Tree, tree_of
from services.translator.definitions.values import Conversions, conversions_of, converted
from services.translator.reports import Path

_REASONS = {
    "FieldValueDuplicate": "is there twice by the rule",
    "FieldValueForbidden": "is forbidden by the rule",
    "FieldValueRequired": "is required by the rule",
}
_FIELD_PART = re.compile(r"\.?([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")


class Outcome(Enum):
    """Why a rule does not simply hold."""

    BROKEN = auto()
    BROKEN_WHEN_NEW = auto()
    """Broken for an object that does not exist yet; an existing one may keep its value."""
    TRANSITION = auto()
    """The rule compares with the object's earlier state, which is not here."""
    NOT_EVALUATED = auto()
    """The rule cannot be evaluated here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `x-kubernetes-validations`."""

    text: str
    expression: Expression
    message: str = ""
    message_expression: str = ""
    reason: str = ""
    field: Path = ()
    """`fieldPath`, from the place of the rule."""
    takes_new: bool = False
    """`optionalOldSelf`: the rule is meant for new objects as well."""

    @classmethod
    def of(cls, entry: Schema) -> Rule:
        text = str(entry.get("rule") or "").strip()
        return cls(
            text=text,
            expression=compiled(text),
            message=str(entry.get("message") or "").strip(),
            message_expression=str(entry.get("messageExpression") or "").strip(),
            reason=str(entry.get("reason") or ""),
            field=field_path(str(entry.get("fieldPath") or "")),
            takes_new=bool(entry.get("optionalOldSelf")),
        )

    @property
    def words(self) -> str:
        """The message of a finding without a `messageExpression`."""
        if self.message:
            return self.message
        return f"{_REASONS.get(self.reason, 'breaks the rule')} ({_one_line(self.text)})"

    @property
    def is_plain(self) -> bool:
        """Whether it can be evaluated on the object alone."""
        return not self.expression.problem and not self.expression.uses_old

    def judged(self, value: Any) -> tuple[Outcome, str] | None:
        """Why it does not hold for `value`, in words; None when it holds."""
        if self.expression.problem:
            return Outcome.NOT_EVALUATED, f"{_one_line(self.text)}: {self.expression.problem}"
        if self.expression.uses_old and not self.takes_new:
            return Outcome.TRANSITION, self.words
        old = {"oldSelf": cel.OptionalValue.none()} if self.takes_new else {}
        try:
            if self.expression.value({"self": value, **old}) is True:
                return None
        except Exception as error:
            # An error of the evaluation refuses the object in Kubernetes too, unless the name of
            # a function is missing here.
            if self.expression.lacks_name(str(error)):
                text = f"{_one_line(self.text)}: a name in it is unknown here"
                return Outcome.NOT_EVALUATED, text
        outcome = Outcome.BROKEN_WHEN_NEW if self.expression.uses_old else Outcome.BROKEN
        return outcome, self._message(value)

    def _message(self, value: Any) -> str:
        if self.message_expression:
            text = _value(compiled(self.message_expression), value)
            # Kubernetes falls back as well when the message cannot be made.
            if isinstance(text, str) and text.strip() and "\n" not in text:
                return text.strip()
        return self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The checks of one place of a schema."""

    rules: tuple[Rule, ...]
    together: Expression | None
    """All rules as one, which is evaluated first: nearly everywhere all hold. None when some rule
    needs more than the object."""
    conversions: Conversions | None
    keys: tuple[str, ...] | None
    """The fields that no two items of the list may share; () where whole items must differ, None
    for a list that may repeat items."""

    def broken(self, value: Any) -> Iterator[tuple[Outcome, Rule, str]]:
        """The rules that do not hold for `value`, each with its message."""
        seen = converted(value, self.conversions)
        if self.together is not None and _value(self.together, seen) is True:
            return
        for rule in self.rules:
            judged = rule.judged(seen)
            if judged is not None:
                outcome, message = judged
                yield outcome, rule, message

    def duplicates(self, items: Any) -> Iterator[tuple[int, int]]:
        """Places of list items that repeat an earlier one, each with that one's place."""
        if self.keys is None or not isinstance(items, list) or len(items) < 2:
            return
        first: dict[bytes, int] = {}
        for place, item in enumerate(items):
            identity = _identity(item, self.keys)
            earlier = place if identity is None else first.setdefault(identity, place)
            if earlier != place:
                yield place, earlier


Checks: TypeAlias = Tree[Check]


def checks_of(schema: Schema) -> Checks | None:
    """The checks of a whole object's structural schema, `status` aside; None if there are none."""
    return tree_of(schema, _check, without=("status",))


def field_path(text: str) -> Path:
    """Such as `.spec.labels['a.b']` as ("spec", "labels", "a.b")."""
    return tuple(
        name or re.sub(r"\\(.)", r"\1", quoted) for name, quoted in _FIELD_PART.findall(text)
    )


def _check(schemas: Sequence[Schema]) -> Check | None:
    entries = [e for schema in schemas for e in schema.get("x-kubernetes-validations") or ()]
    parsed = [Rule.of(entry) for entry in entries if isinstance(entry, dict)]
    rules = tuple(rule for rule in parsed if rule.text)
    keys = _keys(schemas[0])
    if not rules and keys is None:
        return None
    is_plain = bool(rules) and all(rule.is_plain for rule in rules)
    return Check(
        rules=rules,
        together=compiled(" && ".join(f"({rule.text}\n)" for rule in rules)) if is_plain else None,
        conversions=conversions_of(schemas[0]) if rules else None,
        keys=keys,
    )


def _keys(schema: Schema) -> tuple[str, ...] | None:
    match schema.get("x-kubernetes-list-type"):
        case "map":
            return tuple(schema.get("x-kubernetes-list-map-keys") or ())
        case "set":
            return ()
    return None


def _identity(item: Any, keys: Sequence[str]) -> bytes | None:
    """The part of an item that is compared; None for an item that the schema refuses anyway."""
    if keys:
        if not isinstance(item, dict):
            return None
        item = {name: item[name] for name in keys if name in item}
    try:
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None


def _value(expression: Expression, value: Any) -> Any:
    """The expression's value for `self`; None when it cannot be evaluated."""
    if expression.problem:
        return None
    try:
        return expression.value({"self": value})
    except Exception:
        # Which rule failed, and how, is found out rule by rule.
        return None


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"
