"""Regular expressions of SMI: checked, anchored, and read as globs where they are no more.

SMI writes paths and header values as regular expressions. Istio's routes take RE2, which matches
the whole value; its AuthorizationPolicies take only exact values, prefixes, suffixes and path
templates. `path_globs` and `value_globs` therefore read a pattern as alternatives of text and
wildcards, and return None for every other pattern instead of guessing.

A path's pattern is anchored at the start (SMI, traffic-specs) and open at its end. A header's
pattern has to match the whole value: the specification does not say, its examples read so, and it
is the narrowest reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from services.translator.istio.patterns import LENGTH_LIMIT, UNREADABLE, compiled

_PROGRAM_LIMIT = 32768
"""Istio starts Envoy with this limit of RE2's program size."""
_GLOBS_LIMIT = 64
_DEPTH_LIMIT = 20
_SPECIAL = frozenset("\\^$.|?*+()[]{}")


class Wild(Enum):
    """The wildcards of globs."""

    ANY = ".*"
    SOME = ".+"
    SEGMENT = "[^/]+"


class _Edge(Enum):
    START = "^"
    END = "$"


Glob: TypeAlias = tuple[str | Wild, ...]
"""Texts and wildcards that match a whole value one after the other."""
_Pieces: TypeAlias = tuple[str | Wild | _Edge, ...]
_WILD = re.compile(r"(\.\*|\.\+|\[\^/\]\+)\??")


def problem_of(pattern: str) -> str:
    """Tells why Envoy would refuse the pattern; "" when it accepts it."""
    if len(anchored(pattern)) > LENGTH_LIMIT:
        return f"has more than the {LENGTH_LIMIT} characters that Istio takes"
    try:
        size = max(compiled(pattern).programsize, compiled(anchored(pattern)).programsize)
    except UNREADABLE as error:
        return f"is no regular expression that RE2 reads: {_text_of(error)}"
    return "needs a larger program than Envoy takes" if size > _PROGRAM_LIMIT else ""


def anchored(pattern: str) -> str:
    """SMI's meaning of a path's pattern as one that has to match the whole path.

    The group keeps alternatives together. Leading `^` and closing `$` say what the form says
    anyway; they are left in where taking them out could change the meaning.
    """
    body = pattern
    if "|" not in pattern and "\\Q" not in pattern:
        body = body.removeprefix("^")
        if _ends_with_anchor(body) and _compiles(f"(?:{body[:-1]})"):
            return f"(?:{body[:-1]})"
    shortened = f"(?:{body}).*"
    return shortened if body == pattern or _compiles(shortened) else f"(?:{pattern}).*"


def path_globs(pattern: str) -> tuple[Glob, ...] | None:
    """A path's pattern as alternatives of text and wildcards; None when it needs more."""
    return _globs(pattern, is_open=True)


def value_globs(pattern: str) -> tuple[Glob, ...] | None:
    """The same for a header's pattern."""
    return _globs(pattern, is_open=False)


def value_match(pattern: str) -> dict[str, str]:
    """A header's pattern as Istio writes it: plain text as `exact`, all else as `regex`."""
    match value_globs(pattern):
        case ((str(text),),):
            return {"exact": text}
    return {"regex": pattern}


def _globs(pattern: str, *, is_open: bool) -> tuple[Glob, ...] | None:
    try:
        alternatives = _Parser(pattern).parse()
        globs = [_glob(pieces, is_open=is_open) for pieces in alternatives]
    except _TooRichError:
        return None
    return tuple(dict.fromkeys(globs))


def _glob(pieces: _Pieces, *, is_open: bool) -> Glob:
    inner = pieces[1:] if pieces[:1] == (_Edge.START,) else pieces
    if inner[-1:] == (_Edge.END,):
        inner = inner[:-1]
    elif is_open:
        inner = (*inner, Wild.ANY)
    glob: list[str | Wild] = []
    for piece in inner:
        if isinstance(piece, _Edge):
            raise _TooRichError
        if isinstance(piece, str) and glob and isinstance(glob[-1], str):
            glob[-1] += piece
        elif piece is Wild.ANY and glob and glob[-1] in (Wild.ANY, Wild.SOME):
            continue
        elif piece != "":
            glob.append(piece)
    return tuple(glob)


class _TooRichError(Exception):
    """The pattern has more than alternatives of text and wildcards."""


@dataclass(slots=True)
class _Parser:
    """Reads alternatives, groups, optional parts, text and the wildcards; raises otherwise."""

    text: str
    at: int = 0
    depth: int = 0

    def parse(self) -> list[_Pieces]:
        found = self._alternatives()
        if self.at < len(self.text):
            raise _TooRichError
        return found

    def _alternatives(self) -> list[_Pieces]:
        found = self._sequence()
        while self._take("|"):
            found = _bounded([*found, *self._sequence()])
        return found

    def _sequence(self) -> list[_Pieces]:
        found: list[_Pieces] = [()]
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            item = self._item()
            found = _bounded([(*before, *after) for before in found for after in item])
        return found

    def _item(self) -> list[_Pieces]:
        wild = _WILD.match(self.text, self.at)
        if wild:
            self.at = wild.end()
            return self._plain([(Wild(wild[1]),)])
        for edge in _Edge:
            if self._take(edge.value):
                return self._plain([(edge,)])
        item: list[_Pieces] = self._group() if self._take("(") else [(self._character(),)]
        if self._take("?"):
            self._take("?")
            item = [*item, ()]
        return self._plain(item)

    def _plain(self, item: list[_Pieces]) -> list[_Pieces]:
        if self.text[self.at : self.at + 1] in ("*", "+", "?", "{"):
            raise _TooRichError
        return item

    def _group(self) -> list[_Pieces]:
        self.depth += 1
        if self.depth > _DEPTH_LIMIT or (self._take("?") and not self._take(":")):
            raise _TooRichError
        found = self._alternatives()
        if not self._take(")"):
            raise _TooRichError
        self.depth -= 1
        return found

    def _character(self) -> str:
        character = self.text[self.at]
        self.at += 1
        if character == "\\" and self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            # `\d`, `\n` or `\x41` are no text; a punctuation mark after `\` is itself.
            if character.isascii() and not character.isalnum():
                return character
            raise _TooRichError
        if character in _SPECIAL:
            raise _TooRichError
        return character

    def _take(self, expected: str) -> bool:
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False


def _bounded(found: list[_Pieces]) -> list[_Pieces]:
    if len(found) > _GLOBS_LIMIT:
        raise _TooRichError
    return found


def _ends_with_anchor(pattern: str) -> bool:
    """Whether a `$` closes the pattern that no backslash makes text."""
    before = pattern.removesuffix("$")
    backslashes = len(before) - len(before.rstrip("\\"))
    return before != pattern and backslashes % 2 == 0


def _compiles(pattern: str) -> bool:
    try:
        compiled(pattern)
    except UNREADABLE:
        return False
    return True


def _text_of(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return text[:120]
