"""DestinationRules: hosts and subsets that do not exist, and TLS that trusts anybody."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.destinations import destination
from services.topology.analysis.ist.specs import Spec, labels, part, parts, shown, text
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds, tags
from services.topology.cluster.objects import Config

_TLS_CAUSE = (
    "Without `caCertificates` the proxy takes whatever certificate the server shows, so "
    "anybody on the way can pose as the server."
)
_TLS_REMEDY = (
    "Set `caCertificates`, or `credentialName` together with a `workloadSelector`, or use "
    "ISTIO_MUTUAL inside the mesh."
)
UNVERIFIED = Entry(
    code="IST0128",
    name="NoServerCertificateVerificationDestinationLevel",
    level=Level.WARNING,
    cause=_TLS_CAUSE,
    remedy=_TLS_REMEDY,
)
UNVERIFIED_PORT = Entry(
    code="IST0129",
    name="NoServerCertificateVerificationPortLevel",
    level=Level.WARNING,
    cause=_TLS_CAUSE,
    remedy=_TLS_REMEDY,
)
EMPTY_SUBSET = Entry(
    code="IST0173",
    name="DestinationRuleSubsetNotSelectPods",
    level=Level.ERROR,
    cause="No pod has the subset's labels, so requests to the subset fail with 503.",
    remedy="Correct the subset's labels, or run pods that have them.",
)
UNKNOWN_HOST = Entry(
    code="IST0174",
    name="UnknownDestinationRuleHost",
    level=Level.WARNING,
    cause="No Service and no ServiceEntry has this host, so the rule does nothing.",
    remedy="Correct the host (a short name is looked up in the rule's own namespace), or create "
    "the Service or ServiceEntry.",
)

_OF_NODES = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/hostname",
)
"""Labels that a proxy has from its node. Nodes are not watched."""


def _tls(_: Lens, config: Config) -> Iterator[Finding]:
    policy = part(config.spec, "trafficPolicy")
    has_selector = isinstance(config.spec.get("workloadSelector"), dict)
    if _is_unverified(part(policy, "tls"), has_selector=has_selector):
        mode = text(part(policy, "tls"), "mode")
        message = f"TLS mode {mode} for {text(config.spec, 'host')} has no caCertificates."
        yield UNVERIFIED.on(config.key, message, "spec.trafficPolicy.tls")
    for index, settings in parts(policy, "portLevelSettings"):
        tls = part(settings, "tls")
        if _is_unverified(tls, has_selector=has_selector):
            number = text(part(settings, "port"), "number")
            message = (
                f"TLS mode {text(tls, 'mode')} for port {number} of {text(config.spec, 'host')} "
                "has no caCertificates."
            )
            path = f"spec.trafficPolicy.portLevelSettings[{index}].tls"
            yield UNVERIFIED_PORT.on(config.key, message, path)


def _is_unverified(tls: Spec, *, has_selector: bool) -> bool:
    if text(tls, "mode") not in ("SIMPLE", "MUTUAL") or text(tls, "caCertificates"):
        return False
    return not (text(tls, "credentialName") and has_selector)


def _targets(lens: Lens, config: Config) -> Iterator[Finding]:
    host = text(config.spec, "host")
    export_to = tags.texts(config.spec, "exportTo")
    found = destination(lens, host, config.namespace, export_to=export_to)
    if found is None:
        message = f"No Service or ServiceEntry has the host {host}."
        yield UNKNOWN_HOST.on(config.key, message, "spec.host")
        return
    for index, subset in parts(config.spec, "subsets"):
        selector = {**found.selector, **labels(subset, "labels")}
        if any(name in _OF_NODES for name in selector):
            continue
        # Of all namespaces, as istioctl does: a subset that any pod fits is not reported.
        if not any(True for _ in lens.pods(None, selector)):
            message = f"Subset {text(subset, 'name')} selects no pod ({shown(selector)})."
            yield EMPTY_SUBSET.on(config.key, message, f"spec.subsets[{index}].labels")


_OWN = (kinds.DESTINATION_RULE,)
ENTRIES = (UNVERIFIED, UNVERIFIED_PORT, EMPTY_SUBSET, UNKNOWN_HOST)
RULES = (
    Rule(codes=("IST0128", "IST0129"), kinds=_OWN, check=_tls),
    Rule(codes=("IST0173", "IST0174"), kinds=_OWN, check=_targets),
)
