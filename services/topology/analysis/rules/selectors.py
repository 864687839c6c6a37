"""Objects that select workloads by labels: those that select none, and those that contend."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.forms import labels, shown
from services.topology.cluster.objects import Config, Labels, Pod, Runs
from services.topology.cluster.state import matches
from services.topology.mesh.membership import (
    GATEWAY_NAME,
    is_ambient_namespace,
    is_captured,
    is_meant_for_mesh,
)
from services.topology.mesh.security import selector_of, targets_of

# --- what labels select ---------------------------------------------------------------------------


def pods(lens: Lens, namespace: str | None, selector: Labels) -> list[Pod]:
    """Pods that a selector selects and that have not ended."""
    return [pod for pod in lens.pods(namespace, selector) if not pod.has_ended]


def running(lens: Lens, namespace: str, selector: Labels) -> list[Runs]:
    """The pods that a selector selects, else the workloads, which then have none.

    Workloads are scanned, so they are asked only where no pod was found: of one that is scaled to
    zero, or of a selector that selects nothing.
    """
    found: list[Runs] = list(pods(lens, namespace, selector))
    return found or list(lens.workloads(namespace, selector))


def is_fulfilled(lens: Lens, namespace: str, selector: Labels) -> bool:
    """Whether anything in the namespace has these labels, machines outside included."""
    if running(lens, namespace, selector):
        return True
    outside = [
        *(labels(entry.spec, "labels") for entry in lens.all(kinds.WORKLOAD_ENTRY, namespace)),
        *(
            labels(group.spec, "metadata", "labels")
            for group in lens.all(kinds.WORKLOAD_GROUP, namespace)
        ),
    ]
    return any(matches(selector, found) for found in outside)


def is_fulfilled_anywhere(lens: Lens, home: str, selector: Labels) -> bool:
    """The same in all namespaces; `home` and the pods of all are looked at first, to leave few
    marks."""
    if is_fulfilled(lens, home, selector) or pods(lens, None, selector):
        return True
    others = [space.name for space in lens.all(kinds.NAMESPACE) if space.name != home]
    return any(is_fulfilled(lens, other, selector) for other in others)


def is_of_mesh(lens: Lens, runs: Runs) -> bool:
    """Whether a pod is in the mesh, or labels ask for it."""
    space = lens.namespace(runs.namespace)
    return is_meant_for_mesh(runs, space.labels if space is not None else {})


def path_of(config: Config) -> str:
    """Where an object has its selector."""
    return "spec.workloadSelector" if "workloadSelector" in config.spec else "spec.selector"


# --- selectors that select nothing ----------------------------------------------------------------

_MESH_WIDE = (kinds.AUTHORIZATION_POLICY, kinds.REQUEST_AUTHENTICATION)
"""In the root namespace their selectors select workloads of all namespaces."""
_OF_POD = (kinds.SIDECAR, kinds.TELEMETRY)
"""istioctl asks for a pod of these, ..."""
_OF_KIALI = (*_MESH_WIDE, kinds.PEER_AUTHENTICATION, kinds.SIDECAR)
"""... and Kiali for a workload of these."""


def _nothing(lens: Lens, config: Config) -> Iterator[Finding]:
    selector, kind = selector_of(config), config.key.kind
    is_wide = kind in _MESH_WIDE and config.namespace == lens.mesh().root_namespace
    where = None if is_wide else config.namespace
    is_empty = False
    if selector and kind in _OF_KIALI and not targets_of(config):
        look = is_fulfilled_anywhere if is_wide else is_fulfilled
        is_empty = not look(lens, config.namespace, selector)
    codes = those(
        IST0101=kind in _OF_POD and bool(selector) and not any(lens.pods(where, selector)),
        IST0127=kind == kinds.AUTHORIZATION_POLICY
        and (not is_wide or config.spec.get("selector") is not None)
        and not any(is_of_mesh(lens, pod) for pod in lens.pods(where, selector)),
        KIA0004=is_empty,
    )
    if codes:
        what = f" with labels {shown(selector)}" if selector else ""
        of = "workload" if is_empty or kind in _OF_POD else "pod of the mesh"
        message = f"No {of}{what} in {'the mesh' if is_wide else f'namespace {where}'}."
        path = path_of(config) if selector else ""
        yield tell("selects-nothing", config.key, message, path, codes=codes)


# --- selectors that select the same ---------------------------------------------------------------

_ONE_PER_WORKLOAD = {
    kinds.SIDECAR: ("IST0111", "IST0110"),
    kinds.TELEMETRY: ("IST0160", "IST0159"),
    kinds.PEER_AUTHENTICATION: ("", ""),
}
"""istioctl's codes of several without a selector, and of several that select one workload. Not
RequestAuthentications: Istio accepts the tokens of all that select a workload."""


def _codes(lens: Lens, one: Config, other: Config) -> frozenset[str]:
    """The codes by which two objects contend for a workload; none for two that do not."""
    kind = one.key.kind
    mine, theirs = selector_of(one), selector_of(other)
    if bool(mine) != bool(theirs):
        return frozenset()
    without, with_selector = _ONE_PER_WORKLOAD[kind]
    is_kiali = kind != kinds.TELEMETRY and not targets_of(one) and not targets_of(other)
    if not mine:
        is_istioctl = one.spec.get("selector") is None is other.spec.get("selector")
        if kind == kinds.SIDECAR:
            is_istioctl = not _is_ambient(lens, one.namespace)
        return _named(without, is_istioctl) | _named("KIA0002", is_kiali)
    if any(theirs.get(name, value) != value for name, value in mine.items()):
        return frozenset()
    both = {**mine, **theirs}
    shared = lens.pods(one.namespace, both)
    is_istioctl = any(kind == kinds.TELEMETRY or not is_captured(pod) for pod in shared)
    is_kiali = is_kiali and is_fulfilled(lens, one.namespace, both)
    return _named(with_selector, is_istioctl) | _named("KIA0003", is_kiali)


def _named(code: str, applies: bool) -> frozenset[str]:
    return frozenset((code,) if code and applies else ())


def _is_ambient(lens: Lens, namespace: str) -> bool:
    space = lens.namespace(namespace)
    return space is not None and is_ambient_namespace(space.labels)


def _several(lens: Lens, config: Config) -> Iterator[Finding]:
    has_selector = bool(selector_of(config))
    mistake = "several-select-one" if has_selector else "several-without-selector"
    what = (
        "selects a workload that {} selects, too." if has_selector else "and {} have no selector."
    )

    def clashes(other: Config) -> bool:
        return bool(_codes(lens, config, other))

    for other in lens.peers(config, clashes, config.namespace):
        codes = _codes(lens, config, other)
        for one, two in ((config, other), (other, config)):
            path = path_of(one) if has_selector else "spec"
            yield tell(mistake, one.key, f"{one.key} {what.format(two.key)}", path, codes=codes)


# --- selectors that have no effect ----------------------------------------------------------------


def _ineffective(lens: Lens, sidecar: Config) -> Iterator[Finding]:
    """IST0167: a Sidecar for pods that have none."""
    selector = selector_of(sidecar)
    if not selector and _is_ambient(lens, sidecar.namespace):
        yield tell("IST0167", sidecar.key, f"Namespace {sidecar.namespace} is in ambient mode.")
    elif selector and any(is_captured(pod) for pod in lens.pods(sidecar.namespace, selector)):
        yield tell("IST0167", sidecar.key, "A selected pod is in ambient mode.", path_of(sidecar))


def _of_gateway(lens: Lens, config: Config) -> Iterator[Finding]:
    """IST0166: the proxies of Kubernetes' Gateways look at `targetRefs` alone."""
    if config.spec.get("targetRef") is not None or config.spec.get("selector") is None:
        return
    found = lens.pods(config.namespace, selector_of(config))
    for name in sorted({pod.labels.get(GATEWAY_NAME, "") for pod in found} - {""}):
        message = f"The selector selects pods of the Kubernetes Gateway {name}."
        yield tell("IST0166", config.key, message, "spec.selector.matchLabels")


_SELECTING = (*_MESH_WIDE, kinds.TELEMETRY, kinds.WASM_PLUGIN)
RULES = (
    Rule(finds=("selects-nothing",), kinds=(*_OF_KIALI, kinds.TELEMETRY), check=_nothing),
    Rule(
        finds=("several-without-selector", "several-select-one"),
        kinds=tuple(_ONE_PER_WORKLOAD),
        check=_several,
    ),
    Rule(finds=("IST0167",), kinds=(kinds.SIDECAR,), check=_ineffective),
    Rule(finds=("IST0166",), kinds=_SELECTING, check=_of_gateway),
)
