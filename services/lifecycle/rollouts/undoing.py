"""What a manifest changed in an object, so that just that can be put back.

A change is a JSON merge patch from the object as it was to the object as the API server would have
it. Whoever goes back undoes it where the object still is as the change left it, and touches nothing
else: what others have edited since is theirs.

https://www.rfc-editor.org/rfc/rfc7396
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any

Path = tuple[str, ...]


class Standing(Enum):
    """How an object stands to a change."""

    CHANGED = auto()
    """As the change left it, where the change was."""
    BACK = auto()
    """As it was before."""
    EDITED = auto()
    """Neither: somebody else has changed the same place since."""


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `after` of `before`; {} where they are the same."""
    patch: dict[str, Any] = {name: None for name in before if after.get(name) is None}
    for name, value in after.items():
        former = before.get(name)
        if isinstance(value, dict) and isinstance(former, dict):
            inner = change(former, value)
            if inner:
                patch[name] = inner
        elif _plain(value) != _plain(former):
            patch[name] = value
    return {n: v for n, v in patch.items() if v is not None or before.get(n) is not None}


def standing(
    live: Mapping[str, Any], before: Mapping[str, Any], patch: Mapping[str, Any]
) -> Standing:
    """How `live` stands to the change that `patch` made in `before`."""
    places = [(_at(live, path), former, new) for path, former, new in _places(before, patch)]
    if all(_plain(now) == _plain(former) for now, former, _ in places):
        return Standing.BACK
    if all(_plain(now) == _plain(new) for now, _, new in places):
        return Standing.CHANGED
    return Standing.EDITED


def reverse(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that undoes `patch`."""
    undone: dict[str, Any] = {}
    for path, former, new in _places(before, patch):
        place = undone
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = _replacing(former, new)
    return undone


def _places(
    before: Mapping[str, Any], patch: Mapping[str, Any], path: Path = ()
) -> Iterator[tuple[Path, Any, Any]]:
    """Each place that a patch changes, with its former and its new value."""
    for name, value in patch.items():
        former = before.get(name)
        if isinstance(value, dict) and isinstance(former, dict):
            yield from _places(former, value, (*path, name))
        else:
            yield (*path, name), former, value


def _at(obj: Any, path: Path) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def _replacing(former: Any, new: Any) -> Any:
    """A merge patch merges objects: what the new one has alone is to be named."""
    if isinstance(former, dict) and isinstance(new, dict):
        return {**dict.fromkeys(new), **former}
    return former


def _plain(value: Any) -> Any:
    """Without members that are null: to the API server they are absent."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    return value
