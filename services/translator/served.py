"""Objects in a version that the cluster serves: one manifest works on clusters of several ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.definitions.schemas import newest_first


def in_served_version(obj: KubeObject, served: Mapping[str, Sequence[str]]) -> KubeObject:
    """`obj` as it is when its version is served or nothing is known of its kind; else in the
    newest served version (`served` is `ClusterFacts.served`)."""
    ref = Ref.of(obj)
    versions = served.get(f"{ref.group}/{ref.kind}")
    if not versions or ref.api_version.rpartition("/")[2] in versions:
        return obj
    newest = newest_first(versions)[0]
    # All versions of one Istio kind have one schema, so nothing else changes.
    return {**obj, "apiVersion": f"{ref.group}/{newest}" if ref.group else newest}
