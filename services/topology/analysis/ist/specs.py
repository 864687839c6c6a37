"""Careful access to specs: what is missing or of another form reads as empty.

An object may come from a cluster with other definitions than ours, so no rule may rely on a form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

_EMPTY: Spec = {}


def part(spec: Spec, *names: str) -> Spec:
    """A mapping inside a spec, by the names that lead to it."""
    for name in names:
        found = spec.get(name)
        if not isinstance(found, Mapping):
            return _EMPTY
        spec = found
    return spec


def parts(spec: Spec, name: str) -> Iterator[tuple[int, Spec]]:
    """The mappings of a list, with their places."""
    found = spec.get(name)
    for index, item in enumerate(found if isinstance(found, list) else ()):
        if isinstance(item, Mapping):
            yield index, item


def text(spec: Spec, name: str) -> str:
    """A text; "" for none."""
    found = spec.get(name)
    return "" if found is None else str(found)


def labels(spec: Spec, *names: str) -> dict[str, str]:
    """A selector's labels."""
    return {str(name): str(value) for name, value in part(spec, *names).items()}


def shown(selector: Mapping[str, str]) -> str:
    """A selector as people write it on a command line."""
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
