"""How proxies stand with their control plane: what they have not taken, and who is lost.

Told about the workload that made the pods, so that all its pods make one finding; what a rejection
names is told of that object as well.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.objects import Istiod, Key, Pod, Proxy, Sync
from services.topology.mesh.images import is_supported
from services.topology.mesh.rejections import named_in


def _proxy(lens: Lens, proxy: Proxy) -> Iterator[Finding]:
    pod: Pod | None = lens.get(kinds.POD, proxy.namespace, proxy.name)
    if pod is None:
        return
    owner = pod.owner or pod.key
    if proxy.is_lost:
        yield tell("MBS0103", owner, "No control plane of the cluster knows its proxies.")
    stale = [one.type for one in proxy.configured if one.sync is Sync.STALE]
    if stale:
        message = f"Its proxies have not acknowledged {', '.join(stale)} for over a minute."
        yield tell("MBS0101", owner, message)
    yield from _rejections(lens, proxy, pod, owner)
    if not is_supported(proxy.version, proxy.istiod_version):
        message = (
            f"Its proxies are of version {proxy.version}, their control plane of "
            f"{proxy.istiod_version}."
        )
        yield tell("MBS0104", owner, message)
    if proxy.is_expiring:
        message = "The certificate of its proxies ends within minutes and has not been renewed."
        yield tell("MBS0105", owner, message)


def _istiod(lens: Lens, istiod: Istiod) -> Iterator[Finding]:
    pod: Pod | None = lens.get(kinds.POD, istiod.namespace, istiod.name)
    if pod is not None and istiod.fails_pushes:
        message = "It has failed to make or to send configuration within the last minutes."
        yield tell("MBS0107", pod.owner or pod.key, message)


def _rejections(lens: Lens, proxy: Proxy, pod: Pod, owner: Key) -> Iterator[Finding]:
    for one in proxy.configured:
        if one.sync is not Sync.REJECTED:
            continue
        named = named_in(
            lens,
            one.error,
            namespace=pod.namespace,
            pod_labels=pod.pod_labels,
            root=lens.mesh().root_namespace,
        )
        about = f" ({', '.join(map(str, named))})" if named else ""
        message = f"Its proxies reject {one.type}{about}: {one.error}"
        yield tell("MBS0102", owner, message)
        for key in named:
            yield tell("MBS0106", key, f"Proxies reject {one.type} for it: {one.error}")


RULES = (
    Rule(
        finds=("MBS0101", "MBS0102", "MBS0103", "MBS0104", "MBS0105", "MBS0106"),
        kinds=(kinds.PROXY,),
        check=_proxy,
    ),
    Rule(finds=("MBS0107",), kinds=(kinds.ISTIOD,), check=_istiod),
)
