"""The care for EnvoyFilters: they patch what Istio generates, which each version may change.

Rules IST0151 to IST0155 are istioctl's (istio/istio, pkg/config/analysis/analyzers/envoyfilter);
names that Envoy renamed: Envoy's release notes of 1.14; how a version is matched: istiod's
pilot/pkg/model/envoyfilter.go (an RE2 search, not anchored).
"""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.patches import check_matched_names, check_value
from services.translator.istio.objects import (
    entries,
    group_kind,
    inner,
    namespace_of,
    subject_of,
    text,
)
from services.translator.istio.patterns import Pattern
from services.translator.istio.versions import minor_of
from services.translator.reports import Finding, Path, Report

_ROUTES = frozenset({"ROUTE_CONFIGURATION", "HTTP_ROUTE"})
_REPLACEABLE = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"})
# A pattern that finds both of these tells no versions apart.
_PROBES = ("0.0.1", "9.9.9")


def check_filter(
    obj: KubeObject, *, target: str | None, root_namespace: str = "istio-system"
) -> list[Finding]:
    """What is wrong or fragile in an EnvoyFilter; else nothing.

    `target` is the version that the proxies will have, such as 1.31.0; without one, patterns of
    versions are only checked for themselves. Raises `OptionsMalformed` when it is no version.
    """
    if group_kind(obj) != ("networking.istio.io", "EnvoyFilter"):
        return []
    report = Report(subject_of(obj))
    spec = inner(obj, "spec")
    _check_form(report, spec)
    _check_scope(report, spec, is_root=namespace_of(obj) == root_namespace)
    versioned: set[str] = set()
    for index, patch in entries(spec.get("configPatches")):
        path = ("spec", "configPatches", index)
        _check_operation(report, spec, patch, path=path, versioned=versioned)
        _check_versions(report, patch, path=path, target=target)
        check_matched_names(report, patch, path=path)
        check_value(report, patch, path=path)
        if _version_pattern(patch):
            versioned.add(_patched_name(patch))
    return report.findings


def _check_form(report: Report, spec: dict[str, Any]) -> None:
    for field, successor in (("filters", "configPatches"), ("workloadLabels", "workloadSelector")):
        if field in spec:
            report.error(
                ("spec", field),
                "was removed from EnvoyFilter; what it says has no effect",
                rule="filter/form",
                remedy=f"write it as {successor}",
            )


def _check_scope(report: Report, spec: dict[str, Any], *, is_root: bool) -> None:
    references = spec.get("targetRefs")
    if spec.get("workloadSelector") is not None and references:
        report.error(
            ("spec", "targetRefs"),
            "stands beside workloadSelector; only one of them may be set",
            rule="filter/scope",
            remedy="keep targetRefs for gateways and waypoints, workloadSelector for other "
            "workloads",
        )
    if references or inner(spec, "workloadSelector", "labels"):
        return
    if is_root:
        report.warning(
            ("spec",),
            "selects no workloads in the root namespace, so it patches every proxy of the mesh",
            rule="filter/mesh-wide",
            remedy="set workloadSelector or targetRefs",
        )
    else:
        report.info(
            ("spec",),
            "selects no workloads, so it patches every proxy of its namespace",
            rule="filter/namespace-wide",
        )


def _check_operation(
    report: Report, spec: dict[str, Any], patch: dict[str, Any], *, path: Path, versioned: set[str]
) -> None:
    operation = text(inner(patch, "patch").get("operation"))
    target = text(patch.get("applyTo"))
    place: Path = (*path, "patch", "operation")
    if operation in ("ADD", "REMOVE") and target in _ROUTES:
        code = "IST0153" if operation == "ADD" else "IST0154"
        report.error(
            place, f"{operation} is ignored for {target}", rule=code, remedy="use MERGE instead"
        )
        return
    if operation == "REPLACE" and target not in _REPLACEABLE:
        report.error(
            place,
            f"REPLACE works on {', '.join(sorted(_REPLACEABLE))}, not on {target or 'nothing'}",
            rule="IST0152",
            remedy="use MERGE, or REMOVE and ADD",
        )
        return
    if operation not in ("REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER"):
        return
    if spec.get("priority"):
        return
    if _patched_name(patch) in versioned:
        report.warning(
            place,
            f"{operation} is relative to a filter that an earlier patch changes for some proxy "
            "versions only, and no priority is set",
            rule="IST0155",
            remedy="set priority, so that the order of the patches is fixed",
        )
    else:
        report.warning(
            place,
            f"{operation} depends on what other EnvoyFilters did before, and no priority is set",
            rule="IST0151",
            remedy="set priority, or use an operation that is not relative (ADD, INSERT_FIRST, "
            "MERGE)",
        )


def _patched_name(patch: dict[str, Any]) -> str:
    """The name of the filter that a patch brings or, without one, changes."""
    name = text(inner(patch, "patch", "value").get("name"))
    return name or text(inner(patch, "match", "listener", "filterChain", "filter").get("name"))


def _version_pattern(patch: dict[str, Any]) -> str:
    return text(inner(patch, "match", "proxy").get("proxyVersion"))


def _check_versions(
    report: Report, patch: dict[str, Any], *, path: Path, target: str | None
) -> None:
    pattern = _version_pattern(patch)
    if not pattern:
        return
    place: Path = (*path, "match", "proxy", "proxyVersion")
    compiled = Pattern.of(pattern)
    if compiled is None:
        report.error(
            place,
            "is no expression that Istio can use (RE2, up to 1024 characters), so the patch "
            "applies to no proxy",
            rule="filter/version-match",
        )
        return
    if all(compiled.finds(probe) for probe in _PROBES):
        report.warning(
            place,
            "matches every version, so it protects from no upgrade",
            rule="filter/version-match",
            remedy="leave it out, or name the versions that the patch was tested with",
        )
    elif target is not None and not compiled.finds(_full(target)):
        report.warning(
            place,
            f"does not match {target}: the patch silently stops applying to proxies of that "
            "version",
            rule="filter/version-match",
            remedy="test the patch with that version and let the expression match it",
        )


def _full(version: str) -> str:
    minor_of(version)
    return version if version.count(".") > 1 else f"{version}.0"
