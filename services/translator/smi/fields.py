"""Reads fields of an SMI object and says what is wrong with them, each with its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from services.chassis.errors import shortened
from services.translator.reports import Path, Report
from services.translator.smi.models import Named
from services.translator.smi.naming import is_subdomain

_PORTS = range(1, 65536)


class Fields(Report):
    """Findings about one object, and the readers that make them.

    A reader of something that is wrong adds a finding and returns something empty of the right
    type, so that the rest of the object is read as well.
    """

    __slots__ = ()

    @property
    def version(self) -> str:
        return self.subject.api_version.rpartition("/")[2]

    def mapping(self, value: Any, path: Path) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.error(path, "is required" if value is None else "is not a mapping")
        return {}

    def text(self, holder: dict[str, Any], name: str, path: Path) -> str:
        value = holder.get(name)
        if isinstance(value, str) and value:
            return value
        self.error((*path, name), "is required" if value in (None, "") else "is not text")
        return ""

    def items(
        self, holder: dict[str, Any], name: str, path: Path, *, is_required: bool = False
    ) -> Iterator[tuple[Path, Any]]:
        """The items of a list with their places."""
        value = holder.get(name)
        place = (*path, name)
        if value is not None and not isinstance(value, list):
            self.error(place, "is not a list")
            return
        if not value and is_required:
            self.error(place, "needs at least one item")
        for index, item in enumerate(value or ()):
            yield (*place, index), item

    def names(self, holder: dict[str, Any], name: str, path: Path) -> tuple[Named, ...]:
        found: list[Named] = []
        for place, item in self.items(holder, name, path):
            if isinstance(item, str) and item:
                found.append(Named(item, place))
            else:
                self.error(place, "is not a name")
        return tuple(found)

    def port(self, value: Any, path: Path) -> int | None:
        """A port number; v1alpha1 had it as text in some releases."""
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(number, int) and not isinstance(number, bool) and number in _PORTS:
            return number
        self.error(path, "is not a port from 1 to 65535", rule="ports")
        return None

    def reference(self, value: Any, path: Path, *, kinds: Sequence[str], group: str) -> Named:
        """A reference by kind and name; the group may stand there but must be the right one."""
        holder = self.mapping(value, path)
        kind = self.text(holder, "kind", path)
        if kind and kind not in kinds:
            self.error(
                (*path, "kind"),
                f"{shortened(kind)} cannot be referred to here",
                rule="unsupported",
                remedy=f"name one of {', '.join(kinds)}",
            )
        if holder.get("apiGroup") not in (None, "", group):
            self.error((*path, "apiGroup"), f"is not {group}", rule="unsupported")
        name = self.text(holder, "name", path)
        if name and not is_subdomain(name):
            self.error((*path, "name"), f"{shortened(name)} is no name that Kubernetes takes")
        return Named(name, (*path, "name"))
