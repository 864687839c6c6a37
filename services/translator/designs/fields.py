"""Typed access to a component's fields, which reports an error instead of raising."""

from __future__ import annotations

import math
from typing import Any

from services.chassis.errors import DesignMalformed
from services.chassis.reading.jsons import read_json
from services.chassis.reading.limits import Budget
from services.translator.designs.components import is_bookkeeping, quoted
from services.translator.reports import Report


class Fields:
    """A mapping of a component. Missing and null fields read as empty.

    `folded` takes names in any case: Go writes and reads OAM so.
    """

    def __init__(
        self, value: Any, report: Report, *, place: str = "", folded: bool = False
    ) -> None:
        self.report = report
        self._place = place
        self._folded = folded
        self._value: dict[str, Any] = value if isinstance(value, dict) else {}
        self._names = {key.lower(): key for key in self._value} if folded else {}
        if value is not None and not isinstance(value, dict):
            self.note("", "is not a mapping")

    def raw(self, name: str) -> Any:
        if name not in self._value and self._folded:
            name = self._names.get(name.lower(), name)
        return self._value.get(name)

    def text(self, name: str) -> str:
        value = self.raw(name)
        if value is None or isinstance(value, str):
            return value or ""
        self.note(name, "is not text")
        return ""

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        # Meshery itself has written these as text, too.
        if isinstance(value, str) and value.lower() in ("true", "false", ""):
            return value.lower() == "true"
        if value is None or isinstance(value, bool):
            return bool(value)
        self.note(name, "is neither true nor false")
        return False

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.raw(name)
        if value is None or isinstance(value, dict):
            return value or {}
        self.note(name, "is not a mapping")
        return {}

    def sequence(self, name: str) -> list[Any]:
        value = self.raw(name)
        if value is None or isinstance(value, list):
            return value or []
        self.note(name, "is not a list")
        return []

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.sequence(name)
        if not all(isinstance(value, str) for value in values):
            self.note(name, "is not a list of texts")
            return ()
        return tuple(value for value in values if value)

    def inside(self, name: str) -> Fields:
        """The fields of a mapping below."""
        return Fields(self.raw(name), self.report, place=self._at(name), folded=self._folded)

    def pairs(self, name: str) -> dict[str, str]:
        """Labels or annotations, without Meshery's own."""
        pairs: dict[str, str] = {}
        for key, value in self.mapping(name).items():
            if value is None or is_bookkeeping(key):
                continue
            if isinstance(value, str):
                pairs[key] = value
            else:
                self.note(f"{name}[{quoted(key)}]", "is not text")
        return pairs

    def note(self, name: str, text: str) -> None:
        place = self._at(name)
        self.report.error((), f"{place} {text}" if place else f"it {text}")

    def _at(self, name: str) -> str:
        return ".".join(part for part in (self._place, name) if part)


def plain_kind(text: str) -> str:
    """A kind without its `/` and its suffix: `/Service` and `VirtualService.Istio` were written."""
    return text.strip().lstrip("/").partition(".")[0]


def plain_version(text: str) -> str:
    """An api version without the `/` of the core group."""
    return text.strip().lstrip("/")


# ---- Limits of a document ------------------------------------------------------------------------

# Checked once, so that no later step has to. YAML that came through the chassis is bounded already;
# JSON of ProcessOAM and Provision is not. Without this a deep document would end in a
# RecursionError, and half a surrogate pair in an error of whatever encodes the plan.

DEPTH_LIMIT = 100
SIZE_LIMIT_BYTES = 8 * 1024 * 1024
_INTEGERS = range(-(2**63), 2**64)


def admit(document: Any, *, label: str) -> None:
    """Raises `DesignMalformed` for what is too deep or what JSON cannot carry."""
    pending: list[tuple[Any, int]] = [(document, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > DEPTH_LIMIT:
            raise DesignMalformed(f"{label}: it is nested more than {DEPTH_LIMIT} levels deep")
        if isinstance(value, dict):
            if not all(_is_text(key) for key in value):
                raise DesignMalformed(f"{label}: it holds a key that is not text")
            pending += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            pending += [(part, depth + 1) for part in value]
        elif not _is_scalar(value):
            raise DesignMalformed(f"{label}: it holds a value that cannot be read")


def parse_json(text: str, *, label: str, budget: Budget | None = None) -> Any:
    """The value in `text`, admitted; raises `DesignMalformed` or `TooManyValues`. The parts of one
    call share a `budget`."""
    if len(text) > SIZE_LIMIT_BYTES:
        raise DesignMalformed(f"{label}: it is larger than {SIZE_LIMIT_BYTES} bytes")
    try:
        document = read_json(text, budget=budget)
    except ValueError:
        # The parser's own words may repeat a piece of the text.
        raise DesignMalformed(f"{label}: it is not JSON") from None
    admit(document, label=label)
    return document


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return (
        value is None or isinstance(value, bool) or (isinstance(value, int) and value in _INTEGERS)
    )


def _is_text(value: Any) -> bool:
    """True for text that UTF-8 can carry."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    return not any("\ud800" <= sign <= "\udfff" for sign in value)
