"""PromQL about everything, cut down to the series that have certain labels.

Several clusters may be scraped into one Prometheus, where a label tells whose a series is. Each
selector of a query gets that label, whoever wrote the query: the ones here and perf's are the same
for all clusters, and what a person asks about one cluster must not tell of another.

Only what decides where a selector stands is read; Prometheus judges all else. Rejected: a label
that each query adds by itself, which would hold for the queries that remember it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.chassis.prometheus import Metrics, MetricsError, Sample

Labels = Mapping[str, str]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\r\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
      | (?P<number>(?:[0-9]|\.[0-9])[0-9a-zA-Z_.]*)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<mark>[-+*/%^=!<>~@(){}\[\],:])""",
    re.VERBOSE | re.DOTALL,
)
_LABEL_LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_AGGREGATES = frozenset({"by", "without"})
_WORDS = _LABEL_LISTS | {"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"}
"""Names that are neither metrics nor functions."""
_JOINING = "info"
"""A function that joins series which no selector names."""


class _Token(NamedTuple):
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Selected:
    """The series of a Prometheus that have all these labels."""

    metrics: Metrics
    labels: Labels

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        try:
            cut_down = selected(text, self.labels)
        except ValueError as error:
            raise MetricsError(f"the query cannot be cut down to one cluster: {error}") from None
        return await self.metrics.query(cut_down, at=at)


def read_labels(text: str) -> dict[str, str]:
    """`cluster=blue,region=north` by name; raises `ValueError`."""
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not _LABEL.fullmatch(name.strip()) or not value.strip():
            raise ValueError("labels are NAME=VALUE, separated by commas")
        found[name.strip()] = value.strip()
    return found


def selected(query: str, labels: Labels) -> str:
    """`query` about the series that have `labels`; raises `ValueError` where that cannot be said.

    It is applied before what the query itself selects by, so that it can only become narrower.
    """
    if not labels:
        return query
    matchers = ",".join(f"{name}={_quoted(value)}" for name, value in labels.items())
    tokens = _tokens(query)
    found: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        place += 1
        found.append(token.text)
        following = _next(tokens, place)
        if token.text == "{":
            end = _end(tokens, place, "}")
            _refuse_alternatives(tokens[place:end])
            # An empty rest leaves a comma at the end, which PromQL allows.
            found.append(f"{matchers},")
            found += [one.text for one in tokens[place:end]]
            place = end
        elif token.text == "[" or (token.text.lower() in _LABEL_LISTS and following == "("):
            end = _end(tokens, place, "]" if token.text == "[" else ")")
            found += [one.text for one in tokens[place:end]]
            place = end
        elif token.kind == "name":
            name = token.text.lower()
            if name == _JOINING and following == "(":
                raise ValueError("`info` reads series that it does not name")
            is_metric = not (
                following in ("(", "{") or name in _WORDS or following.lower() in _AGGREGATES
            )
            if is_metric:
                found.append(f"{{{matchers}}}")
    return "".join(found)


def _tokens(query: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while place < len(query):
        match = _TOKEN.match(query, place)
        if match is None:
            raise ValueError(f"character {place + 1} is not understood")
        tokens.append(_Token(str(match.lastgroup), match.group()))
        place = match.end()
    return tokens


def _next(tokens: Sequence[_Token], place: int) -> str:
    """The text of the first token from there on that is no space."""
    return next((token.text for token in tokens[place:] if token.kind != "space"), "")


def _end(tokens: Sequence[_Token], place: int, mark: str) -> int:
    """Where the first such mark stands from there on."""
    for number in range(place, len(tokens)):
        if tokens[number] == _Token("mark", mark):
            return number
    raise ValueError(f"a {mark} is missing")


def _refuse_alternatives(matchers: Sequence[_Token]) -> None:
    """Some databases that speak PromQL take alternatives within one selector."""
    for number, token in enumerate(matchers):
        is_alternative = token.kind == "name" and token.text.lower() == "or"
        if is_alternative and _next(matchers, number + 1) not in ("=", "!"):
            raise ValueError("a selector holds alternatives")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
