"""IST0101, which many subjects find: something refers to what is not there."""

from __future__ import annotations

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.rules import Entry
from services.topology.cluster.objects import Key

NOT_FOUND = Entry(
    code="IST0101",
    name="ReferencedResourceNotFound",
    level=Level.ERROR,
    cause="The object names a host, gateway, subset, namespace or workload that does not exist.",
    remedy="Correct the name, or create what it names. A host outside the cluster needs a "
    "ServiceEntry; a subset needs a DestinationRule for the same host.",
)


def not_found(key: Key, what: str, name: str, path: str) -> Finding:
    """`what` is the kind of thing that was looked for."""
    return NOT_FOUND.on(key, f"The {what} {name or '(none)'} was not found.", path)
