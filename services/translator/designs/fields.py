"""Fields of a component as it was sent: typed access that notes a problem instead of raising."""

from __future__ import annotations

from typing import Any

from services.translator.designs.components import is_bookkeeping, quoted
from services.translator.designs.problems import Problems


class Fields:
    """A mapping of a component. Missing and null fields read as empty.

    `folded` takes names in any case: Go writes and reads OAM so.
    """

    def __init__(
        self, value: Any, *, label: str, problems: Problems, place: str = "", folded: bool = False
    ) -> None:
        self.label = label
        self.problems = problems
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
        return Fields(
            self.raw(name),
            label=self.label,
            problems=self.problems,
            place=self._at(name),
            folded=self._folded,
        )

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
        self.problems.add(self.label, f"{place} {text}" if place else f"it {text}")

    def _at(self, name: str) -> str:
        return ".".join(part for part in (self._place, name) if part)


def plain_kind(text: str) -> str:
    """A kind without its `/` and its suffix: `/Service` and `VirtualService.Istio` were written."""
    return text.strip().lstrip("/").partition(".")[0]


def plain_version(text: str) -> str:
    """An api version without the `/` of the core group."""
    return text.strip().lstrip("/")
