"""What a structural schema says place by place, without the branches that say nothing.

Defaults, CEL rules and values that rules see in another form are each rare in a schema. As a tree
of the places that have some, they cost nothing where an object has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.translator.definitions.structures import Schema
from services.translator.reports import Path

T = TypeVar("T")
Reader = Callable[[Sequence[Schema]], T | None]
"""Reads from the schemas of one place what they say of it; None when that is nothing."""


@dataclass(frozen=True, slots=True)
class Tree(Generic[T]):
    """What is said of one place, and of the places below it."""

    own: T | None
    properties: Mapping[str, Tree[T]]
    items: Tree[T] | None
    others: Tree[T] | None
    """Of `additionalProperties`, which excludes `properties` in a structural schema."""

    def below(self, name: str) -> Tree[T] | None:
        return self.properties.get(name, self.others)

    def walk(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any, T]]:
        """The places in `value` that something is said of, outer ones first; null is no place."""
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
    """The tree of a schema, `without` these properties of its root; None when nothing is said."""
    properties = schema.get("properties") or {}
    kept = {name: part for name, part in properties.items() if name not in without}
    return _tree([{**schema, "properties": kept}], read)


def _tree(schemas: Sequence[Any], read: Reader[T]) -> Tree[T] | None:
    """`schemas` describe the same place; what stands in their `allOf` describes it as well."""
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
