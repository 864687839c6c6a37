"""Values as CEL rules see them: field names escaped, times, bytes and fractions as such.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-path-escaping
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from services.translator.definitions.formats import FORMATS
from services.translator.definitions.functions import duration
from services.translator.definitions.structures import Schema

_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import"),
        *("in", "let", "loop", "namespace", "null", "package", "return", "true", "var", "void"),
        "while",
    )
)
_ESCAPED = re.compile(r"__|[-./]")
_ESCAPES = {"__": "__underscores__", "-": "__dash__", ".": "__dot__", "/": "__slash__"}


def escaped(name: str) -> str:
    """A field's name as a rule has to write it, such as `__namespace__` or `a__dash__b`."""
    if name in _RESERVED:
        return f"__{name}__"
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], name)


class Shape:
    """How a value of one schema is handed to rules: names escaped, times and numbers as such."""

    def __init__(
        self,
        *,
        kind: str = "",
        names: Mapping[str, str] | None = None,
        properties: Mapping[str, Shape] | None = None,
        items: Shape | None = None,
        others: Shape | None = None,
    ) -> None:
        self._kind = kind
        self._names = names or {}
        self._properties = properties or {}
        self._items = items
        self._others = others

    def shaped(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self._names.get(name, name): self._below(name).shaped(part)
                for name, part in value.items()
            }
        if isinstance(value, list) and self._items is not None:
            return [self._items.shaped(item) for item in value]
        if isinstance(value, str):
            return _as_kind(self._kind, value)
        if self._kind == "number" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    def _below(self, name: str) -> Shape:
        return self._properties.get(name) or self._others or _PLAIN


_PLAIN = Shape()


def shape_of(schema: Any) -> Shape | None:
    """None when values of the schema reach rules as they are."""
    if not isinstance(schema, dict):
        return None
    kind = _kind(schema)
    properties = schema.get("properties") or {}
    names = {name: escaped(name) for name in properties if escaped(name) != name}
    below = {name: shape_of(part) for name, part in properties.items()}
    known = {name: shape for name, shape in below.items() if shape is not None}
    items, others = shape_of(schema.get("items")), shape_of(schema.get("additionalProperties"))
    if not kind and not names and not known and items is None and others is None:
        return None
    return Shape(kind=kind, names=names, properties=known, items=items, others=others)


def _kind(schema: Schema) -> str:
    if schema.get("type") == "number":
        return "number"
    if schema.get("type") != "string":
        return ""
    name = str(schema.get("format", ""))
    return {"datetime": "date-time"}.get(name, name) if name in _TIMES else ""


_TIMES = ("byte", "date", "date-time", "datetime", "duration")


def _as_kind(kind: str, value: str) -> Any:
    if kind not in _TIMES or not FORMATS[kind](value):
        return value
    try:
        if kind == "duration":
            return duration(value)
        if kind == "byte":
            return base64.b64decode(value)
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        return value
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
