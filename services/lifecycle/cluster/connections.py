"""A cluster as one credential reaches it."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.chassis.kube.client import KubeClient
from services.chassis.kube.resources import Resources
from services.chassis.messages import MeshFact


@dataclass(slots=True)
class Connection:
    """One cluster through one credential."""

    client: KubeClient
    resources: Resources
    served: dict[str, list[str]] = field(default_factory=dict)
    """Versions by kind, as in `ClusterFacts`, when the cluster was last surveyed."""
    meshes: list[MeshFact] = field(default_factory=list)
    """The installed revisions at that time."""
    surveyed: float = float("-inf")
    """When that was, in the loop's time."""
    _uid: str = ""

    async def identity(self) -> str:
        """The cluster's own identity, whatever its address: the UID of kube-system."""
        if not self._uid:
            namespace = await self.client.get(
                "/api/v1/namespaces/kube-system", subject="Namespace kube-system"
            )
            self._uid = str(namespace["metadata"]["uid"])
        return self._uid
