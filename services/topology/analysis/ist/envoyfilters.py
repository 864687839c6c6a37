"""EnvoyFilters: operations that do nothing where they stand, or something else after an upgrade."""

from __future__ import annotations

import json
from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.specs import Spec, part, text
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config

RELATIVE = Entry(
    code="IST0151",
    name="EnvoyFilterUsesRelativeOperation",
    level=Level.WARNING,
    cause="The patch depends on a filter that another EnvoyFilter may add later, and without a "
    "priority nothing settles the order.",
    remedy="Set `priority`, or use INSERT_FIRST or ADD.",
)
BAD_REPLACE = Entry(
    code="IST0152",
    name="EnvoyFilterUsesReplaceOperationIncorrectly",
    level=Level.ERROR,
    cause="REPLACE works for HTTP_FILTER, NETWORK_FILTER and VIRTUAL_HOST only.",
    remedy="Use MERGE, or REMOVE and ADD.",
)
BAD_ADD = Entry(
    code="IST0153",
    name="EnvoyFilterUsesAddOperationIncorrectly",
    level=Level.ERROR,
    cause="ADD is ignored for ROUTE_CONFIGURATION and HTTP_ROUTE.",
    remedy="Use MERGE, or an INSERT operation for routes.",
)
BAD_REMOVE = Entry(
    code="IST0154",
    name="EnvoyFilterUsesRemoveOperationIncorrectly",
    level=Level.ERROR,
    cause="REMOVE is ignored for ROUTE_CONFIGURATION and HTTP_ROUTE.",
    remedy="Change the VirtualService or Gateway that makes the route.",
)
RELATIVE_VERSIONED = Entry(
    code="IST0155",
    name="EnvoyFilterUsesRelativeOperationWithProxyVersion",
    level=Level.WARNING,
    cause="The patch depends on a filter that a patch for one proxy version adds; after an upgrade "
    "the filter is gone.",
    remedy="Set `priority`, or use INSERT_FIRST or ADD, or drop `proxyVersion`.",
)

_ROUTES = ("ROUTE_CONFIGURATION", "HTTP_ROUTE")
_REPLACEABLE = ("NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST")
_RELATIVE = ("REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER")


def _patches(lens: Lens, config: Config) -> Iterator[Finding]:
    for index, patch in _listed(config):
        path = f"spec.configPatches[{index}].patch.operation"
        operation, where = text(part(patch, "patch"), "operation"), text(patch, "applyTo")
        if operation == "ADD" and where in _ROUTES:
            yield BAD_ADD.on(config.key, f"ADD is ignored for {where}.", path)
        elif operation == "REMOVE" and where in _ROUTES:
            yield BAD_REMOVE.on(config.key, f"REMOVE is ignored for {where}.", path)
        elif operation == "REPLACE" and where not in _REPLACEABLE:
            yield BAD_REPLACE.on(config.key, f"REPLACE does not work for {where}.", path)
        elif operation in _RELATIVE and not config.spec.get("priority"):
            if _depends_on_version(lens, config, index, _target(patch)):
                message = f"{operation} without a priority, next to a patch with a proxyVersion."
                yield RELATIVE_VERSIONED.on(config.key, message, path)
            else:
                yield RELATIVE.on(config.key, f"{operation} without a priority.", path)


def _listed(config: Config) -> Iterator[tuple[int, Spec]]:
    """The patches up to one that says no operation: istioctl stops there."""
    found = config.spec.get("configPatches")
    for index, patch in enumerate(found if isinstance(found, list) else ()):
        if not isinstance(patch, dict) or not isinstance(patch.get("patch"), dict):
            return
        yield index, patch


def _target(patch: Spec) -> str:
    """The filter that a patch is about, as istioctl tells them apart; "" where it says none."""
    value = part(patch, "patch", "value")
    if not value:
        return ""
    if "name" in value:
        return json.dumps(value["name"], sort_keys=True)
    return text(part(patch, "match", "listener", "filterChain", "filter"), "name")


def _depends_on_version(lens: Lens, config: Config, index: int, target: str) -> bool:
    """Whether a patch before this one, or of another EnvoyFilter, is about the same filter and for
    one proxy version. istioctl knows just those of the others that it happened to see before."""
    for place, patch in _listed(config):
        if place < index and _has_version(patch) and _target(patch) == target:
            return True
    return any(
        _has_version(patch) and _target(patch) == target
        for other in lens.all(kinds.ENVOY_FILTER)
        if other.key != config.key
        for _, patch in _listed(other)
    )


def _has_version(patch: Spec) -> bool:
    return bool(text(part(patch, "match", "proxy"), "proxyVersion"))


ENTRIES = (RELATIVE, BAD_REPLACE, BAD_ADD, BAD_REMOVE, RELATIVE_VERSIONED)
RULES = (
    Rule(
        codes=("IST0151", "IST0152", "IST0153", "IST0154", "IST0155"),
        kinds=(kinds.ENVOY_FILTER,),
        check=_patches,
    ),
)
