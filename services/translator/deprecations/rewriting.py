"""One rewrite of one object: the copy that is changed, and what is told about each change."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.findings import Finding, Level, Path
from services.translator.istio.reading import Minor, at, copied, subject_of, told_minor


class Rewriting:
    """A deep copy of an object and the findings so far; the object itself is never changed."""

    def __init__(self, obj: KubeObject, *, target: Minor | None, root_namespace: str) -> None:
        self.obj: KubeObject = copied(obj)
        self.root_namespace = root_namespace
        self.findings: list[Finding] = []
        self._subject = subject_of(obj)
        self._target = target

    def reaches(self, since: Minor) -> bool:
        """Whether the target version has what came with `since`; without a target it has all."""
        return self._target is None or self._target >= since

    def at(self, path: Path) -> dict[str, Any]:
        return at(self.obj, path)

    def tell(self, level: Level, rule: str, path: Path, message: str, remedy: str = "") -> None:
        self.findings.append(
            Finding(
                level=level,
                rule=rule,
                subject=self._subject,
                path=path,
                message=message,
                remedy=remedy,
            )
        )

    def became(self, path: Path, successor: str, *, since: Minor | None = None) -> None:
        """Tells that a deprecated form, which still works, was rewritten."""
        when = f" (Istio {told_minor(since)} and newer)" if since else ""
        self.tell(
            Level.INFO, "deprecated", path, f"is deprecated, it was written as {successor}{when}"
        )

    def restored(self, path: Path, successor: str, *, since: str) -> None:
        """Tells that a form that Istio no longer reads was rewritten to what it meant."""
        self.tell(
            Level.WARNING,
            "removed",
            path,
            f"has had no effect since {since}, it was written as {successor}",
        )

    def dropped(self, path: Path, reason: str) -> None:
        """Tells that something without effect was left out."""
        self.tell(Level.INFO, "without-effect", path, f"{reason}, so it was left out")

    def kept(self, path: Path, message: str, remedy: str) -> None:
        """Tells of a form that cannot be rewritten without changing what it does."""
        self.tell(Level.WARNING, "deprecated", path, message, remedy)
