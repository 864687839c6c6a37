"""Expressions as Istio's Go code reads them: RE2, bounded, never a raw error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]  # the package has no types

LENGTH_LIMIT = 1024
"""Of an expression in characters; istiod takes a longer `proxyVersion` to match nothing."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled expression."""

    _compiled: Any

    @classmethod
    def of(cls, expression: str) -> Pattern | None:
        """None for what RE2 does not take, or what is too long."""
        if len(expression) > LENGTH_LIMIT:
            return None
        options = re2.Options()
        options.log_errors = False
        try:
            return cls(re2.compile(expression, options))
        except (re2.error, UnicodeError):
            return None

    def finds(self, value: str) -> bool:
        """Whether the expression occurs anywhere in `value`."""
        return self._compiled.search(value) is not None
