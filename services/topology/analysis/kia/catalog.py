"""All of Kiali's codes: what each says, the rules that find them, and what is left out and why."""

from __future__ import annotations

from services.topology.analysis.kia import (
    ambient,
    authorizations,
    destinationrules,
    gatewayapi,
    gateways,
    mtls,
    selectors,
    serviceentries,
    services,
    sidecars,
    virtualservices,
    workloads,
)
from services.topology.analysis.rules import Entry, Rule

_SUBJECTS = (
    selectors,
    authorizations,
    destinationrules,
    mtls,
    gateways,
    services,
    sidecars,
    virtualservices,
    serviceentries,
    workloads,
    ambient,
    gatewayapi,
)

ENTRIES: tuple[Entry, ...] = tuple(
    sorted((entry for one in _SUBJECTS for entry in one.ENTRIES), key=lambda entry: entry.code)
)
RULES: tuple[Rule, ...] = tuple(rule for one in _SUBJECTS for rule in one.RULES)
NOT_IMPLEMENTED: dict[str, str] = {
    "KIA1701": "A WorkloadGroup's ServiceAccount mostly has no pod, and ServiceAccounts are not "
    "watched.",
}
