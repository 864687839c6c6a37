"""Expressions in CEL, compiled once, and evaluated as Kubernetes evaluates them.

Evaluation is that of the `cel` package with Kubernetes' functions added (see `functions`). It has
no type checker, so a rule that Kubernetes would refuse when its definition is created fails here
when it is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import cel
import orjson

from services.translator.definitions.functions import FUNCTIONS, NATIVE, OVERRIDING

_FUNCTION = re.compile(r"[a-zA-Z]")
_UNDEFINED = "Undefined variable or function: '"
# The package prefers its own functions to given ones of the same name.
_OURS = "kubernetes_{}"
_NAMED = {_OURS.format(name) if name in OVERRIDING else name: FUNCTIONS[name] for name in FUNCTIONS}
_TOKEN = re.compile(
    r"""(?s)[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"|//[^\n]*|\b([A-Za-z_]\w*)(?=\s*\()"
)


class Expression:
    """One compiled expression; `problem` says why it cannot be evaluated, "" if it can."""

    def __init__(self, text: str) -> None:
        self.problem = ""
        self.uses_old = self._counts = False
        self._functions: dict[str, Any] = {}
        try:
            self._program = cel.compile(_with_ours(text, OVERRIDING))
            # The package's own count is right for ASCII; ours gets whole lists handed over to it.
            self._ascii_program = cel.compile(_with_ours(text, OVERRIDING - {"size"}))
        except Exception:
            # The package raises what its parser raises; the text is of a definition, not of a user.
            self.problem = "it has a syntax that cannot be read here"
            return
        names, variables = set(self._program.functions()), set(self._program.variables())
        self.uses_old = "oldSelf" in variables
        # Where the package's count would do, that is: not for rules that have such text themselves.
        self._counts = _OURS.format("size") in names and text.isascii()
        self._functions = dict(_needed(names, variables))
        self._ascii_functions = dict(_needed(names - {_OURS.format("size")}, variables))
        unknown = sorted(filter(_FUNCTION.match, names - NATIVE - {_bare(name) for name in _NAMED}))
        if unknown:
            self.problem = f"it calls {', '.join(unknown)}"

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Evaluates the expression; an error of the evaluation passes through."""
        program, functions = self._program, self._functions
        if self._counts and _is_ascii(variables):
            program, functions = self._ascii_program, self._ascii_functions
        if not functions:
            return program.execute(dict(variables))
        return program.execute(cel.Context(dict(variables), functions))

    def lacks_name(self, error: str) -> bool:
        """Tells whether an error of the evaluation is about a name that is unknown here.

        The error about a wrong argument reads the same, with the name of a known function.
        """
        if not error.startswith(_UNDEFINED):
            return False
        name = error.removeprefix(_UNDEFINED).partition("'")[0]
        return name not in NATIVE | OVERRIDING and name not in self._functions


@lru_cache(maxsize=4096)
def compiled(text: str) -> Expression:
    """The expression of a definition; the same few stand hundreds of times in one definition."""
    return Expression(text)


def _with_ours(text: str, names: frozenset[str]) -> str:
    """Turns calls of `names` into calls of our functions; literals and comments stay."""
    return _TOKEN.sub(
        lambda token: _OURS.format(token[1]) if token[1] in names else token[0],
        text,
    )


def _is_ascii(variables: Mapping[str, Any]) -> bool:
    try:
        return orjson.dumps(variables["self"]).isascii()
    except (TypeError, KeyError):
        return False


def _bare(name: str) -> str:
    return name.rpartition(".")[2]


def _needed(names: set[str], variables: set[str]) -> Iterator[tuple[str, Any]]:
    """Yields our functions that an expression calls; `sets.contains` shows as `contains`."""
    for name, function in _NAMED.items():
        family, _, bare = name.rpartition(".")
        if bare in names and (not family or family in variables):
            yield name, function
