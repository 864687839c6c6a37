"""Whether a repair restores just what was applied, but for fields that others rightly write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chassis.bus.intents import AppliedObject
from services.chassis.kube.objects import KubeObject

_IDENTITY = ("apiVersion", "kind")
_LEFT_OUT = (
    ("clientConfig", "caBundle"),
    ("failurePolicy",),
    ("spec", "replicas"),
    ("status",),
)
"""Ends of the paths that a repair may leave to others: what topology exempts from drift
(`topology/drift/rules.py`), beside labels of a namespace, an aggregated role's rules, and what the
object's own annotation leaves to everybody."""


def restores(record: AppliedObject, obj: KubeObject) -> bool:
    """Whether `obj` says nothing but what the intent says, and leaves out no more than it may."""
    intended, metadata = record.object, obj.get("metadata") or {}
    known = intended.get("metadata") or {}
    if any(obj.get(field) != intended.get(field) for field in _IDENTITY):
        return False
    if any(metadata.get(field) != known.get(field) for field in ("name", "namespace")):
        return False
    return _restores(intended, obj, path=(), record=record)


def _restores(whole: Any, part: Any, *, path: tuple[str, ...], record: AppliedObject) -> bool:
    if isinstance(whole, Mapping) and isinstance(part, Mapping):
        left_out = whole.keys() - part.keys()
        return (
            part.keys() <= whole.keys()
            and all(_may_be_left(record, (*path, str(key))) for key in left_out)
            and all(
                _restores(whole[key], part[key], path=(*path, str(key)), record=record)
                for key in part
            )
        )
    if isinstance(whole, list) and isinstance(part, list):
        if len(whole) == len(part):
            pairs = zip(whole, part, strict=True)
            return all(_restores(a, b, path=path, record=record) for a, b in pairs)
        return bool(record.ignored) and all(item in whole for item in part)
    return type(whole) is type(part) and bool(whole == part)


def _may_be_left(record: AppliedObject, path: tuple[str, ...]) -> bool:
    if any(_is_under(path, ignored) for ignored in record.ignored):
        return True
    if path[:2] == ("metadata", "labels") and record.kind == "/Namespace":
        return True
    if path == ("rules",) and "aggregationRule" in record.object:
        return True
    return any(path[-len(end) :] == end for end in _LEFT_OUT)


def _is_under(path: tuple[str, ...], ignored: str) -> bool:
    """Whether an annotation covers a field; a path into a list covers all of the list."""
    dotted, plain = ".".join(path), ignored.partition("[")[0]
    return dotted == plain or dotted.startswith(f"{plain}.")
