"""KIA0101 to KIA0108: what an AuthorizationPolicy names, and whether it is there.

ServiceAccounts are not watched. An account counts as known when a pod, a workload or a machine
outside of Kubernetes runs as it; `default` is in every namespace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.mtls import speaks_mtls
from services.topology.analysis.kia.registry import is_known, is_listed
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config
from services.topology.mesh.membership import NETWORK
from services.topology.mesh.meshes import Mesh
from services.topology.mesh.security import targets_of

NO_NAMESPACE = Entry(
    code="KIA0101",
    name="authorizationpolicy.source.namespacenotfound",
    level=Level.WARNING,
    cause="A source names a namespace that does not exist, so it matches no request.",
    remedy="Correct the name, create the namespace, or take it out of the list.",
)
WRONG_METHOD = Entry(
    code="KIA0102",
    name="authorizationpolicy.to.wrongmethod",
    level=Level.WARNING,
    cause="The value is neither an HTTP method nor the full name of a gRPC method.",
    remedy="Write a method such as GET, or /package.service/method.",
)
NO_HOST = Entry(
    code="KIA0104",
    name="authorizationpolicy.nodest.matchingregistry",
    level=Level.ERROR,
    cause="No Service, ServiceEntry, VirtualService, Gateway or route has the host.",
    remedy="Correct the host, or create what should have it.",
)
NEEDS_MTLS = Entry(
    code="KIA0105",
    name="authorizationpolicy.mtls.needstobeenabled",
    level=Level.ERROR,
    cause="The field needs the caller's identity, which only mutual TLS brings; automatic mutual "
    "TLS is off, and nothing turns it on here.",
    remedy="Set enableAutoMtls in the mesh's settings, or remove the field.",
)
NO_PRINCIPAL = Entry(
    code="KIA0106",
    name="authorizationpolicy.source.principalnotfound",
    level=Level.ERROR,
    cause="Nothing runs as this service account.",
    remedy="Correct the principal: <trust domain>/ns/<namespace>/sa/<service account>.",
)
REMOTE_PRINCIPAL = Entry(
    code="KIA0107",
    name="authorizationpolicy.source.principalremote",
    level=Level.INFO,
    cause="Nothing in this cluster runs as this service account; the mesh has several networks, so "
    "it may belong to another cluster.",
    remedy="Check that the account exists in the other cluster.",
)
UNKNOWN_DOMAIN = Entry(
    code="KIA0108",
    name="authorizationpolicy.source.trustdomainunknown",
    level=Level.WARNING,
    cause="The trust domain is neither the mesh's own nor one of its aliases.",
    remedy="Use the mesh's trust domain, or add this one to trustDomainAliases.",
)

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_GRPC = re.compile(r"/[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*/[A-Za-z_]\w*")
_PRINCIPAL = re.compile(r"([^/*]+)/ns/([^/*]+)/sa/([^/*]+)")
_IDENTITY_FIELDS = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_IDENTITY_KEYS = ("source.principal", "source.namespace")


def fits(pattern: str, value: str) -> bool:
    """Whether a value is meant, by Istio's patterns: `*`, `a*`, `*a` or the value."""
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value.endswith(pattern[1:]) if pattern.startswith("*") else value == pattern


def _parts(policy: Config, part: str, inner: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sources (`from`, `source`) or operations (`to`, `operation`) of all rules."""
    for index, rule in enumerate(policy.spec.get("rules") or ()):
        for at, holder in enumerate((rule or {}).get(part) or ()):
            found = (holder or {}).get(inner)
            if found:
                yield f"spec.rules[{index}].{part}[{at}].{inner}", found


def sources(policy: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    return _parts(policy, "from", "source")


def operations(policy: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    return _parts(policy, "to", "operation")


def _listed(path: str, part: dict[str, Any], *names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        for index, value in enumerate(tags.texts(part, name)):
            yield f"{path}.{name}[{index}]", value


def namespaces(lens: Lens, policy: Config) -> Iterator[Finding]:
    for path, source in sources(policy):
        for at, name in _listed(path, source, "namespaces", "notNamespaces"):
            if "*" in name:
                found = any(fits(name, space.name) for space in lens.all(kinds.NAMESPACE))
            else:
                found = lens.namespace(name) is not None
            if not found:
                yield NO_NAMESPACE.on(policy.key, f"namespace {name} does not exist", at)


def methods(lens: Lens, policy: Config) -> Iterator[Finding]:
    for path, operation in operations(policy):
        for at, method in _listed(path, operation, "methods", "notMethods"):
            is_http = any(fits(method, known) for known in _METHODS)
            if not is_http and not _GRPC.fullmatch(method):
                yield WRONG_METHOD.on(policy.key, f"{method} is no method", at)


def operation_hosts(lens: Lens, policy: Config) -> Iterator[Finding]:
    for path, operation in operations(policy):
        for at, host in _listed(path, operation, "hosts", "notHosts"):
            name = host.partition(":")[0].lower()
            if name.strip("*.") and not _is_served(lens, name, policy.namespace):
                yield NO_HOST.on(policy.key, f"nothing in the mesh has host {host}", at)


def _is_served(lens: Lens, host: str, namespace: str) -> bool:
    """Also by a gateway: policies are written for those too."""
    if "*" in host and not host.startswith("*."):
        return True
    # The Host header of a call within the cluster may be any of a Service's names.
    first, _, rest = host.partition(".")
    short_names = {rest, rest.removesuffix(".svc")} if rest else {namespace}
    if any(space and lens.service(space, first) is not None for space in short_names):
        return True
    if is_known(lens, host, namespace):
        return True
    return any(
        is_listed(host, listed) or any(hosts.covers(host, one) for one in listed)
        for listed in _entrances(lens)
    )


def _entrances(lens: Lens) -> Iterator[list[str]]:
    for service in lens.all(kinds.VIRTUAL_SERVICE):
        yield [
            hosts.expanded(name, service.namespace) for name in tags.texts(service.spec, "hosts")
        ]
    for gateway in lens.all(kinds.GATEWAY):
        yield [name.rpartition("/")[2] for name in tags.gateway_hosts(gateway.spec)]
    for gateway in lens.all(kinds.K8S_GATEWAY):
        yield [str(one.get("hostname") or "") for one in gateway.spec.get("listeners") or ()]
    for kind in kinds.ROUTES:
        for route in lens.all(kind):
            yield tags.texts(route.spec, "hostnames")


def identities(lens: Lens, policy: Config) -> Iterator[Finding]:
    if targets_of(policy) or lens.mesh().auto_mtls or speaks_mtls(lens, policy.namespace):
        return
    for path, source in sources(policy):
        for name in _IDENTITY_FIELDS:
            if source.get(name):
                yield NEEDS_MTLS.on(policy.key, f"{name} needs mutual TLS", f"{path}.{name}")
    for index, rule in enumerate(policy.spec.get("rules") or ()):
        for at, condition in enumerate((rule or {}).get("when") or ()):
            if condition.get("key") in _IDENTITY_KEYS:
                yield NEEDS_MTLS.on(
                    policy.key,
                    f"condition {condition['key']} needs mutual TLS",
                    f"spec.rules[{index}].when[{at}].key",
                )


def principals(lens: Lens, policy: Config) -> Iterator[Finding]:
    for path, source in sources(policy):
        for at, principal in _listed(path, source, "principals", "notPrincipals"):
            read = _PRINCIPAL.fullmatch(principal)
            if read is not None:
                yield from _principal(lens, policy, at, read)
        for at, domain in _listed(path, source, "trustDomains", "notTrustDomains"):
            if "*" not in domain and not _is_trusted(lens.mesh(), domain):
                yield UNKNOWN_DOMAIN.on(policy.key, f"trust domain {domain} is unknown", at)


def _principal(lens: Lens, policy: Config, at: str, read: re.Match[str]) -> Iterator[Finding]:
    domain, namespace, account = read.groups()
    mesh = lens.mesh()
    if not _is_trusted(mesh, domain):
        yield UNKNOWN_DOMAIN.on(
            policy.key, f"trust domain {domain} of principal {read[0]} is unknown", at
        )
    elif not _runs_as(lens, namespace, account):
        root = lens.namespace(mesh.root_namespace)
        is_single = root is None or NETWORK not in root.labels
        entry = NO_PRINCIPAL if is_single else REMOTE_PRINCIPAL
        yield entry.on(
            policy.key, f"nothing runs as service account {account} of namespace {namespace}", at
        )


def _is_trusted(mesh: Mesh, domain: str) -> bool:
    """`cluster.local` stands for the mesh's own domain, whatever that is."""
    aliases = mesh.config.get("trustDomainAliases") or ()
    return not mesh.is_known or domain in ("cluster.local", mesh.trust_domain, *aliases)


def _runs_as(lens: Lens, namespace: str, account: str) -> bool:
    if account == "default":
        return lens.namespace(namespace) is not None
    for kind in kinds.WORKLOADS:
        if any(one.account == account for one in lens.all(kind, namespace)):
            return True
    for group in lens.all(kinds.WORKLOAD_GROUP, namespace):
        if (group.spec.get("template") or {}).get("serviceAccount") == account:
            return True
    for entry in lens.all(kinds.WORKLOAD_ENTRY, namespace):
        if entry.spec.get("serviceAccount") == account:
            return True
    return any(pod.account == account for pod in lens.all(kinds.POD, namespace))


ENTRIES = (
    NO_NAMESPACE,
    WRONG_METHOD,
    NO_HOST,
    NEEDS_MTLS,
    NO_PRINCIPAL,
    REMOTE_PRINCIPAL,
    UNKNOWN_DOMAIN,
)
_KINDS = (kinds.AUTHORIZATION_POLICY,)
RULES = (
    Rule(codes=("KIA0101",), kinds=_KINDS, check=namespaces),
    Rule(codes=("KIA0102",), kinds=_KINDS, check=methods),
    Rule(codes=("KIA0104",), kinds=_KINDS, check=operation_hosts),
    Rule(codes=("KIA0105",), kinds=_KINDS, check=identities),
    Rule(codes=("KIA0106", "KIA0107", "KIA0108"), kinds=_KINDS, check=principals),
)
