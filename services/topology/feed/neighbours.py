"""Which watched clusters are one mesh, and what Istio calls each of them.

Telemetry names the cluster at each end of an edge by Istio's name for it, and people by the name
under which it was registered. Who owns a cluster learns here which is which, so that a workload of
another cluster is the same node in both graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.topology.feed import rendering
from services.topology.feed.deltas import INFO_PART, Delta
from services.topology.feed.views import ClusterView, Views

Hear = Callable[[Mapping[str, str]], None]
"""Gets what the others of a cluster's mesh are called, by Istio's names of them."""


@dataclass(frozen=True, slots=True)
class Names:
    """Of one cluster."""

    name: str
    istio: str
    mesh: str

    @classmethod
    def of(cls, view: ClusterView) -> Names | None:
        """None of a cluster that was not reached yet, or whose owner is older than this."""
        info = rendering.info(view)
        istio = info.get("istio")
        if not isinstance(istio, Mapping) or not istio.get("cluster"):
            return None
        name = str(info.get("name") or view.cluster)
        return cls(name, str(istio["cluster"]), str(istio.get("mesh", "")))


def names_for(cluster: str, known: Mapping[str, Names]) -> dict[str, str]:
    """What the others are called, for one of them. A name that two clusters of a mesh have says
    nothing of either."""
    own = known.get(cluster)
    if own is None:
        return {}
    others: dict[str, set[str]] = {}
    for token, names in known.items():
        if token != cluster and names.mesh == own.mesh and names.istio != own.istio:
            others.setdefault(names.istio, set()).add(names.name)
    return {istio: names.pop() for istio, names in sorted(others.items()) if len(names) == 1}


@dataclass(slots=True)
class Neighbours:
    """Follows the views; a delta that changes no name costs one look at it."""

    views: Views
    _known: dict[str, Names] = field(default_factory=dict)
    _hear: dict[str, tuple[Hear, dict[str, str]]] = field(default_factory=dict)
    """Who hears of the others of a cluster, and what he was told last."""

    def start(self) -> Callable[[], None]:
        """Follows from now on; returns what ends that."""
        for cluster in self.views.clusters:
            self._look(cluster)
        return self.views.listen(self._heard)

    def listen(self, cluster: str, hear: Hear) -> Callable[[], None]:
        """Tells the present names, and then each change; returns what ends that."""
        self._hear[cluster] = (hear, {})
        self._tell(cluster)

        def leave() -> None:
            # Another watch of the cluster may have come in its place.
            if cluster in self._hear and self._hear[cluster][0] is hear:
                del self._hear[cluster]

        return leave

    def _heard(self, delta: Delta) -> None:
        if (INFO_PART in delta.parts or not delta.parts) and self._look(delta.cluster):
            for cluster in self._hear:
                self._tell(cluster)

    def _look(self, cluster: str) -> bool:
        view = self.views.view(cluster)
        names = Names.of(view) if view is not None else None
        if names == self._known.get(cluster):
            return False
        if names is None:
            # One that cannot be reached for a while keeps its name: it is the same cluster.
            if view is not None:
                return False
            del self._known[cluster]
        else:
            self._known[cluster] = names
        return True

    def _tell(self, cluster: str) -> None:
        hear, told = self._hear[cluster]
        names = names_for(cluster, self._known)
        if names != told:
            self._hear[cluster] = (hear, names)
            hear(names)
