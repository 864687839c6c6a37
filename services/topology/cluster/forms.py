"""Parts of a spec in the form that they should have, and empty where they have another one.

Istio's definitions check their objects, but not those of every release and not every field; nothing
may fail for an object that somebody else wrote. Rejected: checking each object by a schema when it
is read. That costs more than all the rest, and would hide what the analysis is there to find.
"""

from __future__ import annotations

from collections.abc import Mapping
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
