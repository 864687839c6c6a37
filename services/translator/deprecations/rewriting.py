"""One rewrite of one object: the copy that is changed, and what is told about each change."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import at, copied, subject_of
from services.translator.istio.versions import Minor, minor_text
from services.translator.reports import Path, Report


class Rewriting:
    """A deep copy of an object and a report of what was changed in it; the object itself stays."""

    def __init__(self, obj: KubeObject, *, target: Minor | None, root_namespace: str) -> None:
        self.obj: KubeObject = copied(obj)
        self.root_namespace = root_namespace
        self.report = Report(subject_of(obj))
        self._target = target

    def reaches(self, since: Minor) -> bool:
        """Whether the target version has what came with `since`; without a target it has all."""
        return self._target is None or self._target >= since

    def at(self, path: Path) -> dict[str, Any]:
        return at(self.obj, path)

    def became(self, path: Path, successor: str, *, since: Minor | None = None) -> None:
        """Tells that a deprecated form, which still works, was rewritten."""
        when = f" (Istio {minor_text(since)} and newer)" if since else ""
        self.report.info(
            path, f"is deprecated, it was written as {successor}{when}", rule="deprecated"
        )

    def restored(self, path: Path, successor: str, *, since: str) -> None:
        """Tells that a form that Istio no longer reads was rewritten to what it meant."""
        self.report.warning(
            path, f"has had no effect since {since}, it was written as {successor}", rule="removed"
        )

    def dropped(self, path: Path, reason: str) -> None:
        """Tells that something without effect was left out."""
        self.report.info(path, f"{reason}, so it was left out", rule="without-effect")

    def kept(self, path: Path, message: str, remedy: str) -> None:
        """Tells of a form that cannot be rewritten without changing what it does."""
        self.report.warning(path, message, rule="deprecated", remedy=remedy)
