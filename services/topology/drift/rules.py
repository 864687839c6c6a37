"""Exemptions from drift, as data: fields that other managers rightly write, with the reason.

Fields outside of what we applied need no rule: they are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.kube.applying import FIELD_MANAGER
from services.topology.drift.fieldsets import Path

_MUTATING = "admissionregistration.k8s.io/MutatingWebhookConfiguration"
_VALIDATING = "admissionregistration.k8s.io/ValidatingWebhookConfiguration"
_CLUSTER_ROLE = "rbac.authorization.k8s.io/ClusterRole"
_DEFINITION = "apiextensions.k8s.io/CustomResourceDefinition"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of change that is no drift. An empty field of the rule matches everything."""

    reason: str
    kinds: tuple[str, ...] = ()
    begins: Path = ()
    ends: Path = ()
    managers: tuple[str, ...] = ()
    operation: str = ""
    subresource: str = ""
    holds: str = ""
    """A field of the object without which the rule does not count."""

    def fits(
        self, kind: str, path: Path, owner: Mapping[str, Any] | None, obj: Mapping[str, Any]
    ) -> bool:
        """Whether the loss of `path` to `owner` (an entry of managedFields) is no drift."""
        if self.kinds and kind not in self.kinds:
            return False
        if path[: len(self.begins)] != self.begins:
            return False
        if self.ends and path[-len(self.ends) :] != self.ends:
            return False
        if self.holds and self.holds not in obj:
            return False
        if not (self.managers or self.operation or self.subresource):
            return True
        if owner is None:
            return False
        return (
            (not self.managers or owner.get("manager") in self.managers)
            and (not self.operation or owner.get("operation") == self.operation)
            and (not self.subresource or owner.get("subresource") == self.subresource)
        )


RULES = (
    Rule(reason="status is what controllers say about an object", begins=("f:status",)),
    Rule(
        reason="istiod puts its own certificate authority into its webhooks",
        kinds=(_MUTATING, _VALIDATING),
        ends=("f:clientConfig", "f:caBundle"),
        managers=("pilot-discovery",),
    ),
    Rule(
        reason="istiod lets its validator fail closed once it can answer",
        kinds=(_VALIDATING,),
        ends=("f:failurePolicy",),
        managers=("pilot-discovery",),
    ),
    Rule(
        reason="a HorizontalPodAutoscaler sets the number of replicas",
        begins=("f:spec", "f:replicas"),
        managers=("kube-controller-manager",),
        subresource="scale",
    ),
    Rule(
        reason="Kubernetes fills the rules of an aggregated ClusterRole",
        kinds=(_CLUSTER_ROLE,),
        begins=("f:rules",),
        managers=("clusterrole-aggregation-controller", "kube-controller-manager"),
        holds="aggregationRule",
    ),
    Rule(
        reason="cert-manager and others put certificate authorities into conversion webhooks",
        kinds=(_DEFINITION,),
        begins=("f:spec", "f:conversion"),
        ends=("f:caBundle",),
    ),
    Rule(
        reason="Meshbus itself labels namespaces for injection by a patch",
        managers=(FIELD_MANAGER,),
        operation="Update",
    ),
)

BYSTANDERS = ("pilot-discovery", "kube-controller-manager", "clusterrole-aggregation-controller")
"""Managers that write into our objects all the time: that one of them wrote since we applied says
nothing about a field that nobody holds now."""

DEFAULTS: Mapping[str, Any] = {
    "scope": "*",
    "protocol": "TCP",
    "apiVersion": "v1",
    "divisor": "0",
}
"""What the API server itself adds within lists and structures that are held whole."""

QUANTITIES = frozenset({"limits", "requests", "storage", "cpu", "memory", "divisor"})
"""Fields under which `1000m` and `1` are the same."""


def exempting(
    kind: str, path: Path, owner: Mapping[str, Any] | None, obj: Mapping[str, Any]
) -> Rule | None:
    """The rule by which the loss is no drift, if there is one."""
    return next((rule for rule in RULES if rule.fits(kind, path, owner, obj)), None)
