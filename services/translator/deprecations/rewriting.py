"""One rewrite of one object, and the kinds of rules that rewrite a field of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from services.chassis.kube.objects import KubeObject
from services.translator.istio.objects import copied, entries, mapping, subject_of
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


Rule: TypeAlias = Callable[[Rewriting, dict[str, Any], Path], None]
"""Rewrites one mapping of the object, which stands at a path."""


def moved(
    former: str,
    successor: str,
    convert: Callable[[Any], Any],
    *,
    names: str = "",
    since: Minor | None = None,
    removed_in: str = "",
) -> Rule:
    """Writes a deprecated field as its successor, the only one that Istio reads if it is set.

    A field with a wrong value, for which `convert` returns None, stays, so that validation reports
    it. `names` is how the report calls the successor, if not by its field; `removed_in` is set for
    a field that Istio no longer reads.
    """

    def rule(rewriting: Rewriting, owner: dict[str, Any], path: Path) -> None:
        if former not in owner or (since is not None and not rewriting.reaches(since)):
            return
        present, value = owner.get(successor), convert(owner[former])
        if present or isinstance(present, dict):
            del owner[former]
            rewriting.report_dropped((*path, former), f"is not read, because {successor} is set")
        elif value is not None:
            del owner[former]
            owner[successor] = value
            if removed_in:
                rewriting.report_restored((*path, former), names or successor, since=removed_in)
            else:
                rewriting.report_rewritten((*path, former), names or successor, since=since)

    return rule


def dropped(field: str, reason: str) -> Rule:
    """Leaves out a field without effect."""

    def rule(rewriting: Rewriting, owner: dict[str, Any], path: Path) -> None:
        if field in owner:
            del owner[field]
            rewriting.report_dropped((*path, field), reason)

    return rule


def kept(field: str, message: str, remedy: str) -> Rule:
    """Reports a field that has no exact successor."""

    def rule(rewriting: Rewriting, owner: dict[str, Any], path: Path) -> None:
        if field in owner:
            rewriting.report_kept((*path, field), message, remedy)

    return rule


def places(value: Any, pattern: str, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The mappings at places such as `spec.http[].fault`, each with its path; "" is `value`."""
    if not pattern:
        yield path, mapping(value)
        return
    field, _, rest = pattern.partition(".")
    name = field.removesuffix("[]")
    below = mapping(value).get(name)
    if name != field:
        for index, item in entries(below):
            yield from places(item, rest, (*path, name, index))
    else:
        yield from places(below, rest, (*path, name))
