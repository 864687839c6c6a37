"""Discovery: which URL serves a kind. Two requests for the whole cluster, kept until a miss.

Aggregated discovery (apidiscovery.k8s.io/v2, Kubernetes 1.30) answers with all groups at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import KindUnknown, ObjectInvalid
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import Ref

_STARTING_WITHIN_S = 30.0
_STARTING_DELAY_S = 0.2
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource. `version` is the group's version, such as `apps/v1`."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def root(self) -> str:
        return (
            f"/api/{self.api_version}"
            if "/" not in self.api_version
            else (f"/apis/{self.api_version}")
        )

    def collection(self, namespace: str = "") -> str:
        """Path of all objects, of one namespace or of the cluster."""
        if self.namespaced and namespace:
            return f"{self.root}/namespaces/{_segment(namespace)}/{self.plural}"
        return f"{self.root}/{self.plural}"

    def path(self, ref: Ref) -> str:
        return f"{self.collection(ref.namespace)}/{_segment(ref.name)}"


def _segment(name: str) -> str:
    """A name as one segment of a path; raises `ObjectInvalid` for one that would be several, or
    lead out of its place: whoever judged the object would have judged another one."""
    if name in ("", ".", "..") or not name.isprintable() or any(c in name for c in "/%?#\\"):
        raise ObjectInvalid(f"{name[:128]!r} is not the name of an object", subject=name[:128])
    return name


@dataclass(slots=True)
class Resources:
    """The kinds that one cluster serves."""

    client: KubeClient
    _known: dict[tuple[str, str], Resource] = field(default_factory=dict)
    _preferred: dict[tuple[str, str], Resource] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, api_version: str, kind: str) -> Resource:
        """The resource of a kind; asks the cluster again before it raises `KindUnknown`."""
        found = self._known.get((api_version, kind))
        if found is None:
            await self.refresh()
            found = self._known.get((api_version, kind))
        if found is None:
            raise KindUnknown(f"the cluster serves no {kind} in {api_version}", subject=kind)
        return found

    async def preferred(self, group: str, kind: str) -> Resource | None:
        """The resource of a kind in the version that the cluster prefers, or None."""
        if not self._known:
            await self.refresh()
        return self._preferred.get((group, kind))

    async def of_group(self, group: str) -> list[Resource]:
        """All resources of a group, each kind's preferred version first; subresources left out."""
        if not self._known:
            await self.refresh()
        return [
            resource
            for (api_version, _), resource in self._known.items()
            if api_version.rpartition("/")[0] == group and "/" not in resource.plural
        ]

    async def namespaced_kinds(self) -> list[tuple[str, str]]:
        """Group and kind of everything that lives in namespaces and can be listed."""
        await self.refresh()
        return [
            group_kind
            for group_kind, resource in self._preferred.items()
            if resource.namespaced and "list" in resource.verbs and "/" not in resource.plural
        ]

    async def kind_of(self, group: str, plural: str) -> str | None:
        """The kind behind a resource's plural name; asks the cluster again before it says None.

        A definition is deleted when nobody uses its kind, so an old reading must not deny one.
        """
        found = self._kind_of(group, plural)
        if found is None:
            await self.refresh()
            found = self._kind_of(group, plural)
        return found

    def _kind_of(self, group: str, plural: str) -> str | None:
        return next(
            (kind for (g, kind), r in self._preferred.items() if g == group and r.plural == plural),
            None,
        )

    async def refresh(self) -> None:
        """Reads discovery; calls at the same moment share one reading."""
        before = self._known
        async with self._lock:
            if self._known is not before:
                return
            self._known, self._preferred = _read(await self._discovered())

    async def _discovered(self) -> list[dict[str, Any]]:
        """All groups; asked for again, within bounds, of a server that has just started.

        Such a server leaves out what it has not found yet, and what is not served counts as gone.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STARTING_WITHIN_S
        while True:
            core, groups = await asyncio.gather(
                self.client.get("/api", accept=_AGGREGATED, subject="API discovery"),
                self.client.get("/apis", accept=_AGGREGATED, subject="API discovery"),
            )
            if not await self.client.is_starting() or loop.time() > deadline:
                return [*core["items"], *groups["items"]]
            await asyncio.sleep(_STARTING_DELAY_S)


def _read(
    groups: list[dict[str, Any]],
) -> tuple[dict[tuple[str, str], Resource], dict[tuple[str, str], Resource]]:
    known: dict[tuple[str, str], Resource] = {}
    preferred: dict[tuple[str, str], Resource] = {}
    for group in groups:
        name = str((group.get("metadata") or {}).get("name") or "")
        # The server lists a group's versions with the preferred one first.
        for version in group.get("versions") or []:
            api_version = f"{name}/{version['version']}" if name else str(version["version"])
            for entry in version.get("resources") or []:
                kind = str((entry.get("responseKind") or {}).get("kind") or "")
                resource = Resource(
                    api_version=api_version,
                    kind=kind,
                    plural=str(entry["resource"]),
                    namespaced=entry.get("scope") == "Namespaced",
                    verbs=frozenset(entry.get("verbs") or ()),
                )
                known.setdefault((api_version, kind), resource)
                preferred.setdefault((name, kind), resource)
    return known, preferred
