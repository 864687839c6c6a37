"""Compares an object with its intent: by field ownership first, then by value.

A server-side apply makes its manager the owner of what it sent. Whoever changes or removes such a
field takes it out of that manager's entry, so an object whose entry has all its paths is as it was
applied, whatever else was added or defaulted. Only what was lost is compared by value.

Times in managedFields have whole seconds, and an entry keeps its own when others take from it. So
a newer time than the kept one is a later apply of ours, whose intent is still to come; with the
same time, a path that nobody else holds may also be one that our own apply of the same second left
out (`Standing.UNSURE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.chassis.bus.intents import AppliedObject, as_found
from services.chassis.kube.applying import is_own, managed_fields, own_entry
from services.chassis.kube.defaults import completed
from services.chassis.kube.objects import KubeObject
from services.topology.drift import rules
from services.topology.drift.fieldsets import (
    ABSENT,
    Path,
    holds,
    lost,
    paths_of,
    readable,
    value_at,
)
from services.topology.drift.values import differences, is_ignored, same, shown


class Standing(StrEnum):
    """How an object stands to its intent."""

    AS_APPLIED = "as applied"
    OUTDATED = "outdated"
    """The object is from before the intent: a watch that lags."""
    APPLIED_AGAIN = "applied again"
    """By ourselves; the new intent is on its way."""
    UNSURE = "unsure"
    DRIFTED = "drifted"


class DriftKind(StrEnum):
    CHANGED = "changed"
    REMOVED = "removed"
    DELETED = "deleted"
    TAKEOVER = "takeover"
    """Another manager declares what we declared, by a server-side apply of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One leaf. `wanted` and `found` are as they may be shown, None for none."""

    path: str
    wanted: Any
    found: Any
    kind: DriftKind
    owner: Mapping[str, Any]
    """The entry of managedFields that has it now; empty when nobody says so."""


@dataclass(frozen=True, slots=True)
class Verdict:
    standing: Standing
    differences: tuple[Difference, ...] = ()
    exempt: tuple[Path, ...] = ()
    """What we applied and others hold by right."""

    @property
    def kind(self) -> DriftKind:
        """The gravest of the differences."""
        kinds = {difference.kind for difference in self.differences}
        order = (DriftKind.CHANGED, DriftKind.REMOVED, DriftKind.TAKEOVER)
        return next((kind for kind in order if kind in kinds), DriftKind.CHANGED)


def compared(intent: AppliedObject, live: KubeObject) -> Verdict:
    """The object, which is there, against its intent."""
    metadata = live.get("metadata") or {}
    own = own_entry(live)
    is_same = not intent.uid or metadata.get("uid") == intent.uid
    if is_same and _version(metadata.get("resourceVersion")) < _version(intent.resource_version):
        return Verdict(Standing.OUTDATED)
    if own is not None and (str(own.get("time") or "") > intent.time or not is_same):
        return Verdict(Standing.APPLIED_AGAIN)
    gone = lost(intent.fields, (own or {}).get("fieldsV1") or {}) if is_same else _all(intent)
    if not gone:
        return Verdict(Standing.AS_APPLIED)
    losses = [_Loss.of(intent, live, path) for path in gone]
    exempt = tuple(loss.path for loss in losses if loss.is_exempt)
    counted = [loss for loss in losses if not loss.is_exempt]
    found = tuple(_leaves(intent, live, counted))
    if not found:
        return Verdict(Standing.AS_APPLIED, exempt=exempt)
    is_sure = not is_same or any(loss.is_sure for loss in counted)
    return Verdict(Standing.DRIFTED if is_sure else Standing.UNSURE, found, exempt)


def _all(intent: AppliedObject) -> list[Path]:
    return sorted(paths_of(intent.fields), key=lambda path: (len(path), path))


def _version(text: Any) -> int:
    """A resource version as a number, as it is in practice; 0 for any other form."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return 0


@dataclass(frozen=True, slots=True)
class _Loss:
    """A path that our entry lost."""

    path: Path
    owner: Mapping[str, Any] | None
    """The other manager that holds it now."""
    suspect: Mapping[str, Any] | None
    """Who wrote since, where nobody holds it."""
    is_exempt: bool

    @classmethod
    def of(cls, intent: AppliedObject, live: KubeObject, path: Path) -> _Loss:
        others = [entry for entry in managed_fields(live) if not is_own(entry)]
        owner = _newest(e for e in others if holds(e.get("fieldsV1") or {}, path))
        suspect = _newest(
            entry
            for entry in others
            if not entry.get("subresource")
            and entry.get("manager") not in rules.BYSTANDERS
            and str(entry.get("time") or "") >= intent.time
        )
        text = readable(path)
        exempt = is_ignored(text, intent.ignored) or (
            rules.exempting(intent.kind, path, owner, intent.object) is not None
        )
        return cls(path, owner, suspect if owner is None else None, exempt)

    @property
    def is_sure(self) -> bool:
        """Whether only another manager can have caused it."""
        return self.owner is not None or self.suspect is not None


def _newest(found: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return max(found, key=lambda entry: str(entry.get("time") or ""), default=None)


def _leaves(
    intent: AppliedObject, live: KubeObject, losses: Iterable[_Loss]
) -> Iterator[Difference]:
    """What differs at the lost paths. Something whole that is gone is told once, not leaf by leaf;
    something that is there still is compared where it says more than that it is there."""
    losses = list(losses)
    made = completed(intent.object, intent.defaults)
    removed: list[Path] = []
    for loss in losses:
        path = loss.path
        if any(path[: len(above)] == above for above in removed):
            continue
        found = value_at(live, path)
        wanted = as_found(intent, value_at(intent.object, path), found)
        if wanted is None or wanted == {}:
            # An empty map is a leaf of ours until somebody puts something of theirs into it.
            continue
        if found is ABSENT and wanted is not ABSENT:
            removed.append(path)
        elif _has_parts(intent.fields, path):
            continue
        yield from _differences(intent, loss, wanted, found, defaulted=value_at(made, path))


def _has_parts(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether the set has members under the path: each of them is looked at for itself."""
    for element in path:
        fields = fields.get(element) or {}
    return any(element != "." for element in fields)


def _differences(
    intent: AppliedObject, loss: _Loss, wanted: Any, found: Any, *, defaulted: Any
) -> Iterator[Difference]:
    """The leaves that differ. What the API server itself makes of what we sent is no difference,
    whoever wrote it last."""
    text = readable(loss.path)
    owner = loss.owner or loss.suspect or {}
    is_declared = loss.owner is not None and owner.get("operation") == "Apply"
    made = {path: value for path, _, value in differences(text, wanted, defaulted)}
    leaves = [
        (path, want, have)
        for path, want, have in differences(text, wanted, found)
        if not (path in made and same(path, made[path], have))
    ]
    if not leaves and is_declared:
        # Held by another one's apply only, with our value: the next change is theirs to make.
        yield _difference(intent, text, wanted, found, DriftKind.TAKEOVER, owner)
    for path, want, have in leaves:
        if is_ignored(path, intent.ignored):
            continue
        kind = DriftKind.CHANGED
        if is_declared:
            kind = DriftKind.TAKEOVER
        elif have is ABSENT:
            kind = DriftKind.REMOVED
        yield _difference(intent, path, want, have, kind, owner)


def _difference(
    intent: AppliedObject,
    path: str,
    wanted: Any,
    found: Any,
    kind: DriftKind,
    owner: Mapping[str, Any],
) -> Difference:
    return Difference(
        path=path,
        wanted=shown(intent.kind, path, wanted),
        found=shown(intent.kind, path, found),
        kind=kind,
        owner=owner,
    )
