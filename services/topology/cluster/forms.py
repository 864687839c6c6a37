"""Parts of a spec in the form that they should have, and empty where they have another one.

Istio's definitions check their objects, but not those of every release and not every field; nothing
may fail for an object that somebody else wrote. Rejected: checking each object by a schema when it
is read. That costs more than all the rest, and would hide what the analysis is there to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping."""
    return value if isinstance(value, Mapping) else {}


def entries(value: Any) -> list[Any]:
    """A list."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list."""
    return [one for one in entries(value) if isinstance(one, Mapping)]


def part(spec: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A mapping inside a spec, by the names that lead to it."""
    for name in names:
        spec = mapping(spec.get(name))
    return spec


def parts(spec: Mapping[str, Any], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The mappings of a list, with their places in it."""
    for index, item in enumerate(entries(spec.get(name))):
        if isinstance(item, Mapping):
            yield index, item


def text(spec: Mapping[str, Any], name: str) -> str:
    """A text; "" for none."""
    found = spec.get(name)
    return "" if found is None else str(found)


def texts(spec: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts; what is no text is left out."""
    return [one for one in entries(spec.get(name)) if isinstance(one, str)]


def number(spec: Mapping[str, Any], name: str) -> int:
    """A number; 0 for none."""
    found = spec.get(name)
    return found if isinstance(found, int) else 0


def labels(spec: Mapping[str, Any], *names: str) -> dict[str, str]:
    """A selector's labels."""
    return {str(name): str(value) for name, value in part(spec, *names).items()}


def shown(selector: Mapping[str, str]) -> str:
    """A selector as people write it on a command line."""
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
