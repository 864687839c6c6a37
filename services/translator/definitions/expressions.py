"""Validation rules in CEL (`x-kubernetes-validations`): compiled once, evaluated on values.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
Evaluation is that of the `cel` package with Kubernetes' functions added (see `functions`). It has
no type checker, so a rule that Kubernetes would refuse when its definition is created fails here
when it is evaluated. What cannot be evaluated at all is told, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cel
import orjson

from services.translator.definitions.functions import FUNCTIONS, NATIVE, OVERRIDING
from services.translator.definitions.structures import Schema
from services.translator.reports import Path


class Outcome(StrEnum):
    """What became of a rule that does not simply hold."""

    BROKEN = "broken"
    BROKEN_WHEN_NEW = "broken when new"
    """Broken for an object that does not exist yet; an existing one may keep what it has."""
    TRANSITION = "transition"
    """The rule compares with the object's earlier state, which is not here."""
    UNCHECKED = "unchecked"
    """The rule cannot be evaluated here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `x-kubernetes-validations`."""

    expression: str
    message: str = ""
    message_expression: str = ""
    reason: str = ""
    field: Path = ()
    """`fieldPath`, from the place of the rule."""
    takes_new: bool = False
    """`optionalOldSelf`: the rule is meant for new objects as well."""

    @classmethod
    def of(cls, entry: Schema) -> Rule:
        return cls(
            expression=str(entry.get("rule") or "").strip(),
            message=str(entry.get("message") or "").strip(),
            message_expression=str(entry.get("messageExpression") or "").strip(),
            reason=str(entry.get("reason") or ""),
            field=field_path(str(entry.get("fieldPath") or "")),
            takes_new=bool(entry.get("optionalOldSelf")),
        )

    @property
    def words(self) -> str:
        """What to tell when the rule is broken and no `messageExpression` says it."""
        if self.message:
            return self.message
        return f"{_REASONS.get(self.reason, 'breaks the rule')} ({_one_line(self.expression)})"


_REASONS = {
    "FieldValueDuplicate": "is there twice by the rule",
    "FieldValueForbidden": "is forbidden by the rule",
    "FieldValueRequired": "is required by the rule",
}
_FIELD_PART = re.compile(r"\.?([^.\[\]]+)|\['((?:[^'\\]|\\.)*)'\]")
_FUNCTION = re.compile(r"[a-zA-Z]")
_UNDEFINED = "Undefined variable or function: '"


def field_path(text: str) -> Path:
    """Such as `.spec.labels['a.b']` as ("spec", "labels", "a.b")."""
    return tuple(
        name or re.sub(r"\\(.)", r"\1", quoted) for name, quoted in _FIELD_PART.findall(text)
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:119]}…"


class Expression:
    """One compiled expression; `problem` says why it cannot be evaluated, "" if it can."""

    def __init__(self, text: str) -> None:
        self.problem = ""
        self.uses_old = self._counts = False
        self._functions: dict[str, Any] = {}
        try:
            self._program = cel.compile(_with_ours(text, OVERRIDING))
            # The package's own count is right for ASCII; ours gets whole lists handed over to it.
            self._ascii_program = cel.compile(_with_ours(text, OVERRIDING - {"size"}))
        except Exception:
            # The package raises what its parser raises; the text is of a definition, not of a user.
            self.problem = "it has a syntax that cannot be read here"
            return
        names, variables = set(self._program.functions()), set(self._program.variables())
        self.uses_old = "oldSelf" in variables
        # Where the package's count would do, that is: not for rules that have such text themselves.
        self._counts = _OURS.format("size") in names and text.isascii()
        self._functions = dict(_needed(names, variables))
        self._ascii_functions = dict(_needed(names - {_OURS.format("size")}, variables))
        unknown = sorted(filter(_FUNCTION.match, names - NATIVE - {_bare(name) for name in _NAMED}))
        if unknown:
            self.problem = f"it calls {', '.join(unknown)}"

    def value(self, variables: Mapping[str, Any]) -> Any:
        """The expression's value; raises whatever the evaluation raises."""
        program, functions = self._program, self._functions
        if self._counts and _is_ascii(variables):
            program, functions = self._ascii_program, self._ascii_functions
        if not functions:
            return program.execute(dict(variables))
        return program.execute(cel.Context(dict(variables), functions))

    def calls(self, name: str) -> bool:
        """Whether `name` is of a function that is there, of ours or of the package."""
        return name in NATIVE or name in OVERRIDING or name in self._functions


# The package prefers its own functions to given ones of the same name.
_OURS = "kubernetes_{}"
_NAMED = {_OURS.format(name) if name in OVERRIDING else name: FUNCTIONS[name] for name in FUNCTIONS}
_TOKEN = re.compile(
    r"""(?s)[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"|//[^\n]*|\b([A-Za-z_]\w*)(?=\s*\()"
)


def _with_ours(text: str, names: frozenset[str]) -> str:
    """`text` with calls of `names` turned into calls of ours; texts and comments stay."""
    return _TOKEN.sub(
        lambda token: _OURS.format(token[1]) if token[1] in names else token[0],
        text,
    )


def _is_ascii(variables: Mapping[str, Any]) -> bool:
    try:
        return orjson.dumps(variables["self"]).isascii()
    except (TypeError, KeyError):
        return False


def _bare(name: str) -> str:
    return name.rpartition(".")[2]


def _needed(names: set[str], variables: set[str]) -> Iterator[tuple[str, Any]]:
    """Our functions that an expression calls: `sets.contains` shows as `contains` of `sets`."""
    for name, function in _NAMED.items():
        family, _, bare = name.rpartition(".")
        if bare in names and (not family or family in variables):
            yield name, function


class Compiler:
    """Compiles each expression once; the same few stand hundreds of times in one definition."""

    def __init__(self) -> None:
        self._known: dict[str, Expression] = {}

    def expression(self, text: str) -> Expression:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = Expression(text)
        return known

    def rules(self, entries: Any) -> Rules | None:
        """The rules of one schema; None when it has none."""
        parsed = [Rule.of(entry) for entry in entries or () if isinstance(entry, dict)]
        rules = [rule for rule in parsed if rule.expression]
        return Rules(rules, self) if rules else None


class Rules:
    """The rules of one place of a schema."""

    def __init__(self, rules: Iterable[Rule], compiler: Compiler) -> None:
        self._rules = [(rule, compiler.expression(rule.expression)) for rule in rules]
        self._compiler = compiler
        plain = [
            f"({rule.expression}\n)"
            for rule, expression in self._rules
            if not expression.problem and not expression.uses_old
        ]
        # One evaluation for all of them is enough where all hold, which is nearly everywhere.
        self._all = compiler.expression(" && ".join(plain)) if plain else None
        self._needs_telling = len(plain) < len(self._rules)

    def problems(self) -> list[str]:
        """Why rules cannot be evaluated here; empty when all can."""
        return [expression.problem for _, expression in self._rules if expression.problem]

    def broken(self, value: Any) -> Iterator[tuple[Outcome, Rule, str]]:
        """The rules that do not hold for `value`, each with its message."""
        variables = {"self": value}
        if not self._needs_telling and self._all is not None and _is_true(self._all, variables):
            return
        for rule, expression in self._rules:
            outcome, problem = _judged(rule, expression, value)
            if outcome is not None:
                yield outcome, rule, problem or self._message(rule, value)

    def _message(self, rule: Rule, value: Any) -> str:
        made = self._compiler.expression(rule.message_expression or "''")
        if not made.problem:
            try:
                text = made.value({"self": value})
            except Exception:
                # Kubernetes falls back as well when the message cannot be made.
                return rule.words
            if isinstance(text, str) and text.strip() and "\n" not in text:
                return text.strip()
        return rule.words


def _is_true(expression: Expression, variables: Mapping[str, Any]) -> bool:
    try:
        return expression.value(variables) is True
    except Exception:
        # Which rule failed, and how, is found out one by one.
        return False


def _judged(rule: Rule, expression: Expression, value: Any) -> tuple[Outcome | None, str]:
    if expression.problem:
        return Outcome.UNCHECKED, f"{_one_line(rule.expression)}: {expression.problem}"
    if expression.uses_old and not rule.takes_new:
        return Outcome.TRANSITION, rule.words
    variables = {"self": value}
    if rule.takes_new:
        variables["oldSelf"] = cel.OptionalValue.none()
    try:
        holds = expression.value(variables) is True
    except Exception as error:
        # An error of the evaluation refuses the object in Kubernetes too, unless it is our lack.
        if _lacks(expression, str(error)):
            return Outcome.UNCHECKED, f"{_one_line(rule.expression)}: a name in it is unknown here"
        holds = False
    if holds:
        return None, ""
    return (Outcome.BROKEN_WHEN_NEW if expression.uses_old else Outcome.BROKEN), ""


def _lacks(expression: Expression, error: str) -> bool:
    """Whether an error is about a name that is unknown; a wrong argument's reads the same."""
    name = error.removeprefix(_UNDEFINED).partition("'")[0]
    return error.startswith(_UNDEFINED) and not expression.calls(name)
