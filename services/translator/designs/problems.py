"""Problems of a design: all of them are collected, so that one look at the error mends them all.

A problem names the component and the field; it never repeats a value, because settings may hold
secrets.
"""

from __future__ import annotations

from services.chassis.errors import DesignMalformed

_TOLD = 20


class Problems:
    """What is wrong, in the order in which it was found."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, label: str, text: str) -> None:
        self._texts.append(f"{label}: {text}")

    def settle(self) -> None:
        """Raises `DesignMalformed` with every problem (the first twenty in words)."""
        if not self._texts:
            return
        told = list(dict.fromkeys(self._texts))
        more = len(told) - _TOLD
        tail = f"; and {more} more problems" if more > 0 else ""
        raise DesignMalformed("; ".join(told[:_TOLD]) + tail)
