"""Injection of sidecars: namespaces that do not say, pods that missed it, proxies of old images."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.images import is_expected, wanted_image
from services.topology.analysis.ist.meshed import (
    INJECT,
    INJECTION,
    PROXY,
    REVISION,
    applications,
    has_proxy,
    matters,
)
from services.topology.analysis.ist.specs import part, parts, text
from services.topology.analysis.ist.system import IGNORED_NAMESPACES
from services.topology.analysis.ist.webhooks import is_istio, selects
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Namespace, Pod, Workload
from services.topology.mesh.meshes import SYSTEM_NAMESPACE

NOT_INJECTED = Entry(
    code="IST0102",
    name="NamespaceNotInjected",
    level=Level.INFO,
    cause="The namespace does not say whether its pods belong to the mesh, so they do not.",
    remedy="Label it istio-injection=enabled (or istio.io/rev, or istio.io/dataplane-mode="
    "ambient), or istio-injection=disabled to say that it stays outside.",
)
MISSING_PROXY = Entry(
    code="IST0103",
    name="PodMissingProxy",
    level=Level.WARNING,
    cause="The namespace is injected, but this pod has no proxy; most often it is older than the "
    "namespace's label.",
    remedy="Restart the workload, so that its pods are made again.",
)
SEVERAL_LABELS = Entry(
    code="IST0123",
    name="NamespaceMultipleInjectionLabels",
    level=Level.WARNING,
    cause="The namespace has more than one label about the mesh, and which one counts is not "
    "obvious.",
    remedy="Keep one of istio-injection, istio.io/rev and istio.io/dataplane-mode.",
)
AUTO_DEPLOYMENT = Entry(
    code="IST0146",
    name="ImageAutoWithoutInjectionWarning",
    level=Level.WARNING,
    cause="The image `auto` is a place that injection fills in, and no webhook of Istio selects "
    "these pods.",
    remedy="Label the namespace or the pod template for injection, and check that istiod's "
    "webhook is installed.",
)
AUTO_POD = Entry(
    code="IST0147",
    name="ImageAutoWithoutInjectionError",
    level=Level.ERROR,
    cause="The pod was made without injection, so the image of its proxy is still `auto`, which "
    "cannot be pulled.",
    remedy="Make the pod again when injection works for it.",
)
BY_DEFAULT = Entry(
    code="IST0148",
    name="NamespaceInjectionEnabledByDefault",
    level=Level.INFO,
    cause="Istio is installed with enableNamespacesByDefault, so namespaces without a label are "
    "injected, too.",
    remedy="Nothing, if that is meant; else label the namespace istio-injection=disabled.",
)
OTHER_IMAGE = Entry(
    code="IST0158",
    name="PodsIstioProxyImageMismatchInNamespace",
    level=Level.WARNING,
    cause="Pods run another image of the proxy than injection would give them now; most often "
    "they are older than an upgrade of the control plane.",
    remedy="Restart the namespace's workloads.",
)

_AMBIENT = "istio.io/dataplane-mode"


def _namespace(lens: Lens, namespace: Namespace) -> Iterator[Finding]:
    if namespace.name == SYSTEM_NAMESPACE or namespace.name in IGNORED_NAMESPACES:
        return
    labels = namespace.labels
    injection = labels.get(INJECTION)
    said = [INJECTION] if injection is not None else []
    if injection in (None, "enabled"):
        said += [name for name in (REVISION, _AMBIENT) if name in labels]
    if len(said) > 1:
        listed = ", ".join(f"{name}={labels[name]}" for name in said)
        yield SEVERAL_LABELS.on(namespace.key, f"It has: {listed}.", "metadata.labels")
    if labels.get(_AMBIENT) == "ambient" or injection or REVISION in labels:
        return
    if _injects_by_default(lens):
        message = f"Namespace {namespace.name} has no label, and is injected by default."
        yield BY_DEFAULT.on(namespace.key, message, "metadata.labels")
    else:
        message = f"Namespace {namespace.name} has no label for injection."
        yield NOT_INJECTED.on(namespace.key, message, "metadata.labels")


def _injects_by_default(lens: Lens) -> bool:
    injector = lens.get(kinds.CONFIG_MAP, SYSTEM_NAMESPACE, "istio-sidecar-injector")
    if injector is None:
        return False
    settings = part(injector.spec, "values", "sidecarInjectorWebhook")
    return settings.get("enableNamespacesByDefault") is True


def _pod(lens: Lens, pod: Pod) -> Iterator[Finding]:
    if pod.namespace in IGNORED_NAMESPACES:
        return
    if any(_is_auto(container.name, container.image) for container in applications(pod)):
        yield AUTO_POD.on(pod.key, "The image of its proxy is still `auto`.", "spec.containers")
    namespace = lens.namespace(pod.namespace)
    if namespace is None:
        return
    if namespace.labels.get(INJECTION) == "enabled" and _misses_proxy(pod):
        yield MISSING_PROXY.on(pod.key, "It has no proxy, and its namespace is injected.")
    yield from _image(lens, pod, namespace)


def _misses_proxy(pod: Pod) -> bool:
    said = pod.labels.get(INJECT, pod.annotations.get(INJECT, ""))
    return said.lower() != "false" and not pod.host_network and not has_proxy(pod.containers)


def _image(lens: Lens, pod: Pod, namespace: Namespace) -> Iterator[Finding]:
    """Found by pod and told of the namespace, once per image: a rule on the namespace would look
    at all its pods whenever one of them changes."""
    is_injected = namespace.labels.get(INJECTION) == "enabled" or REVISION in namespace.labels
    if not is_injected:
        return
    wanted = wanted_image(lens, namespace.labels.get(REVISION, ""))
    for container in pod.containers:
        if wanted and container.name == PROXY and not is_expected(lens, pod, container, wanted):
            key = Key(kinds.NAMESPACE, "", pod.namespace)
            message = f"Pods run the proxy {container.image}; injection gives {wanted}."
            yield OTHER_IMAGE.on(key, message)


def _deployment(lens: Lens, workload: Workload) -> Iterator[Finding]:
    containers = applications(workload)
    if not any(_is_auto(container.name, container.image) for container in containers):
        return
    namespace = lens.namespace(workload.namespace)
    labels = namespace.labels if namespace is not None else {}
    for config in lens.all(kinds.WEBHOOK):
        for _, webhook in parts(config.spec, "webhooks"):
            if (
                is_istio(text(webhook, "name"))
                and selects(webhook, "namespaceSelector", labels)
                and selects(webhook, "objectSelector", workload.pod_labels)
            ):
                return
    message = "Its proxy's image is `auto`, and no webhook of Istio selects its pods."
    yield AUTO_DEPLOYMENT.on(workload.key, message, "spec.template.spec.containers")


def _is_auto(name: str, image: str) -> bool:
    return name == PROXY and image == "auto"


ENTRIES = (
    NOT_INJECTED,
    MISSING_PROXY,
    SEVERAL_LABELS,
    AUTO_DEPLOYMENT,
    AUTO_POD,
    BY_DEFAULT,
    OTHER_IMAGE,
)
RULES = (
    Rule(codes=("IST0102", "IST0123", "IST0148"), kinds=(kinds.NAMESPACE,), check=_namespace),
    Rule(codes=("IST0103", "IST0147", "IST0158"), kinds=(kinds.POD,), check=_pod, matters=matters),
    Rule(codes=("IST0146",), kinds=(kinds.DEPLOYMENT,), check=_deployment, matters=matters),
)
