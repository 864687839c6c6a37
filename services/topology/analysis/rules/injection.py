"""Injection of sidecars: namespaces that do not say, pods that missed it, proxies of old images.

Whether a pod was injected is what its containers say; what injection would do is what the labels,
the webhooks and the injector's settings say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.chassis.errors import TooManyValues
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.webhooks import is_istio, selects
from services.topology.cluster import kinds
from services.topology.cluster.forms import labels, part, parts, text
from services.topology.cluster.objects import (
    Change,
    Container,
    Key,
    Labels,
    Namespace,
    Pod,
    Record,
    Runs,
    Workload,
)
from services.topology.cluster.state import matches
from services.topology.mesh.images import PROXY
from services.topology.mesh.membership import DATAPLANE, INJECT, INJECTION, REVISION

IGNORED_NAMESPACES = frozenset(
    {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
)
"""istioctl leaves these out: no finding about namespaces, Services and pods here. Unlike istioctl,
rules still see what is in them: kube-dns exists."""


def is_control_plane(obj: Record) -> bool:
    """Whether an object's labels say that it is a part of Istio."""
    return "istio" in obj.labels or obj.labels.get("release") == "istio"


def applications(runs: Runs) -> tuple[Container, ...]:
    """Without init containers."""
    return tuple(container for container in runs.containers if not container.is_init)


def runs_differently(change: Change) -> bool:
    """Whether what a pod or template is has changed, and not just how it fares."""
    before, after = change.before, change.after
    return before is None or after is None or _shape(before) != _shape(after)


def _shape(runs: Runs) -> tuple[object, ...]:
    return (
        runs.labels,
        runs.pod_labels,
        runs.pod_annotations,
        runs.containers,
        runs.account,
        runs.host_network,
        runs.run_as_user,
    )


# --- namespaces -----------------------------------------------------------------------------------


def _namespace(lens: Lens, namespace: Namespace) -> Iterator[Finding]:
    if namespace.name in (lens.mesh().system_namespace, *IGNORED_NAMESPACES):
        return
    own = namespace.labels
    injection = own.get(INJECTION)
    said = [INJECTION] if injection is not None else []
    if injection in (None, "enabled"):
        said += [name for name in (REVISION, DATAPLANE) if name in own]
    if len(said) > 1:
        said_now = ", ".join(f"{name}={own[name]}" for name in said)
        yield tell("IST0123", namespace.key, f"It has: {said_now}.", "metadata.labels")
    if own.get(DATAPLANE) == "ambient" or injection or REVISION in own:
        return
    if _injects_by_default(lens):
        message = f"Namespace {namespace.name} has no label, and is injected by default."
        yield tell("IST0148", namespace.key, message, "metadata.labels")
    else:
        message = f"Namespace {namespace.name} has no label for injection."
        yield tell("IST0102", namespace.key, message, "metadata.labels")


def _injects_by_default(lens: Lens) -> bool:
    home = lens.mesh().system_namespace
    injector = lens.get(kinds.CONFIG_MAP, home, "istio-sidecar-injector")
    if injector is None:
        return False
    settings = part(injector.spec, "values", "sidecarInjectorWebhook")
    return settings.get("enableNamespacesByDefault") is True


# --- pods and Deployments -------------------------------------------------------------------------


def _pod(lens: Lens, pod: Pod) -> Iterator[Finding]:
    if pod.namespace in IGNORED_NAMESPACES:
        return
    if any(_is_auto(container.name, container.image) for container in applications(pod)):
        yield tell("IST0147", pod.key, "The image of its proxy is still `auto`.", "spec.containers")
    namespace = lens.namespace(pod.namespace)
    if namespace is None:
        return
    if namespace.labels.get(INJECTION) == "enabled" and _misses_proxy(pod):
        yield tell("IST0103", pod.key, "It has no proxy, and its namespace is injected.")
    yield from _image(lens, pod, namespace)


def _misses_proxy(pod: Pod) -> bool:
    said = pod.labels.get(INJECT, pod.annotations.get(INJECT, ""))
    return (
        said.lower() != "false"
        and not pod.host_network
        and not any(c.name == PROXY and c.image for c in pod.containers)
    )


def _image(lens: Lens, pod: Pod, namespace: Namespace) -> Iterator[Finding]:
    """Found by pod and told of the namespace, once per image: a rule on the namespace would look
    at all its pods whenever one of them changes."""
    is_injected = namespace.labels.get(INJECTION) == "enabled" or REVISION in namespace.labels
    if not is_injected:
        return
    wanted = _wanted_image(lens, namespace.labels.get(REVISION, ""))
    for container in pod.containers:
        if wanted and container.name == PROXY and not _is_expected(lens, pod, container, wanted):
            key = Key(kinds.NAMESPACE, "", pod.namespace)
            message = f"Pods run the proxy {container.image}; injection gives {wanted}."
            yield tell("IST0158", key, message)


def _deployment(lens: Lens, workload: Workload) -> Iterator[Finding]:
    containers = applications(workload)
    if not any(_is_auto(container.name, container.image) for container in containers):
        return
    namespace = lens.namespace(workload.namespace)
    own: Labels = namespace.labels if namespace is not None else {}
    for config in lens.all(kinds.WEBHOOK):
        for _, webhook in parts(config.spec, "webhooks"):
            if (
                is_istio(text(webhook, "name"))
                and selects(webhook, "namespaceSelector", own)
                and selects(webhook, "objectSelector", workload.pod_labels)
            ):
                return
    message = "Its proxy's image is `auto`, and no webhook of Istio selects its pods."
    yield tell("IST0146", workload.key, message, "spec.template.spec.containers")


def _is_auto(name: str, image: str) -> bool:
    return name == PROXY and image == "auto"


# --- images ---------------------------------------------------------------------------------------

_OWN_IMAGE = "sidecar.istio.io/proxyImage"
_OWN_CONFIG = "proxy.istio.io/config"
_MOST_IN_CONFIG = 2000
"""Values in a pod's own configuration: it is read with each change of the pod."""


def _wanted_image(lens: Lens, revision: str) -> str:
    """The image in the injector's settings; "" where they are not known."""
    suffix = f"-{revision}" if revision not in ("", "default") else ""
    home = lens.mesh().system_namespace
    injector = lens.get(kinds.CONFIG_MAP, home, f"istio-sidecar-injector{suffix}")
    settings = part(injector.spec, "values", "global") if injector is not None else {}
    image = text(part(settings, "proxy"), "image")
    if not image or "/" in image:
        return image
    return f"{text(settings, 'hub')}/{image}:{text(settings, 'tag')}"


def _is_expected(lens: Lens, pod: Pod, proxy: Container, wanted: str) -> bool:
    """Whether the proxy runs the wanted image, or its variant for this pod."""
    if proxy.image == wanted or pod.annotations.get(_OWN_IMAGE):
        return True
    variant = _variant(lens, pod)
    return bool(variant) and proxy.image == f"{wanted}-{variant}"


def _variant(lens: Lens, pod: Pod) -> str:
    """`distroless`, …: what says it closest to the pod counts."""
    mesh = lens.mesh()
    found = _image_type(part(mesh.config, "defaultConfig"))
    for config in lens.all(kinds.PROXY_CONFIG, mesh.root_namespace):
        found = _image_type(config.spec) or found
    if pod.namespace != mesh.root_namespace:
        # Those without a selector first: those for the pod go over them.
        for has_selector in (False, True):
            for config in lens.all(kinds.PROXY_CONFIG, pod.namespace):
                selector = labels(config.spec, "selector", "matchLabels")
                if ("selector" in config.spec) is has_selector and matches(selector, pod.labels):
                    found = _image_type(config.spec) or found
    found = _image_type(_annotated(pod)) or found
    return "" if found == "default" else found


def _annotated(pod: Pod) -> Mapping[str, Any]:
    try:
        found = read_yaml(
            pod.annotations.get(_OWN_CONFIG, ""), budget=Budget.fresh(nodes=_MOST_IN_CONFIG)
        )
    except (ValueError, TooManyValues):
        return {}
    return found if isinstance(found, dict) else {}


def _image_type(proxy_config: Mapping[str, Any]) -> str:
    return text(part(proxy_config, "image"), "imageType")


RULES = (
    Rule(finds=("IST0102", "IST0123", "IST0148"), kinds=(kinds.NAMESPACE,), check=_namespace),
    Rule(
        finds=("IST0103", "IST0147", "IST0158"),
        kinds=(kinds.POD,),
        check=_pod,
        matters=runs_differently,
    ),
    Rule(
        finds=("IST0146",), kinds=(kinds.DEPLOYMENT,), check=_deployment, matters=runs_differently
    ),
)
