"""Reads the fields of an SMI object and reports what is wrong with them, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import shortened
from services.translator.reports import Path, Report
from services.translator.smi.models import Named
from services.translator.smi.naming import is_subdomain

_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True)
class SpecFields:
    """One mapping in an object, and its place.

    A field that is wrong is reported and reads as something empty of the right type, so that the
    rest of the object is read as well.
    """

    value: dict[str, Any]
    path: Path
    report: Report

    @classmethod
    def of(cls, value: Any, path: Path, report: Report) -> SpecFields:
        """The mapping at `path`; anything else is reported and reads as empty."""
        if isinstance(value, dict):
            return cls(value, path, report)
        report.error(path, "is required" if value is None else "is not a mapping")
        return cls({}, path, report)

    @property
    def version(self) -> str:
        return self.report.subject.api_version.rpartition("/")[2]

    @property
    def namespace(self) -> str:
        return self.report.subject.namespace

    def error(self, name: str, message: str, *, rule: str = "schema", remedy: str = "") -> None:
        """Reports an error in the field `name`."""
        self.report.error((*self.path, name), message, rule=rule, remedy=remedy)

    def inner(self, name: str) -> SpecFields:
        return self.of(self.value.get(name), (*self.path, name), self.report)

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if isinstance(value, str) and value:
            return value
        self.error(name, "is required" if value in (None, "") else "is not text")
        return ""

    def items(self, name: str, *, is_required: bool = False) -> Iterator[tuple[Path, Any]]:
        """The items of a list with their places."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, list):
            self.error(name, "is not a list")
            return
        if not value and is_required:
            self.error(name, "needs at least one item")
        for index, item in enumerate(value or ()):
            yield (*self.path, name, index), item

    def mappings(self, name: str, *, is_required: bool = False) -> Iterator[SpecFields]:
        """The items of a list of mappings."""
        for path, item in self.items(name, is_required=is_required):
            yield self.of(item, path, self.report)

    def names(self, name: str) -> tuple[Named, ...]:
        found: list[Named] = []
        for path, item in self.items(name):
            if isinstance(item, str) and item:
                found.append(Named(item, path))
            else:
                self.report.error(path, "is not a name")
        return tuple(found)

    def port(self, value: Any, path: Path) -> int | None:
        """A port number; v1alpha1 had it as text in some releases."""
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(number, int) and not isinstance(number, bool) and number in _PORTS:
            return number
        self.report.error(path, "is not a port from 1 to 65535", rule="ports")
        return None

    def reference(self, *, kinds: Sequence[str], group: str) -> Named:
        """A reference by kind and name; the group may be left out but must be the right one."""
        kind = self.text("kind")
        if kind and kind not in kinds:
            self.error(
                "kind",
                f"{shortened(kind)} cannot be referred to here",
                rule="unsupported",
                remedy=f"name one of {', '.join(kinds)}",
            )
        if self.value.get("apiGroup") not in (None, "", group):
            self.error("apiGroup", f"is not {group}", rule="unsupported")
        name = self.text("name")
        if name and not is_subdomain(name):
            self.error("name", f"{shortened(name)} is no name that Kubernetes takes")
        return Named(name, (*self.path, "name"))
