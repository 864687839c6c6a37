"""What a minor version of Istio does differently, as data: one `Behaviour` for each change.

The changes are those of the upgrade notes in releasenotes/notes of istio/istio and of the
compatibility profiles in manifests/helm-profiles; the words are ours. What only concerns the
layout of the Helm charts is left out, because Meshbus does not install by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from services.chassis.kube.objects import KubeObject
from services.translator.istio.reading import Minor, told_minor
from services.translator.reports import Level, Path
from services.translator.upgrades.meshes import Mesh

Places: TypeAlias = Callable[[KubeObject, Mesh], Iterable[Path]]
"""Where a change touches an object; nowhere when it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One change. It is about objects (`places`) or about a mesh as a whole (`concerns`).

    `rewrite` gives a copy of an object that behaves under the new version as it did before.
    """

    minor: Minor
    """The first version that has the change."""
    key: str
    title: str
    level: Level
    reason: str
    remedy: str = ""
    kind: tuple[str, str] | None = None
    """Group and kind of the objects that it is about; None for objects of several kinds."""
    places: Places | None = None
    concerns: Callable[[Mesh], bool] | None = None
    rewrite: Callable[[KubeObject], KubeObject] | None = None

    def __post_init__(self) -> None:
        if (self.places is None) == (self.concerns is None):
            raise ValueError(f"{self.rule} must be about objects or about the mesh")

    @property
    def rule(self) -> str:
        return f"upgrade/{told_minor(self.minor)}/{self.key}"
