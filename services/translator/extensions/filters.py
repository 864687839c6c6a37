"""The care for EnvoyFilters: they patch what Istio generates, which each version may change.

Rules IST0151 to IST0155 are istioctl's (istio/istio, pkg/config/analysis/analyzers/envoyfilter);
names that Envoy renamed: Envoy's release notes of 1.14; how a version is matched: istiod's
pilot/pkg/model/envoyfilter.go (an RE2 search, not anchored).
"""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.patches import Checks, check_matched_names, check_value
from services.translator.findings import Finding, Level, Path
from services.translator.istio.patterns import Pattern
from services.translator.istio.reading import (
    entries,
    group_kind,
    inner,
    minor_of,
    namespace_of,
    text,
)

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
    checks = Checks(obj)
    spec = inner(obj, "spec")
    _check_form(checks, spec)
    _check_scope(checks, spec, is_root=namespace_of(obj) == root_namespace)
    versioned: set[str] = set()
    for index, patch in entries(spec.get("configPatches")):
        path = ("spec", "configPatches", index)
        _check_operation(checks, spec, patch, path=path, versioned=versioned)
        _check_versions(checks, patch, path=path, target=target)
        check_matched_names(checks, patch, path=path)
        check_value(checks, patch, path=path)
        if _version_pattern(patch):
            versioned.add(_patched_name(patch))
    return checks.found


def _check_form(checks: Checks, spec: dict[str, Any]) -> None:
    for field, successor in (("filters", "configPatches"), ("workloadLabels", "workloadSelector")):
        if field in spec:
            checks.tell(
                Level.ERROR,
                "filter/form",
                ("spec", field),
                "was removed from EnvoyFilter; what it says has no effect",
                f"write it as {successor}",
            )


def _check_scope(checks: Checks, spec: dict[str, Any], *, is_root: bool) -> None:
    references = spec.get("targetRefs")
    if spec.get("workloadSelector") is not None and references:
        checks.tell(
            Level.ERROR,
            "filter/scope",
            ("spec", "targetRefs"),
            "stands beside workloadSelector; only one of them may be set",
            "keep targetRefs for gateways and waypoints, workloadSelector for other workloads",
        )
    if references or inner(spec, "workloadSelector", "labels"):
        return
    if is_root:
        checks.tell(
            Level.WARNING,
            "filter/mesh-wide",
            ("spec",),
            "selects no workloads in the root namespace, so it patches every proxy of the mesh",
            "set workloadSelector or targetRefs",
        )
    else:
        checks.tell(
            Level.INFO,
            "filter/namespace-wide",
            ("spec",),
            "selects no workloads, so it patches every proxy of its namespace",
        )


def _check_operation(
    checks: Checks, spec: dict[str, Any], patch: dict[str, Any], *, path: Path, versioned: set[str]
) -> None:
    operation = text(inner(patch, "patch").get("operation"))
    target = text(patch.get("applyTo"))
    place: Path = (*path, "patch", "operation")
    if operation in ("ADD", "REMOVE") and target in _ROUTES:
        code = "IST0153" if operation == "ADD" else "IST0154"
        checks.tell(
            Level.ERROR, code, place, f"{operation} is ignored for {target}", "use MERGE instead"
        )
        return
    if operation == "REPLACE" and target not in _REPLACEABLE:
        checks.tell(
            Level.ERROR,
            "IST0152",
            place,
            f"REPLACE works on {', '.join(sorted(_REPLACEABLE))}, not on {target or 'nothing'}",
            "use MERGE, or REMOVE and ADD",
        )
        return
    if operation not in ("REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER"):
        return
    if spec.get("priority"):
        return
    if _patched_name(patch) in versioned:
        checks.tell(
            Level.WARNING,
            "IST0155",
            place,
            f"{operation} is relative to a filter that an earlier patch changes for some proxy "
            "versions only, and no priority is set",
            "set priority, so that the order of the patches is fixed",
        )
    else:
        checks.tell(
            Level.WARNING,
            "IST0151",
            place,
            f"{operation} depends on what other EnvoyFilters did before, and no priority is set",
            "set priority, or use an operation that is not relative (ADD, INSERT_FIRST, MERGE)",
        )


def _patched_name(patch: dict[str, Any]) -> str:
    """The name of the filter that a patch brings or, without one, changes."""
    name = text(inner(patch, "patch", "value").get("name"))
    return name or text(inner(patch, "match", "listener", "filterChain", "filter").get("name"))


def _version_pattern(patch: dict[str, Any]) -> str:
    return text(inner(patch, "match", "proxy").get("proxyVersion"))


def _check_versions(
    checks: Checks, patch: dict[str, Any], *, path: Path, target: str | None
) -> None:
    pattern = _version_pattern(patch)
    if not pattern:
        return
    place: Path = (*path, "match", "proxy", "proxyVersion")
    compiled = Pattern.of(pattern)
    if compiled is None:
        checks.tell(
            Level.ERROR,
            "filter/version-match",
            place,
            "is no expression that Istio can use (RE2, up to 1024 characters), so the patch "
            "applies to no proxy",
        )
        return
    if all(compiled.finds(probe) for probe in _PROBES):
        checks.tell(
            Level.WARNING,
            "filter/version-match",
            place,
            "matches every version, so it protects from no upgrade",
            "leave it out, or name the versions that the patch was tested with",
        )
    elif target is not None and not compiled.finds(_full(target)):
        checks.tell(
            Level.WARNING,
            "filter/version-match",
            place,
            f"does not match {target}: the patch silently stops applying to proxies of that "
            "version",
            "test the patch with that version and let the expression match it",
        )


def _full(version: str) -> str:
    minor_of(version)
    return version if version.count(".") > 1 else f"{version}.0"
