"""Checks of extensions of the proxies: EnvoyFilters, WasmPlugins and TrafficExtensions."""

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.filters import check_filter
from services.translator.extensions.plugins import check_plugin
from services.translator.reports import Finding


def check_extension(
    obj: KubeObject, *, target: str | None, root_namespace: str = "istio-system"
) -> list[Finding]:
    """Reports errors and risks of an extension for proxies of version `target`, if one is given.

    Other objects have no findings. Raises `OptionsMalformed` when `target` is no version.
    """
    filters = check_filter(obj, target=target, root_namespace=root_namespace)
    return filters + check_plugin(obj)
