"""Versions: Istio's releases and minors, and the versions of a kind's API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from services.chassis.errors import OptionsMalformed, shortened
from services.chassis.kube.objects import KubeObject, Ref

Minor: TypeAlias = tuple[int, int]
"""Such as (1, 31)."""

_RELEASE = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:-([0-9A-Za-z.-]{1,32}))?\Z")
_MINOR = re.compile(r"(\d{1,4})\.(\d{1,4})(\.\d{1,4})?([-+.].{0,64})?\Z")
_API = re.compile(r"v([0-9]{1,9})(?:(alpha|beta)([0-9]{1,9}))?\Z")
_STAGES = {None: 0, "beta": 1, "alpha": 2}


def parsed(text: str) -> tuple[int, int, int, bool] | None:
    """Major, minor, patch, and whether it is a release; None when `text` is no version."""
    found = _RELEASE.match(text.strip())
    if found is None:
        return None
    return (int(found[1]), int(found[2]), int(found[3] or 0), found[4] is None)


def newest_first(versions: Iterable[str]) -> list[str]:
    """The versions of Istio among the texts, newest first."""
    known = [(parsed(version), version) for version in versions]
    return [version for key, version in sorted((k, v) for k, v in known if k)][::-1]


def nearest(wanted: str, available: Iterable[str]) -> str:
    """The available version whose definitions hold for `wanted`: itself, or one of its minor.

    "" when there is none: definitions change from minor to minor, not within one.
    """
    key = parsed(wanted)
    if key is None:
        return ""
    same = [v for v in newest_first(available) if (p := parsed(v)) and p[:2] == key[:2]]
    if wanted in same:
        return wanted
    exact = [v for v in same if parsed(v) == key]
    return (exact or same or [""])[0]


def minor_of(version: str) -> Minor:
    """(1, 31) of `1.31`, `1.31.0` or `1.31.0-rc.0`; raises `OptionsMalformed`."""
    found = _MINOR.match(version)
    if found is None:
        raise OptionsMalformed(
            f"{shortened(version)} is not a version of Istio", remedy="write it as 1.31.0"
        )
    return (int(found[1]), int(found[2]))


def minor_text(minor: Minor) -> str:
    return f"{minor[0]}.{minor[1]}"


def by_priority(versions: Iterable[str]) -> tuple[str, ...]:
    """A kind's API versions: stable, beta, alpha, and of each the higher number first.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority
    Names that are no Kubernetes version come last, by alphabet.
    """
    return tuple(sorted(set(versions), key=_priority))


def _priority(version: str) -> tuple[int, int, int, str]:
    found = _API.match(version)
    if found is None:
        return (len(_STAGES), 0, 0, version)
    major, stage, minor = found.groups()
    return (_STAGES[stage], -int(major), -int(minor or 0), version)


def in_served_version(obj: KubeObject, served: Mapping[str, Sequence[str]]) -> KubeObject:
    """`obj` in a version that the cluster serves, so that one manifest fits clusters of any age.

    It stays as it is when its version is served or nothing is known of its kind; else it gets the
    newest served version (`served` is `ClusterFacts.served`).
    """
    ref = Ref.of(obj)
    versions = served.get(f"{ref.group}/{ref.kind}")
    if not versions or ref.api_version.rpartition("/")[2] in versions:
        return obj
    newest = by_priority(versions)[0]
    # All versions of one Istio kind have one schema, so nothing else changes.
    return {**obj, "apiVersion": f"{ref.group}/{newest}" if ref.group else newest}
