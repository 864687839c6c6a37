"""The report of a translation: what became what, and what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One source object, or one part of it, and its fate."""

    source: str
    """Such as `TrafficSplit shop/checkout`."""
    targets: tuple[str, ...] = ()
    """The objects that it became; none when it was left out."""
    note: str = ""
    """Why it was left out, or what is worth knowing about how it was translated."""

    def __str__(self) -> str:
        fate = f"became {', '.join(self.targets)}" if self.targets else "was left out"
        if not self.targets and not self.note:
            return f"{self.source} needed nothing of its own"
        return f"{self.source} {fate}" + (f" ({self.note})" if self.note else "")

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {"source": self.source, "targets": list(self.targets), "note": self.note}
