"""Objects with something broken or added at random, to compare verdicts on them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.definitions.structures import Schema
from services.translator.reports import Path

_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 70_000, 2**31, 2**40, 1.5, "", "x", "80", "true", "ä" * 10, "x" * 300),
    *("5s", "0.5ms", "1d", "*", "*.x.y", "a/b", "/a//b", "HTTP", "http://a/b", "10.0.0.1", "::1"),
    *([], {}, ["x"], [None], {"x": 1}, {"name": None}),
)
_TEXTS = ("a", "5s", "a.b", "/x", "http://a/b", "x-y")
_WAYS = ("set", "set", "remove", "rename", "repeat", "null", "add", "add", "add")


def mutated(obj: KubeObject, *, schema: Schema, chosen: random.Random) -> KubeObject:
    """`obj`, changed in place in one or two ways."""
    for _ in range(chosen.choice((1, 1, 1, 2))):
        places = [path for path in _places(obj) if path and path[0] == "spec"]
        if places:
            _change(obj, chosen.choice(places), schema=schema, chosen=chosen)
    return obj


def _places(value: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _places(part, (*path, name))
    elif isinstance(value, list):
        for place, part in enumerate(value):
            yield from _places(part, (*path, place))


def _change(obj: KubeObject, path: Path, *, schema: Schema, chosen: random.Random) -> None:
    holder: Any = obj
    for key in path[:-1]:
        holder = holder[key]
    key, value = path[-1], holder[path[-1]]
    match chosen.choice(_WAYS):
        case "set":
            holder[key] = copy.deepcopy(chosen.choice(_VALUES))
        case "null":
            holder[key] = None
        case "remove":
            del holder[key]
        case "rename" if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case "repeat" if isinstance(value, list) and value:
            value.append(copy.deepcopy(chosen.choice(value)))
        case "add" if isinstance(value, dict):
            properties = _schema_at(schema, path).get("properties") or {}
            if properties:
                name = chosen.choice(list(properties))
                value[name] = _some(properties[name], chosen=chosen)


def _schema_at(schema: Schema, path: Path) -> Schema:
    for key in path:
        if isinstance(key, int):
            part = schema.get("items")
        else:
            part = (schema.get("properties") or {}).get(key, schema.get("additionalProperties"))
        schema = part if isinstance(part, dict) else {}
    return schema


def _some(schema: Schema, *, chosen: random.Random, depth: int = 0) -> Any:
    """A value that fits the schema's types, if not its rules."""
    if "enum" in schema:
        return chosen.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            return _some_object(schema, chosen=chosen, depth=depth)
        case "array":
            items = schema.get("items", {})
            count = chosen.choice((1, 1, 2))
            return [_some(items, chosen=chosen, depth=depth + 1) for _ in range(count)]
        case "integer":
            return chosen.choice((1, 80, 443))
        case "number":
            return chosen.choice((0.5, 1))
        case "boolean":
            return chosen.random() < 0.5
    return chosen.choice(_TEXTS)


def _some_object(schema: Schema, *, chosen: random.Random, depth: int) -> dict[str, Any]:
    required = schema.get("required") or ()
    share = 0.4 if depth < 3 else 0.1
    made = {
        name: _some(part, chosen=chosen, depth=depth + 1)
        for name, part in (schema.get("properties") or {}).items()
        if name in required or chosen.random() < share
    }
    if isinstance(schema.get("additionalProperties"), dict):
        made["k"] = _some(schema["additionalProperties"], chosen=chosen, depth=depth + 1)
    return made
