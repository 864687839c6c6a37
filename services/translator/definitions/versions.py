"""API versions: which of a kind's versions to use, and an object said in another one.

The order is that of Kubernetes: stable before beta before alpha, then the higher number
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from services.chassis.kube.objects import KubeObject

if TYPE_CHECKING:
    from services.translator.definitions.schemas import Definition

_VERSION = re.compile(r"v([0-9]{1,9})(?:(alpha|beta)([0-9]{1,9}))?\Z")
_STAGES = {None: 0, "beta": 1, "alpha": 2}


def newest_first(versions: Iterable[str]) -> tuple[str, ...]:
    """The versions by priority; names that are no Kubernetes version come last, by alphabet."""
    return tuple(sorted(set(versions), key=_priority))


def _priority(version: str) -> tuple[int, int, int, str]:
    parsed = _VERSION.match(version)
    if parsed is None:
        return (len(_STAGES), 0, 0, version)
    major, stage, minor = parsed.groups()
    return (_STAGES[stage], -int(major), -int(minor or 0), version)


def preferred_version(definition: Definition, served: Sequence[str]) -> str:
    """The version of the kind to write for a cluster that serves `served` of it.

    Nothing in `served` means that nothing is known of the cluster: the definition's newest is
    taken. A cluster that serves only versions that the definition lacks gets its own newest one.
    """
    known = [version for version in served if version in definition.versions]
    return newest_first(known or served or definition.versions)[0]


def in_version(obj: KubeObject, api_version: str) -> KubeObject:
    """`obj` with another `apiVersion` (such as `networking.istio.io/v1beta1`).

    All versions of one Istio kind have one schema, so nothing else changes; the bed's tests hold
    the distributions to that. What the given object holds is shared, not copied.
    """
    return {**obj, "apiVersion": api_version}
