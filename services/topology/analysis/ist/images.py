"""Which image injection would give a pod's proxy."""

from __future__ import annotations

import yaml

from services.topology.analysis.ist.specs import Spec, labels, part, text
from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.objects import Container, Pod
from services.topology.cluster.state import matches
from services.topology.mesh.meshes import SYSTEM_NAMESPACE

_OWN_IMAGE = "sidecar.istio.io/proxyImage"
_OWN_CONFIG = "proxy.istio.io/config"


def wanted_image(lens: Lens, revision: str) -> str:
    """The image in the injector's settings; "" where they are not known."""
    suffix = f"-{revision}" if revision not in ("", "default") else ""
    injector = lens.get(kinds.CONFIG_MAP, SYSTEM_NAMESPACE, f"istio-sidecar-injector{suffix}")
    settings = part(injector.spec, "values", "global") if injector is not None else {}
    image = text(part(settings, "proxy"), "image")
    if not image or "/" in image:
        return image
    return f"{text(settings, 'hub')}/{image}:{text(settings, 'tag')}"


def is_expected(lens: Lens, pod: Pod, proxy: Container, wanted: str) -> bool:
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


def _annotated(pod: Pod) -> Spec:
    try:
        found = yaml.load(pod.annotations.get(_OWN_CONFIG, ""), Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _image_type(proxy_config: Spec) -> str:
    return text(part(proxy_config, "image"), "imageType")
