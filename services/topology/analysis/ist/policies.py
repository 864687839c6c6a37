"""Policies that select nothing, and what istiod may fetch for them."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.meshed import is_in_mesh, matters
from services.topology.analysis.ist.missing import not_found
from services.topology.analysis.ist.selectors import is_ambient
from services.topology.analysis.ist.specs import labels, part, parts, shown
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Workload
from services.topology.cluster.tags import texts

NO_WORKLOADS = Entry(
    code="IST0127",
    name="NoMatchingWorkloadsFound",
    level=Level.WARNING,
    cause="No pod of the mesh is selected, so the policy does nothing.",
    remedy="Correct the selector or the namespace, or start the workload.",
)
OF_GATEWAY = Entry(
    code="IST0166",
    name="IneffectiveSelector",
    level=Level.WARNING,
    cause="The selector means pods of a Kubernetes Gateway, and selectors do nothing for these.",
    remedy="Name the Gateway in `targetRefs` instead.",
)
UNRESTRICTED = Entry(
    code="IST0175",
    name="JwksUriFetchUnrestricted",
    level=Level.WARNING,
    cause="istiod fetches whatever address a RequestAuthentication names, also one inside the "
    "cluster or of the cloud's metadata.",
    remedy="Set the variable BLOCKED_CIDRS_IN_JWKS_URIS of istiod to the networks that it must "
    "not ask.",
)

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_BLOCKED = "BLOCKED_CIDRS_IN_JWKS_URIS"
_SELECTING = (
    kinds.AUTHORIZATION_POLICY,
    kinds.REQUEST_AUTHENTICATION,
    kinds.TELEMETRY,
    kinds.WASM_PLUGIN,
)


def _workloads(lens: Lens, config: Config) -> Iterator[Finding]:
    has_selector = config.spec.get("selector") is not None
    selector = labels(config.spec, "selector", "matchLabels")
    is_of_mesh = config.namespace == lens.mesh().root_namespace
    if is_of_mesh and not has_selector:
        return
    for pod in lens.pods(None if is_of_mesh else config.namespace, selector):
        if is_in_mesh(lens, pod, pod.containers) or is_ambient(pod):
            return
    where = "the cluster" if is_of_mesh else f"namespace {config.namespace}"
    what = f" with labels {shown(selector)}" if selector else ""
    path = "spec.selector.matchLabels" if has_selector else ""
    yield NO_WORKLOADS.on(config.key, f"No pod of the mesh in {where}{what}.", path)


def _namespaces(lens: Lens, config: Config) -> Iterator[Finding]:
    for index, rule in parts(config.spec, "rules"):
        for place, source in parts(rule, "from"):
            for field in ("namespaces", "notNamespaces"):
                for number, name in enumerate(texts(part(source, "source"), field)):
                    if not _exists(lens, name):
                        path = f"spec.rules[{index}].from[{place}].source.{field}[{number}]"
                        yield not_found(config.key, "namespace", name, path)


def _exists(lens: Lens, pattern: str) -> bool:
    """Whether a namespace fits a name that may begin or end with `*`."""
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return any(n.name.endswith(pattern[1:]) for n in lens.all(kinds.NAMESPACE))
    if pattern.endswith("*"):
        return any(n.name.startswith(pattern[:-1]) for n in lens.all(kinds.NAMESPACE))
    return lens.namespace(pattern.lower()) is not None


def _gateways(lens: Lens, config: Config) -> Iterator[Finding]:
    if config.spec.get("targetRef") is not None or config.spec.get("selector") is None:
        return
    selector = labels(config.spec, "selector", "matchLabels")
    names = {pod.labels.get(_GATEWAY_NAME, "") for pod in lens.pods(config.namespace, selector)}
    for name in sorted(names - {""}):
        message = f"The selector means pods of the Kubernetes Gateway {name}."
        yield OF_GATEWAY.on(config.key, message, "spec.selector.matchLabels")


def _fetches(lens: Lens, workload: Workload) -> Iterator[Finding]:
    if workload.labels.get("app") != "istiod":
        return
    if any(_BLOCKED in container.variables for container in workload.containers):
        return
    count = sum(1 for _ in lens.all(kinds.REQUEST_AUTHENTICATION))
    if count:
        message = f"{_BLOCKED} is not set, and there are RequestAuthentications ({count})."
        yield UNRESTRICTED.on(workload.key, message, "spec.template.spec.containers")


ENTRIES = (NO_WORKLOADS, OF_GATEWAY, UNRESTRICTED)
RULES = (
    Rule(codes=("IST0127",), kinds=(kinds.AUTHORIZATION_POLICY,), check=_workloads),
    Rule(codes=("IST0101",), kinds=(kinds.AUTHORIZATION_POLICY,), check=_namespaces),
    Rule(codes=("IST0166",), kinds=_SELECTING, check=_gateways),
    Rule(codes=("IST0175",), kinds=(kinds.DEPLOYMENT,), check=_fetches, matters=matters),
)
