"""Changes of behaviour by minor version of Istio: one `Behaviour` for each entry of
`behaviours.yaml`, which also names the sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from services.chassis.kube.objects import KubeObject
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.translator.istio.objects import copied
from services.translator.istio.versions import Minor, minor_of, minor_text
from services.translator.reports import Level, Path
from services.translator.upgrades import conditions
from services.translator.upgrades.conditions import Condition, Rewrite
from services.translator.upgrades.meshes import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One change. It is about objects (`places`) or about a mesh as a whole (`concerns`)."""

    minor: Minor
    """The first version that has the change."""
    key: str
    title: str
    level: Level
    reason: str
    remedy: str = ""
    kind: tuple[str, str] | None = None
    """Group and kind of the objects that it is about; None for objects of several kinds."""
    places: Condition | None = None
    concerns: Callable[[Mesh], bool] | None = None
    rewrite: Rewrite | None = None

    def __post_init__(self) -> None:
        if (self.places is None) == (self.concerns is None):
            raise ValueError(f"{self.rule} must be about objects or about the mesh")

    def rewritten(self, obj: KubeObject, paths: Sequence[Path]) -> KubeObject | None:
        """A copy of the object that behaves as before; None where no rewrite does that."""
        if self.rewrite is None or not paths:
            return None
        changed: KubeObject = copied(obj)
        for path in paths:
            self.rewrite(changed, path)
        return None if changed == obj else changed

    @property
    def rule(self) -> str:
        return f"upgrade/{minor_text(self.minor)}/{self.key}"


class _Entry(BaseModel):
    """One entry of the file; its conditions are names of functions in `conditions`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str
    level: str
    kind: str = ""
    where: str | dict[str, list[str]] = ""
    mesh: str = ""
    rewrite: str = ""
    reason: str
    remedy: str = ""

    def behaviour(self, *, minor: Minor, key: str) -> Behaviour:
        group, _, kind = self.kind.rpartition("/")
        return Behaviour(
            minor=minor,
            key=key,
            title=self.title,
            level=Level(self.level),
            reason=self.reason,
            remedy=self.remedy,
            kind=(group, kind) if kind else None,
            places=self._places(),
            concerns=_function(self.mesh),
            rewrite=_function(self.rewrite),
        )

    def _places(self) -> Condition | None:
        places: Condition | None
        if isinstance(self.where, str):
            places = _function(self.where)
        else:
            [(name, arguments)] = self.where.items()
            places = _function(name)(*arguments)
        return places


def _function(name: str) -> Any:
    return getattr(conditions, name) if name else None


def _read() -> Iterator[Behaviour]:
    text = files(__package__).joinpath("behaviours.yaml").read_text()
    table = TypeAdapter(dict[str, dict[str, _Entry]]).validate_python(
        read_yaml(text, budget=Budget.trusted())
    )
    for version, entries in table.items():
        for key, entry in entries.items():
            yield entry.behaviour(minor=minor_of(version), key=key)


BEHAVIOURS: tuple[Behaviour, ...] = tuple(_read())
"""All known changes, oldest first."""


def behaviours_between(current: Minor, target: Minor) -> tuple[Behaviour, ...]:
    """The changes after `current` up to and with `target`, oldest first."""
    return tuple(known for known in BEHAVIOURS if current < known.minor <= target)
