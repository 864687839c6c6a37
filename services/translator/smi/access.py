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
from services.chassis.messages.facts import WorkloadFact
from services.translator.istio.objects import SYSTEM_NAMESPACE
from services.translator.reports import Path, Report
from services.translator.smi.models import ACCESS_GROUP, Account, Kind, Surroundings, Target
from services.translator.smi.naming import derived_name, digest_of, made, origin_of
from services.translator.smi.permitting import Permission, permissions_of
from services.translator.smi.residents import account_of

_API_VERSION = "security.istio.io/v1"
_KIND = "AuthorizationPolicy"
_DENY_NAME = "smi-deny-by-default"
_RULES_LIMIT = 512
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
    roots = {mesh.namespace for mesh in around.facts.meshes} or {SYSTEM_NAMESPACE}
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
    """Policies that deny by default; all targets of a namespace share them."""
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


# ---- Pods of a ServiceAccount --------------------------------------------------------------------

# A selector must never reach a pod of another account, and a policy without one reaches every pod
# of its namespace. So what cannot be told apart by labels is refused, and without facts about the
# namespace only pods that carry a label for this very purpose are selected.
#
# Policies with selectors are for sidecars. In ambient mode the layer-7 parts of one are read as
# denying, never as allowing, so nothing is opened there either.

ACCOUNT_LABEL = "meshbus.io/service-account"
"""Selects the pods of an account in a namespace whose workloads are not known."""
_LABEL_VALUE_LIMIT = 63


def selectors_of(
    target: Target, around: Surroundings, report: Report
) -> tuple[dict[str, str], ...]:
    """The labels of each set of pods that runs under the destination; without any, a warning.

    Labels that would select other pods too are an error in `report`.
    """
    account = target.destination
    if not around.facts.knows(account.namespace):
        return _by_account_label(target, report)
    ours = around.residents.under(account.namespace, account.name)
    if not ours:
        report.warning(
            target.place,
            f"no workload runs under {account} yet, so no access is allowed",
            rule="workload",
            remedy="start a workload under it",
        )
    selectors: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for workload in sorted(ours, key=lambda one: (one.kind, one.name)):
        selector = workload.selecting
        if _is_exclusive(selector, workload, around, place=target.place, report=report):
            selectors[tuple(sorted(selector.items()))] = selector
    return tuple(selectors[labels] for labels in sorted(selectors))


def _by_account_label(target: Target, report: Report) -> tuple[dict[str, str], ...]:
    account = target.destination
    if len(account.name) > _LABEL_VALUE_LIMIT:
        report.warning(
            (*target.place, "name"),
            f"the workloads of {account} are not known, and its name is too long for a label, so "
            "no access is allowed",
            rule="workload",
            remedy="translate with a cluster that has the workload",
        )
        return ()
    report.warning(
        target.place,
        f"the workloads of {account} are not known, so only pods with the label "
        f"{ACCOUNT_LABEL}: {account.name} are opened",
        rule="workload",
        remedy="give its pods this label, or translate with a cluster that has the workload",
    )
    return ({ACCOUNT_LABEL: account.name},)


def _is_exclusive(
    selector: dict[str, str],
    workload: WorkloadFact,
    around: Surroundings,
    *,
    place: Path,
    report: Report,
) -> bool:
    who = f"{workload.kind} {workload.namespace}/{workload.name}"
    if not selector:
        report.error(
            place,
            f"{who} has no labels to select it by, and a policy for it would open the namespace",
            rule="workload",
            remedy="give its pods a label of their own",
        )
        return False
    others = [
        other
        for other in around.residents.selected(workload.namespace, selector)
        if account_of(other) != account_of(workload)
    ]
    for other in others:
        labels = ", ".join(f"{name}={value}" for name, value in selector.items())
        report.error(
            place,
            f"the labels of {who} ({labels}) select {other.kind} {other.namespace}/{other.name} "
            f"too, which runs under ServiceAccount {account_of(other)}",
            rule="workload",
            remedy="give the two labels that tell them apart",
        )
    return not others
