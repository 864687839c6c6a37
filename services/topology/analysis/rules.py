"""A rule of the catalogue: which objects it is about, and how it looks at one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.lenses import Lens
from services.topology.cluster.objects import Change, Key

Check = Callable[[Lens, Any], Iterable[Finding]]
"""Gets a lens and the record of an object of one of the rule's kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One or several codes that one look finds."""

    codes: tuple[str, ...]
    kinds: tuple[str, ...]
    check: Check
    matters: Callable[[Change], bool] | None = None
    """Whether a change of the rule's own object can change what it finds; None is "always"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the documentation says about a code."""

    code: str
    name: str
    """The code's own name in its catalogue, such as `ReferencedResourceNotFound`."""
    level: Level
    cause: str
    remedy: str

    def on(self, key: Key, message: str, path: str = "") -> Finding:
        """A finding of this code."""
        return Finding(self.code, self.level, key, path, message, self.cause, self.remedy)
