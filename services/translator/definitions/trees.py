"""Trees of the places in a structural schema that have a default, a rule, or a conversion.

Each of the three is rare in a schema. A tree leaves out the branches without any, so that walking
an object costs nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.translator.definitions.structures import Schema
from services.translator.reports import Path

T = TypeVar("T")
Reader = Callable[[Sequence[Schema]], T | None]
"""Reads the entry of one place from its schemas; None for a place without one."""


@dataclass(frozen=True, slots=True)
class Tree(Generic[T]):
    """The entry of one place, and those of the places below it."""

    own: T | None
    properties: Mapping[str, Tree[T]]
    items: Tree[T] | None
    others: Tree[T] | None
    """Of `additionalProperties`, which excludes `properties` in a structural schema."""

    def below(self, name: str) -> Tree[T] | None:
        return self.properties.get(name, self.others)

    def walk(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any, T]]:
        """Yields the places of `value` that have an entry, outer ones first; null is no place."""
        if value is None:
            return
        if self.own is not None:
            yield path, value, self.own
        if isinstance(value, list) and self.items is not None:
            for index, item in enumerate(value):
                yield from self.items.walk(item, (*path, index))
        elif isinstance(value, dict):
            for name, part in value.items():
                below = self.below(name)
                if below is not None:
                    yield from below.walk(part, (*path, name))


def tree_of(schema: Schema, read: Reader[T], *, without: Sequence[str] = ()) -> Tree[T] | None:
    """Builds the tree of a schema, `without` these properties of its root; None without entries."""
    properties = schema.get("properties") or {}
    kept = {name: part for name, part in properties.items() if name not in without}
    return _tree([{**schema, "properties": kept}], read)


def _tree(schemas: Sequence[Any], read: Reader[T]) -> Tree[T] | None:
    """Builds the tree of one place, which `schemas` and the parts of their `allOf` describe."""
    parts = [
        part for schema in schemas if isinstance(schema, dict) for part in _with_all_of(schema)
    ]
    if not parts:
        return None
    names = dict.fromkeys(name for part in parts for name in part.get("properties") or {})
    below = {
        name: _tree([(part.get("properties") or {}).get(name) for part in parts], read)
        for name in names
    }
    tree = Tree(
        own=read(parts),
        properties={name: known for name, known in below.items() if known is not None},
        items=_tree([part.get("items") for part in parts], read),
        others=_tree([part.get("additionalProperties") for part in parts], read),
    )
    return None if tree == Tree(None, {}, None, None) else tree


def _with_all_of(schema: Schema) -> Iterator[Schema]:
    yield schema
    for part in schema.get("allOf") or ():
        if isinstance(part, dict):
            yield from _with_all_of(part)
