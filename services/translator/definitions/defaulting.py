"""Defaults of a structural schema, which the API server adds before it judges an object.

As in apiextensions-apiserver's `schema/defaulting`: a field with a default gets it where its object
is there and the field is not, or is null without being nullable. Other nulls stay: a plain create
drops those that are not nullable, but server-side apply, which Meshbus uses, refuses them.
Nothing is changed in place; what does not change is shared with the given object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.translator.definitions.structures import Schema


@dataclass(slots=True)
class Defaults:
    """Defaults at and below one schema; `None` stands for a schema without any."""

    own: dict[str, Any] = field(default_factory=dict)
    """Default of each property that has one."""
    properties: dict[str, Defaults] = field(default_factory=dict)
    items: Defaults | None = None
    others: Defaults | None = None
    """Of `additionalProperties`."""
    nullable: frozenset[str] = frozenset()

    def applied(self, value: Any) -> Any:
        """`value` with the defaults; the very same object where there was nothing to add."""
        if isinstance(value, dict):
            return self._applied_to_mapping(value)
        if isinstance(value, list) and self.items is not None:
            changed = [self.items.applied(item) for item in value]
            same = all(new is old for new, old in zip(changed, value, strict=True))
            return value if same else changed
        return value

    def _applied_to_mapping(self, value: dict[str, Any]) -> dict[str, Any]:
        result = value
        for name, default in self.own.items():
            if value.get(name) is None and (name not in value or name not in self.nullable):
                result = {**value} if result is value else result
                result[name] = default
        for name, below in self.properties.items():
            if name in result:
                result = _replaced(result, value, name, below)
        if self.others is not None:
            for name in value:
                if name not in self.properties and name not in self.own:
                    result = _replaced(result, value, name, self.others)
        return result


def _replaced(
    result: dict[str, Any], original: dict[str, Any], name: str, below: Defaults
) -> dict[str, Any]:
    old = result[name]
    new = below.applied(old)
    if new is old:
        return result
    result = {**original} if result is original else result
    result[name] = new
    return result


def defaults_of(schema: Schema) -> Defaults | None:
    """The defaults of a structural schema, `status` and `metadata` aside; None if there are none.

    Defaults of list items and of additional properties themselves (a null entry becomes the
    default) are rare enough to be left to the API server.
    """
    root = {name: schema[name] for name in schema if name != "properties"}
    properties = schema.get("properties", {})
    root["properties"] = {
        name: properties[name] for name in properties if name not in ("metadata", "status")
    }
    return _defaults_of(root)


def _defaults_of(schema: Any) -> Defaults | None:
    if not isinstance(schema, dict):
        return None
    properties = schema.get("properties") or {}
    own = {name: part["default"] for name, part in properties.items() if "default" in part}
    below = {name: _defaults_of(part) for name, part in properties.items()}
    known = {name: part for name, part in below.items() if part is not None}
    items, others = (
        _defaults_of(schema.get("items")),
        _defaults_of(schema.get("additionalProperties")),
    )
    if not own and not known and items is None and others is None:
        return None
    nullable = frozenset(name for name, part in properties.items() if part.get("nullable"))
    return Defaults(own=own, properties=known, items=items, others=others, nullable=nullable)
