"""Values as the API server completes them by defaults, and as CEL rules see them.

Defaults are those of apiextensions-apiserver's `schema/defaulting`: a field with a default gets it
where its object is there and the field is not, or is null without being nullable. Other nulls stay:
a plain create drops those that are not nullable, but server-side apply, which Meshbus uses, refuses
them. Rules see field names escaped, and times, bytes and fractions as such:
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-path-escaping
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeAlias

from services.translator.definitions.formats import FORMATS
from services.translator.definitions.functions import duration
from services.translator.definitions.structures import Schema
from services.translator.definitions.trees import Tree, tree_of

Defaults: TypeAlias = Tree[Mapping[str, tuple[Any, bool]]]
"""Of each object, the properties with a default: the default, and whether null may stand there."""
Conversions: TypeAlias = Tree[Callable[[Any], Any]]

_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import"),
        *("in", "let", "loop", "namespace", "null", "package", "return", "true", "var", "void"),
        "while",
    )
)
_ESCAPED = re.compile(r"__|[-./]")
_ESCAPES = {"__": "__underscores__", "-": "__dash__", ".": "__dot__", "/": "__slash__"}


def defaults_of(schema: Schema) -> Defaults | None:
    """The defaults of a structural schema, `status` and `metadata` aside; None if there are none.

    Defaults of list items and of additional properties themselves (a null entry becomes the
    default) are rare enough to be left to the API server.
    """
    return tree_of(schema, _defaults, without=("metadata", "status"))


def _defaults(schemas: Sequence[Schema]) -> Mapping[str, tuple[Any, bool]] | None:
    properties = schemas[0].get("properties") or {}
    return {
        name: (part["default"], bool(part.get("nullable")))
        for name, part in properties.items()
        if "default" in part
    } or None


def completed(value: Any, defaults: Defaults) -> Any:
    """Adds the defaults to a copy of `value`; unchanged parts are shared, not copied."""
    if isinstance(value, list) and defaults.items is not None:
        items = [completed(item, defaults.items) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else items
    if not isinstance(value, dict):
        return value
    missing = {
        name: default
        for name, (default, is_nullable) in (defaults.own or {}).items()
        if value.get(name) is None and not (is_nullable and name in value)
    }
    whole = {**value, **missing} if missing else value
    changed = {}
    for name, part in whole.items():
        below = defaults.below(name)
        if below is not None and (new := completed(part, below)) is not part:
            changed[name] = new
    return {**whole, **changed} if changed else whole


def escaped(name: str) -> str:
    """A field's name as a rule has to write it, such as `__namespace__` or `a__dash__b`."""
    if name in _RESERVED:
        return f"__{name}__"
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], name)


def conversions_of(schema: Schema) -> Conversions | None:
    """The conversions of a schema's values for rules; None when rules see all values unchanged."""
    return tree_of(schema, _conversion)


def converted(value: Any, conversions: Conversions | None) -> Any:
    if conversions is None:
        return value
    if isinstance(value, dict):
        value = {name: converted(part, conversions.below(name)) for name, part in value.items()}
    elif isinstance(value, list):
        value = [converted(item, conversions.items) for item in value]
    return value if conversions.own is None else conversions.own(value)


def _conversion(schemas: Sequence[Schema]) -> Callable[[Any], Any] | None:
    schema = schemas[0]
    if schema.get("type") == "number":
        return _as_fraction
    if schema.get("type") == "string":
        name = str(schema.get("format", "")).replace("datetime", "date-time")
        return partial(_parsed, name) if name in _PARSERS else None
    names = {name: escaped(name) for name in schema.get("properties") or {}}
    renamed = {name: other for name, other in names.items() if other != name}
    return partial(_renamed, renamed) if renamed else None


def _as_fraction(value: Any) -> Any:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole else value


def _renamed(names: Mapping[str, str], value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {names.get(name, name): part for name, part in value.items()}


def _parsed(name: str, value: Any) -> Any:
    """Parses a text of the format; any other value stays."""
    if not isinstance(value, str) or not FORMATS[name](value):
        return value
    try:
        return _PARSERS[name](value)
    except ValueError:
        return value


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "byte": base64.b64decode,
    "date": _moment,
    "date-time": _moment,
    "duration": duration,
}
