"""Which pods run under a ServiceAccount, as labels: an AuthorizationPolicy selects by nothing else.

A selector must never reach a pod of another account, and a policy without one reaches every pod of
its namespace. So what cannot be told apart by labels is refused, and without facts about the
namespace only pods that carry a label for this very purpose are selected.

Policies with selectors are for sidecars. In ambient mode the layer-7 parts of one are read as
denying, never as allowing, so nothing is opened there either.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.chassis.messages.facts import WorkloadFact
from services.translator.reports import Path, Report
from services.translator.smi.models import Surroundings, Target

ACCOUNT_LABEL = "meshbus.io/service-account"
"""Selects the pods of an account when nothing is known about its namespace."""
_LABEL_VALUE_LIMIT = 63
# Labels that controllers and Istio's injection give to single pods or to one rollout of them.
_PASSING = frozenset(
    (
        "pod-template-hash",
        "pod-template-generation",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/job-completion-index",
        "istio.io/rev",
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
    )
)


def selectors_of(
    target: Target, around: Surroundings, report: Report
) -> tuple[dict[str, str], ...]:
    """The labels of each set of pods that runs under the destination; if none, `report` says why.

    Raises nothing; what would select too much is an error in `report`.
    """
    account = target.destination
    if not around.facts.knows(account.namespace):
        return _by_account_label(target, report)
    workloads = [one for one in around.facts.workloads if one.namespace == account.namespace]
    ours = [one for one in workloads if _account_of(one) == account.name]
    if not ours:
        report.warning(
            target.place,
            f"no workload runs under {account} yet, so nothing is allowed",
            rule="workload",
            remedy="apply the TrafficTarget again when the workload is there",
        )
    selectors: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for workload in sorted(ours, key=lambda one: (one.kind, one.name)):
        selector = _selector_of(workload)
        if _is_exclusive(selector, workload, workloads, place=target.place, report=report):
            selectors[tuple(sorted(selector.items()))] = selector
    return tuple(selectors[labels] for labels in sorted(selectors))


def _by_account_label(target: Target, report: Report) -> tuple[dict[str, str], ...]:
    account = target.destination
    if len(account.name) > _LABEL_VALUE_LIMIT:
        report.warning(
            (*target.place, "name"),
            f"nothing is known about {account}, and its name is too long for a label, so nothing "
            "is allowed",
            rule="workload",
            remedy="translate with a cluster that has the workload",
        )
        return ()
    report.warning(
        target.place,
        f"nothing is known about {account}, so only pods with the label "
        f"{ACCOUNT_LABEL}: {account.name} are opened",
        rule="workload",
        remedy="give its pods this label, or translate with a cluster that has the workload",
    )
    return ({ACCOUNT_LABEL: account.name},)


def _selector_of(workload: WorkloadFact) -> dict[str, str]:
    labels: Mapping[str, str] = workload.selector or {
        name: value for name, value in workload.labels.items() if name not in _PASSING
    }
    return dict(sorted(labels.items()))


def _is_exclusive(
    selector: dict[str, str],
    workload: WorkloadFact,
    workloads: list[WorkloadFact],
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
        for other in workloads
        if _account_of(other) != _account_of(workload) and selector.items() <= other.labels.items()
    ]
    for other in others:
        labels = ", ".join(f"{name}={value}" for name, value in selector.items())
        report.error(
            place,
            f"the labels of {who} ({labels}) select {other.kind} {other.namespace}/{other.name} "
            f"too, which runs under ServiceAccount {_account_of(other)}",
            rule="workload",
            remedy="give the two labels that tell them apart",
        )
    return not others


def _account_of(workload: WorkloadFact) -> str:
    return workload.service_account or "default"
