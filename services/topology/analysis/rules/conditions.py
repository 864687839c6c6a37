"""IST0171: trouble that controllers report in an object's status."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.injection import IGNORED_NAMESPACES
from services.topology.cluster import kinds
from services.topology.cluster.forms import text
from services.topology.cluster.objects import Change, Config, Service

_BOUND = frozenset({"istio.io/WaypointBound"})
_ACCEPTED = frozenset({"Accepted", "Programmed", "ResolvedRefs"})
_WATCHED = {
    kinds.SERVICE: _BOUND,
    kinds.SERVICE_ENTRY: _BOUND,
    kinds.WORKLOAD_ENTRY: _BOUND,
    kinds.AUTHORIZATION_POLICY: frozenset({"ZtunnelAccepted", "WaypointAccepted"}),
    kinds.K8S_GATEWAY: _ACCEPTED,
    kinds.HTTP_ROUTE: _ACCEPTED,
    kinds.GRPC_ROUTE: _ACCEPTED,
}


def _check(_: Lens, obj: Service | Config) -> Iterator[Finding]:
    if obj.key.kind == kinds.SERVICE and obj.namespace in IGNORED_NAMESPACES:
        return
    for condition in obj.conditions:
        kind, reason = text(condition, "type"), text(condition, "reason")
        if kind not in _WATCHED[obj.key.kind]:
            continue
        is_partial = kind == "WaypointAccepted" and reason == "PartiallyInvalid"
        if text(condition, "status") == "False" or is_partial:
            message = f"{kind}: {reason}: {' '.join(text(condition, 'message').split())}"
            yield tell("IST0171", obj.key, message, "status.conditions")


def _matters(change: Change) -> bool:
    before, after = change.before, change.after
    return before is None or after is None or before.conditions != after.conditions


RULES = (Rule(finds=("IST0171",), kinds=tuple(_WATCHED), check=_check, matters=_matters),)
