"""AuthorizationPolicies and RequestAuthentications: methods, principals, mutual TLS, tokens' keys.

ServiceAccounts are not watched. An account counts as known when a pod, a workload or a machine
outside of Kubernetes runs as it; `default` is in every namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import known
from services.topology.analysis.rules.injection import runs_differently
from services.topology.analysis.rules.mtls import speaks_mtls, without_mtls
from services.topology.cluster import kinds
from services.topology.cluster.forms import entries, part, parts, text
from services.topology.cluster.objects import Config, Workload
from services.topology.mesh.membership import NETWORK
from services.topology.mesh.meshes import Mesh
from services.topology.mesh.security import selector_of, targets_of

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_GRPC = re.compile(r"/[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*/[A-Za-z_]\w*")
_PRINCIPAL = re.compile(r"([^/*]+)/ns/([^/*]+)/sa/([^/*]+)")
_IDENTITY_FIELDS = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_IDENTITY_KEYS = ("source.principal", "source.namespace")


def _methods(_: Lens, policy: Config) -> Iterator[Finding]:
    for path, operation in known.rule_parts(policy, "to", "operation"):
        for at, method in known.values(path, operation, "methods", "notMethods"):
            if any(known.fits(method, one) for one in _METHODS):
                continue
            what = "a path of gRPC" if _GRPC.fullmatch(method) else "no method of HTTP"
            yield tell("KIA0102", policy.key, f"{method} is {what}.", at)


def _identities(lens: Lens, policy: Config) -> Iterator[Finding]:
    if targets_of(policy):
        return
    culprit = without_mtls(lens, policy.namespace, selector_of(policy))
    if culprit is not None:
        why = f"needs mutual TLS, which {culprit} turns off"
    elif lens.mesh().auto_mtls or speaks_mtls(lens, policy.namespace):
        return
    else:
        why = "needs mutual TLS"
    for path, source in known.rule_parts(policy, "from", "source"):
        for name in _IDENTITY_FIELDS:
            if source.get(name):
                message = f"The field {name} {why}."
                yield tell("KIA0105", policy.key, message, f"{path}.{name}")
    for index, rule in parts(policy.spec, "rules"):
        for at, condition in parts(rule, "when"):
            if condition.get("key") in _IDENTITY_KEYS:
                message = f"The condition {condition['key']} {why}."
                path = f"spec.rules[{index}].when[{at}].key"
                yield tell("KIA0105", policy.key, message, path)


def _principals(lens: Lens, policy: Config) -> Iterator[Finding]:
    for path, source in known.rule_parts(policy, "from", "source"):
        for at, principal in known.values(path, source, "principals", "notPrincipals"):
            read = _PRINCIPAL.fullmatch(principal)
            if read is not None:
                yield from _principal(lens, policy, at, read)
        for at, domain in known.values(path, source, "trustDomains", "notTrustDomains"):
            if "*" not in domain and not _is_trusted(lens.mesh(), domain):
                yield tell("KIA0108", policy.key, f"Trust domain {domain} is unknown.", at)


def _principal(lens: Lens, policy: Config, at: str, read: re.Match[str]) -> Iterator[Finding]:
    domain, namespace, account = read.groups()
    mesh = lens.mesh()
    if not _is_trusted(mesh, domain):
        message = f"Trust domain {domain} of principal {read[0]} is unknown."
        yield tell("KIA0108", policy.key, message, at)
    elif not _runs_as(lens, namespace, account):
        root = lens.namespace(mesh.root_namespace)
        is_single = root is None or NETWORK not in root.labels
        message = f"No pod runs as service account {account} of namespace {namespace}."
        yield tell("KIA0106" if is_single else "KIA0107", policy.key, message, at)


def _is_trusted(mesh: Mesh, domain: str) -> bool:
    """`cluster.local` stands for the mesh's own trust domain."""
    aliases = entries(mesh.config.get("trustDomainAliases"))
    return not mesh.is_known or domain in ("cluster.local", mesh.trust_domain, *aliases)


def _runs_as(lens: Lens, namespace: str, account: str) -> bool:
    if account == "default":
        return lens.namespace(namespace) is not None
    for kind in kinds.WORKLOADS:
        if any(one.account == account for one in lens.all(kind, namespace)):
            return True
    for group in lens.all(kinds.WORKLOAD_GROUP, namespace):
        if text(part(group.spec, "template"), "serviceAccount") == account:
            return True
    for entry in lens.all(kinds.WORKLOAD_ENTRY, namespace):
        if text(entry.spec, "serviceAccount") == account:
            return True
    return any(pod.account == account for pod in lens.all(kinds.POD, namespace))


_BLOCKED = "BLOCKED_CIDRS_IN_JWKS_URIS"


def _fetches(lens: Lens, workload: Workload) -> Iterator[Finding]:
    if workload.labels.get("app") != "istiod":
        return
    if any(_BLOCKED in container.variables for container in workload.containers):
        return
    count = sum(1 for _ in lens.all(kinds.REQUEST_AUTHENTICATION))
    if count:
        message = f"{_BLOCKED} is not set, and there are RequestAuthentications ({count})."
        yield tell("IST0175", workload.key, message, "spec.template.spec.containers")


_OWN = (kinds.AUTHORIZATION_POLICY,)
RULES = (
    Rule(finds=("KIA0102",), kinds=_OWN, check=_methods),
    Rule(finds=("KIA0105",), kinds=_OWN, check=_identities),
    Rule(finds=("KIA0106", "KIA0107", "KIA0108"), kinds=_OWN, check=_principals),
    Rule(finds=("IST0175",), kinds=(kinds.DEPLOYMENT,), check=_fetches, matters=runs_differently),
)
