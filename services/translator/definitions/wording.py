"""Puts the errors of the JSON Schema validator into words, with a remedy where there is one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs

from services.translator.definitions.formats import IN_WORDS
from services.translator.definitions.structures import RE2, Schema
from services.translator.reports import Path, dotted

PROBLEM_LIMIT = 100
SEARCHED_LIMIT = 20_000
"""Values in which problems are searched for: the validator makes all errors at once, and a hundred
thousand take seconds in which the interpreter does nothing else."""
_MOST_FIELDS = 1000
"""No kind has a mapping with more fields of its own; one that is longer may lose some unharmed."""
_NAMES_SHOWN = 12
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}
BLOCKING = frozenset({"type", "required", "enum", "maxLength", "maxItems", "maxProperties"})
"""Errors because of which rules on the value would fail too, or take too long. Kubernetes evaluates
no rule of an object with such an error; here only the rules around it are left out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, and where."""

    path: Path
    message: str
    remedy: str = ""
    keyword: str = ""


def beginning(obj: Any) -> Any:
    """The object, or of a very large one its first values: lists and long mappings end early."""
    left = SEARCHED_LIMIT

    def cut(value: Any) -> Any:
        nonlocal left
        left -= 1
        if isinstance(value, list):
            items = []
            for item in value:
                if left < 0:
                    break
                items.append(cut(item))
            return items
        if not isinstance(value, dict):
            return value
        fields = {}
        for name, part in value.items():
            if left < 0 and (len(value) > _MOST_FIELDS or left < -SEARCHED_LIMIT):
                break
            fields[name] = cut(part)
        return fields

    shorter = cut(obj)
    return obj if left >= 0 else shorter


def problems(validator: jsonschema_rs.Validator, schema: Schema, obj: Any) -> list[Problem]:
    """Describes the errors of `obj`; `validator` was made of `schema`.

    Errors that follow from a wrong type at the same place are left out. An object with very many
    errors gets the first ones, and one that says that there are more.
    """
    errors = validator.iter_errors(obj)
    described = (problem for error in errors for problem in _described(error, schema, obj))
    found = list(islice(described, PROBLEM_LIMIT))
    mistyped = {problem.path for problem in found if problem.keyword == "type"}
    kept = [p for p in found if p.keyword == "type" or p.path not in mistyped]
    if next(described, None) is not None:
        kept.append(Problem((), f"has more faults than these {len(kept)}"))
    return kept


def _described(error: jsonschema_rs.ValidationError, schema: Schema, obj: Any) -> Iterator[Problem]:
    path, value = _located(obj, error.instance_path)
    _, holder = _located(schema, error.schema_path[:-1])
    keyword = error.kind.name
    detail = error.kind.as_dict()
    if keyword in ("additionalProperties", "falseSchema"):
        # For an object that may have no field at all, the error does not name them.
        known = sorted(holder.get("properties", ()))
        for name in detail.get("unexpected", value):
            yield _unknown((*path, name), known)
    elif keyword == "required":
        yield Problem((*path, detail["property"]), "is required", "", keyword)
    elif keyword == "oneOf":
        yield _one_of(path, error, holder["oneOf"])
    else:
        message, remedy = _words(error, keyword, detail)
        yield Problem(path, message, remedy, keyword)


def _located(value: Any, pointer: Sequence[str | int]) -> tuple[Path, dict[str, Any]]:
    """The path of a place in `value`, and the mapping there; an empty one for anything else.

    The validator gives every part of a path that consists of digits as a number, also a field's
    name such as "80", and leaves out a name that is empty.
    """
    path: list[str | int] = []
    for part in pointer:
        while isinstance(value, dict) and str(part) not in value and "" in value:
            path.append("")
            value = value[""]
        if isinstance(value, dict):
            part = str(part)
            value = value.get(part)
        else:
            is_there = isinstance(value, list) and isinstance(part, int) and part < len(value)
            value = value[part] if is_there else None
        path.append(part)
    return tuple(path), value if isinstance(value, dict) else {}


def _unknown(path: Path, known: Sequence[str]) -> Problem:
    name = str(path[-1])
    close = near(name, known)
    if close:
        remedy = f"write {close}"
    elif known:
        remedy = f"take it out, or write one of {listed(known)}"
    else:
        remedy = "take it out; nothing can stand here"
    return Problem(path, f"unknown field `{name}`", remedy, "additionalProperties")


def near(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant; "" when none is similar."""
    by_folded = {other.casefold(): other for other in sorted(known, reverse=True)}
    found = difflib.get_close_matches(name.casefold()[:256], by_folded, n=1, cutoff=0.7)
    return by_folded[found[0]] if found else ""


def listed(names: Sequence[Any]) -> str:
    """Such as `a, b, c`, cut when it gets long."""
    shown = ", ".join("null" if name is None else str(name) for name in names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _words(
    error: jsonschema_rs.ValidationError, keyword: str, detail: dict[str, Any]
) -> tuple[str, str]:
    limit = detail.get("limit")
    match keyword:
        case "type":
            return _type(detail["types"], error.instance)
        case "enum":
            return _enum(detail["options"], error.instance)
        case "pattern":
            return f"must match the pattern {detail['pattern']}", ""
        case "format":
            name = detail["format"]
            return f"must be {IN_WORDS.get(name, f'of the format {name}')}", ""
        case "not":
            return _forbidden(detail["schema"]), ""
        case "anyOf":
            return _any_of(error), ""
        case str() if keyword == RE2:
            return str(detail["message"]), ""
        case "multipleOf":
            return f"must be a multiple of {detail['multiple_of']}", ""
    words = _LIMITS.get(keyword)
    if words is None:
        return "is not valid", ""
    return _count(words, limit), ""


_LIMITS = {
    "exclusiveMaximum": "must be less than {}",
    "exclusiveMinimum": "must be greater than {}",
    "maxItems": "must have at most {} item{s}",
    "maxLength": "must have at most {} character{s}",
    "maxProperties": "must have at most {} entr{ies}",
    "maximum": "must be at most {}",
    "minItems": "must have at least {} item{s}",
    "minLength": "must have at least {} character{s}",
    "minProperties": "must have at least {} entr{ies}",
    "minimum": "must be at least {}",
}


def _count(words: str, limit: Any) -> str:
    if words.startswith("must have at least") and limit == 1:
        return "must not be empty"
    one = limit == 1
    return words.format(limit, s="" if one else "s", ies="y" if one else "ies")


def _type(types: Sequence[str], value: Any) -> tuple[str, str]:
    wanted = [name for name in types if name != "null"] or ["null"]
    words = " or ".join(_TYPES.get(name, name) for name in wanted)
    message = f"must be {words}, not {_kind(value)}"
    if wanted[0] == "string" and isinstance(value, (bool, int, float)):
        return message, "put it into quotes"
    if wanted[0] in ("integer", "number", "boolean") and isinstance(value, str):
        return message, "write it without quotes" if _is_quoted(wanted[0], value) else ""
    if wanted[0] == "array" and value is not None:
        return message, "write it as an item of a list"
    return message, ""


def _is_quoted(wanted: str, text: str) -> bool:
    if wanted == "boolean":
        return text in ("true", "false")
    digits = text.removeprefix("-")
    return digits.isascii() and digits.replace(".", "", int(wanted == "number")).isdigit()


def _kind(value: Any) -> str:
    """The type of a value, in the words of `_TYPES`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction" if not value.is_integer() else "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "a mapping"


def _enum(options: Sequence[Any], value: Any) -> tuple[str, str]:
    texts = [option for option in options if isinstance(option, str)]
    close = near(value, texts) if isinstance(value, str) else ""
    remedy = f"write {close}" if close else ""
    if len(options) == 1:
        return f"must be {listed(options)}", remedy
    return f"must be one of {', '.join(map(str, options))}", remedy


# --- alternatives -------------------------------------------------------------------------------


def _one_of(path: Path, error: jsonschema_rs.ValidationError, options: list[Schema]) -> Problem:
    """Describes `oneOf`, which mostly lists fields that exclude each other."""
    names = [_only_required(option) for option in options]
    fields = [group for group in names if group]
    value = error.instance
    if not isinstance(value, dict) or not all(
        names[i] or _is_none(o) for i, o in enumerate(options)
    ):
        return Problem(path, f"fits no single allowed form: {_alternatives(error)}", "", "oneOf")
    present = [group for group in fields if all(name in value for name in group)]
    choices = ", ".join(" with ".join(group) for group in fields)
    if len(present) > 1:
        there = " and ".join(" with ".join(group) for group in present)
        message = f"only one of {choices} can stand here, not {there} together"
        return Problem(path, message, f"keep one of {there.replace(' and ', ', ')}", "oneOf")
    return Problem(path, f"one of {choices} must stand here", "", "oneOf")


def _only_required(option: Schema) -> tuple[str, ...]:
    """The fields that an alternative asks for, if that is all it says."""
    return tuple(option["required"]) if set(option) == {"required"} else ()


def _is_none(option: Schema) -> bool:
    """Whether an alternative only forbids some fields."""
    forbidden = option.get("not")
    if set(option) != {"not"} or not isinstance(forbidden, dict):
        return False
    parts = forbidden.get("anyOf", [forbidden])
    return all(_only_required(part) for part in parts)


def _any_of(error: jsonschema_rs.ValidationError) -> str:
    """Describes alternatives; those that all say `must be` become one message."""
    choices = _first_faults(error)
    if choices and all(fault.startswith("must be ") for fault in choices):
        return "must be " + " or ".join(fault.removeprefix("must be ") for fault in choices)
    return f"fits no allowed form: {_alternatives(error)}"


def _alternatives(error: jsonschema_rs.ValidationError) -> str:
    faults = enumerate(_first_faults(error), start=1)
    return "; ".join(f"({number}) {fault or 'fits'}" for number, fault in faults)


def _first_faults(error: jsonschema_rs.ValidationError) -> list[str]:
    """The first error of each alternative; "" for those that fit."""
    context: list[list[jsonschema_rs.ValidationError]] = getattr(error.kind, "context", [])
    depth = len(error.instance_path)
    return [_fault(errors[0], depth) if errors else "" for errors in context]


def _fault(error: jsonschema_rs.ValidationError, depth: int) -> str:
    detail = error.kind.as_dict()
    place = dotted(tuple(error.instance_path)[depth:])
    if error.kind.name == "required":
        missing = detail["property"]
        return f"{place}.{missing} is required" if place else f"{missing} is required"
    words = _words(error, error.kind.name, detail)[0]
    return f"{place} {words}" if place else words


def _forbidden(schema: Any) -> str:
    if isinstance(schema, dict):
        if "enum" in schema:
            return f"must not be {' or '.join(map(str, schema['enum']))}"
        parts = schema.get("anyOf", [schema])
        groups = [_only_required(part) for part in parts if isinstance(part, dict)]
        if groups and all(groups):
            return f"{' or '.join(' with '.join(group) for group in groups)} cannot stand here"
    return "has a form that is excluded"
