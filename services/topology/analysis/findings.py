"""The findings of an analysis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.topology.cluster.objects import Key

_MOST_NAMES = 10


def listed(names: Iterable[str]) -> str:
    """The first names of many. How many more there are is not told: each one more would change the
    message of all objects that name it."""
    *first, last = sorted(names)[: _MOST_NAMES + 1]
    return ", ".join([*first, "and more" if len(first) == _MOST_NAMES else last])


class Level(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong with one object. Equal findings are the same one."""

    codes: tuple[str, ...]
    """By which the tools call it: `IST0101` (istioctl) before `KIA1101` (Kiali)."""
    level: Level
    object: Key
    path: str
    """Field path in the object, such as `spec.http[0].route[0].destination.host`; "" for all."""
    message: str
    """What is wrong, with the names; one line."""
    cause: str = ""
    remedy: str = ""

    @property
    def code(self) -> str:
        """The first of the codes."""
        return self.codes[0]
