"""Expressions as Istio's Go code reads them: RE2, bounded, never a raw error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import re2  # type: ignore[import-untyped]  # the package has no types

LENGTH_LIMIT = 1024
"""Of an expression in characters: in a VirtualService (istiod's validation) and in a path of an
HTTPRoute; istiod takes a longer `proxyVersion` to match nothing."""
UNREADABLE = (re2.error, UnicodeError)
"""Errors that `compiled` raises for an expression that RE2 refuses."""


def compiled(expression: str) -> Any:
    """The expression as RE2 compiles it; raises one of `UNREADABLE`."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(expression, options)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled expression."""

    _compiled: Any

    @classmethod
    def of(cls, expression: str) -> Pattern | None:
        """The compiled expression; None when RE2 refuses it or it is too long."""
        if len(expression) > LENGTH_LIMIT:
            return None
        try:
            return cls(compiled(expression))
        except UNREADABLE:
            return None

    def finds(self, value: str) -> bool:
        """Whether the expression occurs anywhere in `value`."""
        return self._compiled.search(value) is not None
