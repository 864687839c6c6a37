"""Renders a request as the objects of a mesh: the overlay, and the manifest that istioctl makes.

Rendered meshes are cached by (version, input), and those without an overlay of the user's over
restarts as well. Single documents are cached by their text as well:
the 15 CRDs are nine tenths of every manifest and the same in all of them.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson
from cachetools import LRUCache

from services.chassis.errors import OverlayMalformed
from services.chassis.kube.manifests import parse_trusted_document
from services.chassis.kube.objects import KubeObject
from services.lifecycle.cluster import istio
from services.lifecycle.manifests.objects import PlannedObject
from services.lifecycle.mesh.requests import MeshRequest

_CACHED_MESHES = 16
_CACHED_DOCUMENTS = 512


Render = Callable[[str, bytes], Awaitable[str]]
"""Makes a version's manifest (YAML) of an overlay."""


class Kept(Protocol):
    """Rendered meshes that outlive the process; neither call raises, and both block."""

    def recall(self, version: str, overlay: bytes) -> list[KubeObject] | None:
        """The objects that were kept for an overlay; None without any."""

    def keep(self, version: str, overlay: bytes, bodies: Sequence[bytes]) -> None:
        """Keeps the objects' JSON."""


@dataclass(frozen=True, slots=True)
class RenderedMesh:
    """All objects of one revision, labelled, ready to be sent."""

    version: str
    objects: tuple[PlannedObject, ...]


def overlay_for(request: MeshRequest, *, tags: tuple[str, ...], hub: str) -> bytes:
    """The IstioOperator (JSON) that istioctl renders the requested mesh from."""
    spec = copy.deepcopy(request.overlay)
    spec["profile"] = request.profile
    spec.setdefault("hub", hub)
    values = spec.setdefault("values", {})
    if not isinstance(values, dict):
        raise OverlayMalformed("spec.values of the IstioOperator is not a mapping")
    if request.revision != istio.DEFAULT_REVISION:
        spec["revision"] = request.revision
        # The default validator belongs to whichever revision has the default tag.
        values["defaultRevision"] = request.revision if istio.DEFAULT_TAG in tags else ""
    else:
        # istioctl's profiles leave that validator out: its install adds it by itself. Without it
        # istiod judges only objects that name a revision.
        values.setdefault("defaultRevision", istio.DEFAULT_REVISION)
    if tags:
        values["revisionTags"] = sorted(tags)
    if request.namespace != istio.SYSTEM_NAMESPACE:
        # The charts take the namespace from the one, istioctl from the other.
        settings = values.setdefault("global", {})
        if not isinstance(settings, dict):
            raise OverlayMalformed("spec.values.global of the IstioOperator is not a mapping")
        settings["istioNamespace"] = request.namespace
    operator = {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"namespace": request.namespace},
        "spec": spec,
    }
    return orjson.dumps(operator, option=orjson.OPT_SORT_KEYS)


def _recalled(kept: Kept, version: str, overlay: bytes) -> tuple[PlannedObject, ...] | None:
    objects = kept.recall(version, overlay)
    return tuple(map(PlannedObject.of, objects)) if objects else None


@dataclass(slots=True)
class Rendering:
    """Renders meshes and keeps the last ones."""

    render: Render
    hub: str
    kept: Kept | None = None
    _meshes: LRUCache[str, RenderedMesh] = field(default_factory=lambda: LRUCache(_CACHED_MESHES))
    _documents: LRUCache[str, PlannedObject] = field(
        default_factory=lambda: LRUCache(_CACHED_DOCUMENTS)
    )
    _running: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def mesh(
        self, request: MeshRequest, *, version: str, tags: tuple[str, ...]
    ) -> RenderedMesh:
        """The objects of `request` in `version`, with the given revision tags."""
        overlay = overlay_for(request, tags=tags, hub=self.hub)
        key = f"{version}:{hashlib.sha256(overlay).hexdigest()}"
        lock = self._running.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                return await self._cached(key, request, version=version, overlay=overlay)
        finally:
            if not lock.locked():
                self._running.pop(key, None)

    async def _cached(
        self, key: str, request: MeshRequest, *, version: str, overlay: bytes
    ) -> RenderedMesh:
        mesh = self._meshes.get(key)
        if mesh is None:
            # Values of a user's own may be secret, and what is kept is on a disk.
            kept = None if request.overlay else self.kept
            recalled = await asyncio.to_thread(_recalled, kept, version, overlay) if kept else None
            if recalled is None:
                text = await self.render(version, overlay)
                recalled = await self._objects(text, request, version)
                if kept is not None:
                    bodies = [planned.body for planned in recalled]
                    await asyncio.to_thread(kept.keep, version, overlay, bodies)
            mesh = self._meshes[key] = RenderedMesh(version, recalled)
        return mesh

    async def _objects(
        self, text: str, request: MeshRequest, version: str
    ) -> tuple[PlannedObject, ...]:
        objects = []
        for document in text.removesuffix("\n").removesuffix("\n---").split("\n---\n"):
            if not document.strip().strip("-").strip():
                continue
            # The line's end belongs to a literal that ends the document.
            planned = self._object(f"{document}\n", request, version)
            if planned is not None:
                objects.append(planned)
            # One document is a few milliseconds; heartbeats run between them.
            await asyncio.sleep(0)
        return tuple(objects)

    def _object(self, document: str, request: MeshRequest, version: str) -> PlannedObject | None:
        identity = f"{request.revision}:{version}:{request.namespace}:{document}"
        key = hashlib.sha256(identity.encode()).hexdigest()
        known = self._documents.get(key)
        if known is not None:
            return known
        obj = parse_trusted_document(document)
        if obj is None:
            return None
        istio.claim(obj, revision=request.revision, version=version, namespace=request.namespace)
        planned = PlannedObject.of(obj)
        self._documents[key] = planned
        return planned
