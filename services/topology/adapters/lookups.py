"""One object of a cluster, read when a watch has not brought it."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.errors import KindUnknown, NamespaceMissing, ObjectNotFound
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.resources import Resources
from services.topology.cluster.objects import Key


@dataclass(frozen=True, slots=True)
class Lookups:
    """Implements `drift.ports.Objects`."""

    client: KubeClient
    resources: Resources

    async def read(self, key: Key) -> KubeObject | None:
        group, _, kind = key.kind.partition("/")
        resource = await self.resources.preferred(group, kind)
        if resource is None:
            # Defined since discovery was read last.
            await self.resources.refresh()
            resource = await self.resources.preferred(group, kind)
        if resource is None:
            return None
        ref = Ref(resource.api_version, kind, key.namespace, key.name)
        try:
            obj: KubeObject = await self.client.get(resource.path(ref), subject=str(ref))
        except (ObjectNotFound, NamespaceMissing, KindUnknown):
            return None
        return obj
