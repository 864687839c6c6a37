"""All codes of istioctl's catalogue: those that are rules here, and why the others are not."""

from __future__ import annotations

from services.topology.analysis.ist import (
    conditions,
    destinationrules,
    envoyfilters,
    gateways,
    injection,
    meshhosts,
    missing,
    pods,
    policies,
    routes,
    serviceentries,
    services,
    sidecars,
    telemetries,
    virtualservices,
    webhooks,
)
from services.topology.analysis.rules import Entry, Rule

_SUBJECTS = (
    virtualservices,
    meshhosts,
    routes,
    destinationrules,
    gateways,
    sidecars,
    services,
    injection,
    pods,
    envoyfilters,
    telemetries,
    serviceentries,
    policies,
    webhooks,
    conditions,
)


def _entries() -> tuple[Entry, ...]:
    found = [missing.NOT_FOUND]
    for subject in _SUBJECTS:
        found += subject.ENTRIES
    return tuple(sorted(found, key=lambda entry: entry.code))


ENTRIES: tuple[Entry, ...] = _entries()
RULES: tuple[Rule, ...] = tuple(rule for subject in _SUBJECTS for rule in subject.RULES)

_SCHEMA = "the form of objects is what admission and the translator's vetting check"
_ANNOTATION = "needs the list of annotations that each version of Istio knows"
_DEFINITIONS = "definitions of kinds are not watched"
_SECRETS = "Secrets are not watched"
_UPGRADE = "belongs to an upgrade's plan, which knows both versions"
NOT_IMPLEMENTED: dict[str, str] = {
    "IST0001": "says that istioctl itself failed",
    "IST0002": "the translator vets deprecated fields, and names what replaces them",
    "IST0106": _SCHEMA,
    "IST0107": _ANNOTATION,
    "IST0108": _ANNOTATION,
    "IST0125": _ANNOTATION,
    "IST0126": "needs the clusters of a mesh over several of them",
    "IST0133": _SCHEMA,
    "IST0135": _ANNOTATION,
    "IST0136": _ANNOTATION,
    "IST0138": _SECRETS,
    "IST0140": "reports every route of a gateway to a host that has subsets elsewhere, which is "
    "the usual way to route",
    "IST0141": "a question about somebody's rights, not about objects",
    "IST0142": "a question about the API server's version, not about objects",
    "IST0143": "needs what processes in pods listen on; no analyzer of istioctl finds it any more",
    "IST0156": _DEFINITIONS,
    "IST0161": _SECRETS,
    "IST0163": "needs an external control plane's webhooks with addresses",
    "IST0164": "needs an external control plane's webhooks with addresses",
    "IST0168": _UPGRADE,
    "IST0169": _UPGRADE,
    "IST0170": "compares clusters; an analysis sees one",
    "IST0172": _DEFINITIONS,
    "IST0176": _DEFINITIONS,
}
"""Code to reason."""
