"""Annotations that Istio renamed or no longer reads, on pods and where pods are made.

Facts from istio.io/api, annotation/annotations.yaml, and from the release notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import mapping, pod_path
from services.translator.reports import Path

_INJECT = "sidecar.istio.io/inject"
_BY_TELEMETRY = "use a Telemetry with tagOverrides"
_BY_STATS_MATCHER = "use proxyStatsMatcher in the annotation proxy.istio.io/config"

_FORMER: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "sidecar.istio.io/discoveryAddress": (
            "is deprecated",
            "use discoveryAddress in the annotation proxy.istio.io/config",
        ),
        "sidecar.istio.io/statsInclusionPrefixes": ("is deprecated", _BY_STATS_MATCHER),
        "sidecar.istio.io/statsInclusionSuffixes": ("is deprecated", _BY_STATS_MATCHER),
        "sidecar.istio.io/statsInclusionRegexps": ("is deprecated", _BY_STATS_MATCHER),
        "sidecar.istio.io/extraStatTags": ("is deprecated", _BY_TELEMETRY),
        "sidecar.istio.io/statsCompression": (
            "is not read any more",
            "use statsCompression in the annotation proxy.istio.io/config",
        ),
        "traffic.sidecar.istio.io/kubevirtInterfaces": (
            "is deprecated since Istio 1.25",
            "use istio.io/reroute-virtual-interfaces, which ambient pods heed too",
        ),
        "alpha.istio.io/kubernetes-serviceaccounts": ("is not read any more", "leave it out"),
        "alpha.istio.io/canonical-serviceaccounts": ("is not read any more", "leave it out"),
    }
)
"""Annotation to what became of it, and what to do. None has a form that means the same alone."""


def rewrite_annotations(rewriting: Rewriting) -> None:
    """Tells of former annotations, and turns the one against injection into its label."""
    pod = pod_path(rewriting.obj)
    if pod is None:
        return
    path: Path = (*pod, "metadata")
    metadata = rewriting.at(path)
    annotations = mapping(metadata.get("annotations"))
    for name in sorted(annotations.keys() & _FORMER.keys()):
        state, remedy = _FORMER[name]
        rewriting.kept((*path, "annotations", name), state, remedy)
    if _INJECT in annotations:
        _rewrite_injection(rewriting, metadata, annotations, path=path)


def _rewrite_injection(
    rewriting: Rewriting, metadata: dict[str, Any], annotations: dict[str, Any], *, path: Path
) -> None:
    """The label wins over the annotation; only the label reaches pods in other namespaces."""
    place: Path = (*path, "annotations", _INJECT)
    labels = metadata.get("labels")
    if isinstance(labels, dict) and _INJECT in labels:
        del annotations[_INJECT]
        rewriting.dropped(place, "stands beside the label of that name, which wins")
    elif annotations[_INJECT] == "false" and (labels is None or isinstance(labels, dict)):
        del annotations[_INJECT]
        metadata["labels"] = {**(labels or {}), _INJECT: "false"}
        rewriting.became(place, "the label of that name")
    else:
        rewriting.kept(
            place,
            "is deprecated",
            "use the label of that name; it injects the pod in every namespace, while the "
            "annotation only works where injection is on",
        )
