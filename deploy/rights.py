"""The rights that Meshbus needs in a cluster, as data: the reference page and the chart show them.

They follow from the kinds that the services write and watch, so a new kind brings its right along.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from services.lifecycle.cluster.inventory import OWNED_KINDS
from services.topology.cluster import kinds

Rule = dict[str, list[str]]
"""A PolicyRule of `rbac.authorization.k8s.io/v1`."""

_WRITING = ["get", "list", "watch", "create", "patch", "delete"]
_READING = ["get", "list", "watch"]
_ISTIO_GROUPS = [
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
]
_APPLIED = {
    "": ["configmaps", "persistentvolumeclaims", "serviceaccounts", "services"],
    "apps": ["daemonsets", "deployments", "statefulsets"],
    "autoscaling": ["horizontalpodautoscalers"],
    "batch": ["cronjobs", "jobs"],
    "networking.k8s.io": ["ingresses", "networkpolicies"],
    "policy": ["poddisruptionbudgets"],
}


def lifecycle_rules() -> list[Rule]:
    """What the operation `istio` needs, from the kinds that it writes; without what is watched."""
    groups = _by_group(pair for pair in OWNED_KINDS if not pair[0].endswith("istio.io"))
    return [
        *(_rule(group, resources, _WRITING) for group, resources in groups),
        # Istio's own roles hold rights that the installing user need not have.
        _rule(
            "rbac.authorization.k8s.io",
            ["roles", "clusterroles", "rolebindings", "clusterrolebindings"],
            ["escalate", "bind"],
        ),
        {"apiGroups": [*_ISTIO_GROUPS], "resources": ["*"], "verbs": [*_WRITING]},
        # To see whether somebody else lives in the system namespace before it is deleted.
        _rule("*", ["*"], ["list"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "list", "delete"]),
    ]


def watching_rules() -> list[Rule]:
    """What watching a cluster needs; the topology service writes nothing and reads no Secret."""
    watched = [(group, name) for group, _, name in (kind.rpartition("/") for kind in _watched())]
    groups = _by_group([*watched, ("apiextensions.k8s.io", "CustomResourceDefinition")])
    rules = dict(groups) | {"gateway.networking.k8s.io": ["*"]}
    return [
        *(_rule(group, resources, _READING) for group, resources in sorted(rules.items())),
        {"apiGroups": [*_ISTIO_GROUPS], "resources": ["*"], "verbs": [*_READING]},
        # The cluster's own Prometheus; where there is none, statistics of the proxies.
        _rule("", ["services/proxy"], ["get"]),
        _rule("", ["pods/proxy"], ["get"]),
    ]


def surveying_rules() -> list[Rule]:
    """What it takes to ask istiod how its proxies stand, in its own namespace; of no tier.

    A forwarded port reaches whatever listens within a pod, so it is given for istiod's namespace
    alone, and by whoever wants to see this. Servers since 1.35 ask for `create` beside `get`.
    """
    return [_rule("", ["pods/portforward"], ["get", "create"])]


def _watched() -> tuple[str, ...]:
    return (*kinds.ALWAYS, kinds.CONFIG_MAP)


def _rule(group: str, resources: Iterable[str], verbs: Iterable[str]) -> Rule:
    return {"apiGroups": [group], "resources": [*resources], "verbs": [*verbs]}


def _by_group(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Resources by API group, both in order, from groups and kinds."""
    groups: dict[str, set[str]] = {}
    for group, kind in pairs:
        groups.setdefault(group, set()).add(plural(kind))
    return [(group, sorted(resources)) for group, resources in sorted(groups.items())]


def plural(kind: str) -> str:
    """The resource's name, by the API conventions' rule."""
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"


class Tier(StrEnum):
    """How far an account of Meshbus' own may go in a cluster; each has all of the one before."""

    READ = "read"
    MANIFESTS = "manifests"
    FULL = "full"


TIERS = {
    Tier.READ: "The live graph, findings and drift: nothing is written, and no Secret is read.",
    Tier.MANIFESTS: (
        "Workloads and the configuration of a mesh as well: applications, SMI, designs, intents. "
        "No Secrets, definitions, webhooks or rights. Whoever may create workloads may use every "
        "ServiceAccount of their namespaces."
    ),
    Tier.FULL: (
        "Istio itself as well: Secrets, definitions, webhooks, and roles with any rights, since "
        "Istio's own have some that nobody else needs. Whoever has it can become the cluster's "
        "administrator."
    ),
}
"""What each is for, and what it is worth to a thief."""


def tier_rules(tier: Tier) -> list[Rule]:
    """The rules of the ClusterRole of a tier."""
    rules = watching_rules()
    if tier is not Tier.READ:
        rules += manifest_rules()
    if tier is Tier.FULL:
        rules += lifecycle_rules()
    return rules


def manifest_rules() -> list[Rule]:
    """What applications and a mesh's configuration are made of; labels of a namespace as well."""
    groups = [*_ISTIO_GROUPS, "gateway.networking.k8s.io"]
    return [
        *(_rule(group, resources, _WRITING) for group, resources in _APPLIED.items()),
        {"apiGroups": groups, "resources": ["*"], "verbs": [*_WRITING]},
        _rule("", ["namespaces"], [*_READING, "create", "patch"]),
    ]
