"""One rewrite of one object: the copy that is changed, and a report of each change."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import copied, subject_of
from services.translator.istio.versions import Minor, minor_text
from services.translator.reports import Path, Report


class Rewriting:
    """Changes a deep copy of an object, never the object itself."""

    def __init__(self, obj: KubeObject, *, target: Minor | None, root_namespace: str) -> None:
        self.obj: KubeObject = copied(obj)
        self.root_namespace = root_namespace
        self.report = Report(subject_of(obj))
        self._target = target

    def reaches(self, since: Minor) -> bool:
        """Whether the target version is `since` or newer; without a target it is."""
        return self._target is None or self._target >= since

    def move(
        self,
        owner: dict[str, Any],
        former: str,
        successor: str,
        value: Any,
        *,
        path: Path,
        names: str = "",
        since: Minor | None = None,
        removed_in: str = "",
    ) -> None:
        """Writes a deprecated field of `owner` as its successor, which then holds `value`.

        A successor that is set already is the only one that Istio reads. A field with a wrong value
        has None as `value`; it stays, so that validation reports it. `names` is how the report
        calls the successor, if not by its field; `removed_in` is set for a field that Istio no
        longer reads.
        """
        present = owner.get(successor)
        if present or isinstance(present, dict):
            del owner[former]
            self.report_dropped((*path, former), f"is not read, because {successor} is set")
        elif value is not None:
            del owner[former]
            owner[successor] = value
            if removed_in:
                self.report_restored((*path, former), names or successor, since=removed_in)
            else:
                self.report_rewritten((*path, former), names or successor, since=since)

    def report_rewritten(self, path: Path, successor: str, *, since: Minor | None = None) -> None:
        """Reports that a deprecated form, which still works, was rewritten."""
        when = f" (Istio {minor_text(since)} and newer)" if since else ""
        message = f"is deprecated, it was written as {successor}{when}"
        self.report.info(path, message, rule="deprecated")

    def report_restored(self, path: Path, successor: str, *, since: str) -> None:
        """Reports that a form that Istio no longer reads was rewritten to its meaning."""
        message = f"has had no effect since {since}, it was written as {successor}"
        self.report.warning(path, message, rule="removed")

    def report_dropped(self, path: Path, reason: str) -> None:
        """Reports that a field without effect was left out."""
        self.report.info(path, f"{reason}, so it was left out", rule="without-effect")

    def report_kept(self, path: Path, message: str, remedy: str) -> None:
        """Reports a form that has no exact successor and stays."""
        self.report.warning(path, message, rule="deprecated", remedy=remedy)
