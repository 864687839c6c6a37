"""A TrafficTarget as AuthorizationPolicies of its destination.

* One policy for each set of pods that runs under the destination's ServiceAccount.
* Sources are principals with the mesh's trust domain, which every Istio takes. `serviceAccounts`
  came later (1.26), cannot stand beside principals, and lets in other trust domains as well.
* SMI denies what no target allows. A policy that allows nothing does that; it outlives the target,
  because access must be denied again when the target is gone.
* Policies in Istio's own namespace would hold for the whole mesh, so a destination there is
  refused.
"""

from __future__ import annotations

import re

from services.chassis.kube.objects import KubeObject, Ref
from services.translator.reports import Report
from services.translator.smi.models import ACCESS_GROUP, Account, Kind, Surroundings, Target
from services.translator.smi.naming import derived_name, digest_of, made, origin_of
from services.translator.smi.permitting import Permission, permissions_of
from services.translator.smi.selecting import selectors_of

_API_VERSION = "security.istio.io/v1"
_KIND = "AuthorizationPolicy"
_DENY_NAME = "smi-deny-by-default"
_RULES_LIMIT = 512
_USUAL_ROOT = "istio-system"
_TRUST_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9._]*[a-z0-9])?\Z")
_MTLS = "sources are known by their mTLS certificates, so plaintext clients are denied"


def translated_target(target: Target, around: Surroundings) -> Report:
    """The target's policies, and in `kept` those that deny by default."""
    report = Report(target.ref)
    _check_mesh(target, around, report)
    permissions = permissions_of(target, around, report)
    selectors = selectors_of(target, around, report)
    if len(permissions) > _RULES_LIMIT:
        report.error(
            target.body,
            f"needs more than the {_RULES_LIMIT} rules that an AuthorizationPolicy takes",
            rule="unsupported",
        )
    if report.has_errors:
        report.became(report.findings[0].message)
        return report
    report.objects += [_allowing(target, permissions, selector, around) for selector in selectors]
    report.kept += _denying(target.destination, selectors, around)
    report.became(_MTLS if report.objects else report.findings[0].message)
    return report


def _check_mesh(target: Target, around: Surroundings, report: Report) -> None:
    namespace = target.destination.namespace
    roots = {mesh.namespace for mesh in around.facts.meshes} or {_USUAL_ROOT}
    if namespace in roots:
        report.error(
            target.place,
            f"policies in {namespace} hold for the whole mesh, not for one workload",
            rule="unsupported",
            remedy="write an AuthorizationPolicy for it by hand",
        )
    if not _TRUST_DOMAIN.match(around.trust_domain):
        # A wildcard in it would let in other domains.
        report.error((), "the mesh's trust domain is no domain name", rule="trust-domain")


def _allowing(
    target: Target,
    permissions: tuple[Permission, ...],
    selector: dict[str, str],
    around: Surroundings,
) -> KubeObject:
    origin = origin_of(target.ref)
    sources = [
        f"{around.trust_domain}/ns/{source.namespace}/sa/{source.name}" for source in target.sources
    ]
    # The selector is in the name: a target has one policy for each. So is the target's namespace,
    # which need not be the policy's.
    name = derived_name(target.ref.name, digest_of(origin, *_flat(selector)))
    spec = {
        "selector": {"matchLabels": selector},
        "action": "ALLOW",
        "rules": [permission.rule(sources) for permission in permissions],
    }
    ref = Ref(_API_VERSION, _KIND, target.destination.namespace, name)
    return made(ref, origin=origin, spec=spec)


def _denying(
    destination: Account, selectors: tuple[dict[str, str], ...], around: Surroundings
) -> list[KubeObject]:
    """What allows nothing: all targets of a namespace share it, so it names none of them."""
    namespace = destination.namespace
    origin = f"{Kind.TARGET}.{ACCESS_GROUP} {namespace}/*"
    match around.options.denyByDefault:
        case "none":
            return []
        case "namespace":
            return [made(Ref(_API_VERSION, _KIND, namespace, _DENY_NAME), origin=origin, spec={})]
    return [
        made(
            Ref(_API_VERSION, _KIND, namespace, f"{_DENY_NAME}-{digest_of(*_flat(selector))}"),
            origin=origin,
            spec={"selector": {"matchLabels": selector}},
        )
        for selector in selectors
    ]


def _flat(selector: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(selector.items())]
