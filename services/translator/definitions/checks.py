"""What a JSON Schema cannot say of a structural schema: CEL rules, and lists without duplicates.

Only the places of a schema that have such a check, and the way to them, are kept, so that walking
an object costs nothing where there is nothing to check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.translator.definitions.expressions import Compiler, Rules
from services.translator.definitions.shaping import Shape, shape_of
from services.translator.definitions.structures import Schema
from services.translator.reports import Path


@dataclass(slots=True)
class Check:
    """The checks of one place, and of the places below it that have some."""

    rules: Rules | None = None
    shape: Shape | None = None
    keys: tuple[str, ...] | None = None
    """What no two items of the list may share; none for a list whose items must differ as such."""
    properties: dict[str, Check] = field(default_factory=dict)
    items: Check | None = None
    others: Check | None = None

    def walk(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Check]]:
        """Every place in `value` with a check of its own, outer ones first; nulls are no places."""
        if value is None:
            return
        if self.rules is not None or self.keys is not None:
            yield path, value, self
        if isinstance(value, list):
            if self.items is not None:
                for place, item in enumerate(value):
                    yield from self.items.walk(item, (*path, place))
        elif isinstance(value, dict):
            for name, below in self.properties.items():
                if name in value:
                    yield from below.walk(value[name], (*path, name))
            if self.others is not None:
                for name in value:
                    if name not in self.properties:
                        yield from self.others.walk(value[name], (*path, name))

    def seen(self, value: Any) -> Any:
        """`value` as the rules of this place see it."""
        return value if self.shape is None else self.shape.shaped(value)


def checks_of(schema: Schema, compiler: Compiler) -> Check | None:
    """The checks of a whole object's structural schema, `status` aside; None if there are none."""
    properties = dict(schema.get("properties") or {})
    properties.pop("status", None)
    return _check([{**schema, "properties": properties}], compiler)


def _check(schemas: Sequence[Any], compiler: Compiler) -> Check | None:
    """`schemas` say something of one and the same place: the schema itself, and its `allOf`."""
    parts = [
        part for schema in schemas if isinstance(schema, dict) for part in _with_all_of(schema)
    ]
    if not parts:
        return None
    names = {name: None for part in parts for name in part.get("properties") or {}}
    below = {
        name: _check([(part.get("properties") or {}).get(name) for part in parts], compiler)
        for name in names
    }
    check = Check(
        rules=compiler.rules([rule for part in parts for rule in _rules(part)]),
        keys=_keys(parts[0]),
        properties={name: part for name, part in below.items() if part is not None},
        items=_check([part.get("items") for part in parts], compiler),
        others=_check([part.get("additionalProperties") for part in parts], compiler),
    )
    if check.rules is not None:
        check.shape = shape_of(parts[0])
    return check if _is_needed(check) else None


def _is_needed(check: Check) -> bool:
    own = check.rules is not None or check.keys is not None
    return own or bool(check.properties) or check.items is not None or check.others is not None


def _with_all_of(schema: Schema) -> Iterator[Schema]:
    yield schema
    for part in schema.get("allOf") or ():
        if isinstance(part, dict):
            yield from _with_all_of(part)


def _rules(schema: Schema) -> list[Any]:
    return list(schema.get("x-kubernetes-validations") or ())


def _keys(schema: Schema) -> tuple[str, ...] | None:
    match schema.get("x-kubernetes-list-type"):
        case "map":
            return tuple(schema.get("x-kubernetes-list-map-keys") or ())
        case "set":
            return ()
    return None


def duplicates(items: Any, keys: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Places of list items that repeat an earlier one, each with that one's place."""
    if not isinstance(items, list) or len(items) < 2:
        return
    names = tuple(keys)
    first: dict[bytes, int] = {}
    for place, item in enumerate(items):
        identity = _identity(item, names)
        if identity is None:
            continue
        earlier = first.setdefault(identity, place)
        if earlier != place:
            yield place, earlier


def _identity(item: Any, names: tuple[str, ...]) -> bytes | None:
    """Something to compare; None for what has another fault that is told elsewhere."""
    if names:
        if not isinstance(item, dict):
            return None
        item = {name: item[name] for name in names if name in item}
    try:
        return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
