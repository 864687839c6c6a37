"""YAML, as kubectl understands it, in one pass over the parser's events.

YAML 1.1 readings that kubectl does not share (dates, sexagesimal numbers, `=`) are left as text,
and those that only kubectl has (`1e3`, `0o17`, `y`) are read as it reads them. Aliases, tags and
duplicate keys are refused, and nothing is read that JSON cannot carry.

PyYAML's own loader makes a tree of nodes with two marks each before it makes values of them; that
takes three times as long and ten times the memory, and counting before it takes another pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

import yaml

from services.chassis.reading.limits import Budget

_PREFIX = "tag:yaml.org,2002:"
_TEXT = f"{_PREFIX}str"
_LEFT_AS_TEXT = (f"{_PREFIX}timestamp", f"{_PREFIX}value")
_INTEGERS = range(-(2**63), 2**64)
_FLOAT = r"[-+]?((\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9][0-9_]*|0[0-9_]*[89][0-9_]*)\Z"
KUBECTL_ONLY: Final = (
    (f"{_PREFIX}float", re.compile(_FLOAT), "-+.0123456789"),
    (f"{_PREFIX}int", re.compile(r"[-+]?0o[0-7_]*[0-7]\Z"), "-+0"),
    (f"{_PREFIX}bool", re.compile(r"[yYnN]\Z"), "yYnN"),
)
"""What kubectl takes for more than text and PyYAML does not: tag, form, possible first letters."""

Value: TypeAlias = Any
_KEY, _NO_KEY, _MERGE = object(), object(), object()
"""Where a mapping's next key is awaited; what stands there and can be none, which is told at its
end; and the key of what is merged into a mapping."""


_NEITHER = "a key is neither text nor a number"
_NO_MERGE = "only a mapping or a list of them can be merged"


class YamlProblem(ValueError):
    """The text is not what is read here; `line` counts from 1, 0 where it is not known."""

    def __init__(self, problem: str, *, line: int = 0, remedy: str = "", syntax: bool = True):
        super().__init__(problem)
        self.problem = problem
        self.line = line
        self.remedy = remedy
        self.is_syntax = syntax
        """False for what is YAML, but is not taken."""


class Place(NamedTuple):
    """Where a value of a document stands, and where its parts do."""

    line: int
    """From 1."""
    parts: Mapping[str | int, Place]
    """By key or index; a key's line is that of the key."""


_NO_PARTS: Mapping[str | int, Place] = MappingProxyType({})


def read_yaml(text: str, *, budget: Budget | None = None) -> Value:
    """The only document of `text`, None without one; raises `YamlProblem` or `TooManyValues`."""
    found = list(read_yaml_documents(text, most=1, budget=budget))
    return found[0] if found else None


def read_yaml_documents(
    text: str, *, most: int | None = None, budget: Budget | None = None
) -> Iterator[Value]:
    """Each document, None for an empty one; raises `YamlProblem` or `TooManyValues`.

    `most` bounds the number of documents.
    """
    budget = budget or Budget.fresh()
    known: dict[str, Value] = {}
    try:
        parser = yaml.CSafeLoader(text)
        while type(event := parser.get_event()) is not yaml.StreamEndEvent:
            if type(event) is yaml.DocumentStartEvent:
                if most is not None:
                    most -= 1
                    if most < 0:
                        raise YamlProblem("there are more documents than may be")
                yield _document(parser.get_event, budget, known)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", "") or "it cannot be read")[:120]
        raise YamlProblem(problem, line=mark.line + 1 if mark is not None else 0) from None
    except UnicodeError:
        raise YamlProblem("a character cannot be read") from None


def _document(get_event: Callable[[], Any], budget: Budget, known: dict[str, Value]) -> Value:
    """The value up to the document's end. `known` keeps what plain scalars mean."""
    root: list[Value] = []
    container: Any = root
    key: Any = None
    outer: list[tuple[Any, Any]] = []
    nodes, depth = budget.nodes, budget.depth
    anchors: dict[str, Value] | None = {} if budget.is_trusted else None
    while True:
        event = get_event()
        kind = type(event)
        if kind is yaml.ScalarEvent:
            value: Value = event.value
            if event.implicit[0] and event.tag is None:
                text = value
                try:
                    value = known[text]
                except KeyError:
                    value = known[text] = _plain(text, event)
                    # A number that was not there before takes as long as two values.
                    nodes -= type(value) is not str
            elif event.tag is not None:
                value = _tagged(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            _refuse_tag(event)
            value = {} if kind is yaml.MappingStartEvent else []
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            if kind is yaml.MappingEndEvent and _MERGE in container:
                budget.nodes = nodes
                _merge(container, budget, _line(event))
                nodes = budget.nodes
            container, key = outer.pop()
            if key is _NO_KEY:
                raise YamlProblem(_NEITHER, line=_line(event))
            continue
        elif kind is yaml.DocumentEndEvent:
            budget.nodes = nodes
            return root[0]
        else:
            value = _aliased(event, anchors)
        if anchors is not None and event.anchor is not None:
            anchors.setdefault(event.anchor, value)
        nodes -= 1
        if nodes < 0:
            raise budget.exceeded(line=_line(event))
        if key is _KEY:
            if not isinstance(value, (dict, list)):
                key = _key_of(value, container, event)
                continue
            key = _NO_KEY
        elif value is _MERGE:
            raise YamlProblem("`<<` is no value", line=_line(event))
        elif key is None:
            container.append(value)
        elif key is _MERGE:
            if not isinstance(value, (dict, list)):
                raise YamlProblem(_NO_MERGE, line=_line(event))
            container.setdefault(_MERGE, []).append(value)
            key = _KEY
        else:
            container[key] = value
            key = _KEY
        if kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            outer.append((container, key))
            if len(outer) > depth:
                raise YamlProblem(
                    f"nested more than {depth} levels deep", line=_line(event), syntax=False
                )
            container, key = value, None if kind is yaml.SequenceStartEvent else _KEY


def _aliased(event: Any, anchors: dict[str, Value] | None) -> Value:
    if anchors is None:
        raise YamlProblem(
            "YAML aliases are not taken",
            line=_line(event),
            remedy="write the repeated part out",
            syntax=False,
        )
    if event.anchor not in anchors:
        raise YamlProblem("an alias of nothing", line=_line(event))
    return anchors[event.anchor]


def _key_of(value: Value, container: dict[Any, Value], event: Any) -> Any:
    """A key as kubectl makes JSON of it."""
    if value is _MERGE:
        return value
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, (int, float)):
        value = str(value)
    elif not isinstance(value, str):
        raise YamlProblem(_NEITHER, line=_line(event))
    if value in container:
        raise YamlProblem(f"the key {value[:64]!r} stands there twice", line=_line(event))
    return value


def _merge(mapping: dict[Any, Value], budget: Budget, line: int) -> None:
    """Lays what `<<` brings under the mapping's own keys; the first one in a list goes on top."""
    merged: dict[Any, Value] = {}
    for brought in mapping.pop(_MERGE):
        for part in reversed(brought) if isinstance(brought, list) else [brought]:
            if not isinstance(part, dict):
                raise YamlProblem(_NO_MERGE, line=line)
            budget.spend(len(part), line=line)
            merged.update(part)
    merged.update(mapping)
    mapping.clear()
    mapping.update(merged)


# --- scalars -------------------------------------------------------------------------------------


def _integer(text: str, event: Any) -> Value:
    # Base 60 is text to kubectl, and its reading takes time that grows with the square.
    if ":" in text:
        return text
    digits = text.replace("_", "").lstrip("+-")
    match digits[:2]:
        case "0b" | "0x":
            number = int(digits[2:], 2 if digits[1] == "b" else 16)
        case _:
            number = int(digits, 8 if digits[0] == "0" else 10)
    return _within_64_bits(-number if text[0] == "-" else number, event)


def _within_64_bits(number: int, event: Any) -> int:
    if number not in _INTEGERS:
        raise YamlProblem("the number has more than 64 bits", line=_line(event))
    return number


def _float(text: str, event: Any) -> Value:
    if ":" in text:
        return text
    digits = text.replace("_", "")
    # .inf and .nan have a point before them here, and none in Python.
    number = float(digits if digits[-1] not in "fFnN" else digits.replace(".", ""))
    if not math.isfinite(number):
        raise YamlProblem("the number is not finite", line=_line(event))
    # Go writes a whole number without a point, and a field of whole numbers takes no other.
    whole = int(number)
    return whole if whole == number and whole in _INTEGERS else number


_DIGITS = frozenset("123456789")
_TRUTH = {**yaml.constructor.SafeConstructor.bool_values, "y": True, "n": False}
_MEANINGS: dict[str, Callable[[str, Any], Value]] = {
    f"{_PREFIX}int": _integer,
    f"{_PREFIX}float": _float,
    f"{_PREFIX}null": lambda _text, _event: None,
    f"{_PREFIX}bool": lambda text, _event: _TRUTH[text.lower()],
    f"{_PREFIX}merge": lambda _text, _event: _MERGE,
}
_FORMS: dict[str, list[tuple[str, re.Pattern[str]]]] = {
    first: [(tag, form) for tag, form in forms if tag not in _LEFT_AS_TEXT]
    for first, forms in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form, _letters in KUBECTL_ONLY:
    for _letter in _letters:
        _FORMS.setdefault(_letter, []).append((_tag, _form))


def _plain(text: str, event: Any) -> Value:
    """What a scalar without quotes and tag means."""
    # The usual number, without the expressions: a bomb holds as many different ones as fit.
    if text[:1] in _DIGITS and len(text) <= 20 and text.isdecimal() and text.isascii():
        return _within_64_bits(int(text), event)
    for tag, form in _FORMS.get(text[:1], ()):
        if form.match(text):
            try:
                return _MEANINGS[tag](text, event)
            except YamlProblem:
                raise
            except ValueError:
                raise YamlProblem("a number cannot be read", line=_line(event)) from None
    return text


def _tagged(event: Any) -> Value:
    _refuse_tag(event)
    return _plain(event.value, event) if event.implicit[0] else event.value


def _refuse_tag(event: Any) -> None:
    """An explicit tag that asks for more than text."""
    if event.tag not in (None, "!", _TEXT):
        raise YamlProblem(
            "YAML tags are not taken",
            line=_line(event),
            remedy="write the value without its tag",
            syntax=False,
        )


def _line(event: Any) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


# --- places --------------------------------------------------------------------------------------


def document_lines(text: str) -> list[int]:
    """The line from 1 at which each document begins, of a text that has been read before."""
    return [
        _line(event)
        for event in yaml.parse(text, Loader=yaml.CSafeLoader)
        if isinstance(event, yaml.DocumentStartEvent)
    ]


def document_places(text: str) -> Iterator[Place]:
    """Each document's places, of a text that has been read before."""
    get_event = yaml.CSafeLoader(text).get_event
    while type(event := get_event()) is not yaml.StreamEndEvent:
        if type(event) is yaml.DocumentStartEvent:
            yield _place(get_event)


def _place(get_event: Callable[[], Any]) -> Place:
    """The place of the document's value; reads the events up to the document's end."""
    root: dict[str | int, Place] = {}
    container, is_mapping, key, line = root, False, "", 0
    outer: list[tuple[dict[str | int, Place], bool]] = []
    while True:
        event = get_event()
        kind = type(event)
        if kind is yaml.DocumentEndEvent:
            return root[0]
        if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            container, is_mapping = outer.pop()
            line = 0
        elif is_mapping and not line:
            key, line = event.value, _line(event)
        else:
            is_scalar = kind is yaml.ScalarEvent
            parts: dict[str | int, Place] = {}
            place = Place(line or _line(event), _NO_PARTS if is_scalar else parts)
            container[key if is_mapping else len(container)] = place
            line = 0
            if not is_scalar:
                outer.append((container, is_mapping))
                container, is_mapping = parts, kind is yaml.MappingStartEvent
