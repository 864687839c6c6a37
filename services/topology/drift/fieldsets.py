"""Sets of fields as the API server writes them (fieldsV1), and paths that people can read.

https://pkg.go.dev/sigs.k8s.io/structured-merge-diff/v4/fieldpath: `f:name` is a field, `k:{…}` an
item of a list by its keys, `v:…` an item of a set, `i:n` one by its place; `.` is the thing itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import orjson

from services.chassis.hiding import field_under

Path: TypeAlias = tuple[str, ...]
"""Elements as fieldsV1 has them, such as `("f:spec", "f:replicas")`."""

ABSENT = object()
"""No value at all, unlike null."""
_BRACKETS = re.compile(r"\[[^\]]*\]")


def paths_of(fields: Mapping[str, Any]) -> set[Path]:
    """The members of a set: its leaves, and the containers that are in it themselves."""
    return set(_members(fields, ()))


def _members(fields: Mapping[str, Any], at: Path) -> Iterator[Path]:
    for element, inner in fields.items():
        if element == ".":
            yield at
        elif inner:
            yield from _members(inner, (*at, element))
        else:
            yield (*at, element)


def lost(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[Path]:
    """Paths of `kept` that `now` lacks, containers before their members."""
    if kept == now:
        return []
    return sorted(paths_of(kept) - paths_of(now), key=lambda path: (len(path), path))


def holds(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a set has the path, or something that it is a part of."""
    for element in path:
        inner = fields.get(element)
        if inner is None:
            return False
        if not inner:
            return True
        fields = inner
    return True


def value_at(obj: Any, path: Path) -> Any:
    """The value there, or `ABSENT`."""
    for element in path:
        obj = _step(obj, element)
        if obj is ABSENT:
            return ABSENT
    return obj


def _step(value: Any, element: str) -> Any:
    sort, _, rest = element.partition(":")
    if sort == "f":
        return value.get(rest, ABSENT) if isinstance(value, dict) else ABSENT
    if not isinstance(value, list):
        return ABSENT
    wanted = orjson.loads(rest)
    if sort == "i":
        return value[wanted] if wanted < len(value) else ABSENT
    if sort == "v":
        return next((item for item in value if item == wanted), ABSENT)
    named = next((item for item in value if _has_keys(item, wanted, by_default=False)), ABSENT)
    if named is not ABSENT:
        return named
    return next((item for item in value if _has_keys(item, wanted, by_default=True)), ABSENT)


def _has_keys(item: Any, keys: Mapping[str, Any], *, by_default: bool) -> bool:
    """Whether a list's item has all keys. `by_default` one that does not say a key has it, too, as
    a port has its protocol; an item that says them all goes before it."""
    if not isinstance(item, dict):
        return False
    if not by_default:
        return all(name in item and item[name] == value for name, value in keys.items())
    return all(item.get(name, value) == value for name, value in keys.items()) and any(
        name in item for name in keys
    )


def without(obj: Any, paths: Iterable[Path]) -> Any:
    """A copy of the object without the values at the paths."""
    for path in paths:
        obj = _without(obj, path)
    return obj


def _without(value: Any, path: Path) -> Any:
    inner = _step(value, path[0])
    if inner is ABSENT:
        return value
    replaced = ABSENT if len(path) == 1 else _without(inner, path[1:])
    if isinstance(value, dict):
        name = path[0].partition(":")[2]
        return {
            key: replaced if key == name else item
            for key, item in value.items()
            if key != name or replaced is not ABSENT
        }
    items = [replaced if item is inner else item for item in value]
    return [item for item in items if item is not ABSENT]


def readable(path: Path) -> str:
    """Such as `spec.containers[name=istio-proxy].image`."""
    text = ""
    for element in path:
        sort, _, rest = element.partition(":")
        if sort == "f":
            text = field_under(text, rest)
        elif sort == "k":
            keys = ",".join(f"{name}={value}" for name, value in orjson.loads(rest).items())
            text += f"[{keys}]"
        else:
            text += f"[{rest}]" if sort == "i" else f"[={orjson.loads(rest)}]"
    return text


def is_under(path: str, stem: str) -> bool:
    """Whether a readable path is `stem` or a part of it; `[*]` in `stem` is any item."""
    if "[*]" in stem:
        path, stem = _BRACKETS.sub("[*]", path), _BRACKETS.sub("[*]", stem)
    return path == stem or path.startswith((f"{stem}.", f"{stem}["))
