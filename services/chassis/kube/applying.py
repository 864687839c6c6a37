"""Server-side apply and deletion of single objects, and who manages which of their fields.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from services.chassis.errors import (
    KindUnknown,
    NamespaceMissing,
    ObjectConflict,
    ObjectNotFound,
)
from services.chassis.kube.client import APPLY_PATCH, MERGE_PATCH, KubeClient
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.resources import Resources

FIELD_MANAGER = "meshbus"
_TOUCHED = "meshbus.io/touched"


@dataclass(frozen=True, slots=True)
class Applied:
    """An applied object as the API server answered it."""

    ref: Ref
    obj: KubeObject
    created: bool
    taken_over: str = ""
    """The server's word on fields that another manager had set otherwise; "" when none."""

    @property
    def resource_version(self) -> str:
        return str(self.obj["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Applier:
    """Writes objects to one cluster as the field manager `meshbus`."""

    client: KubeClient
    resources: Resources

    async def apply(self, ref: Ref, body: bytes, *, take_over: bool = False) -> Applied:
        """Applies one object (JSON in `body`).

        A conflict with another manager is first seen, then overridden, so that it can be told;
        with `take_over` it is overridden at once.
        """
        if take_over:
            return await self._patch(ref, body, force=True)
        try:
            return await self._patch(ref, body, force=False)
        except ObjectConflict as conflict:
            taken = await self._patch(ref, body, force=True)
            return Applied(taken.ref, taken.obj, taken.created, taken_over=conflict.summary)

    async def delete(self, ref: Ref, *, cascade: str = "Background") -> bool:
        """Deletes one object; False when it, or its whole kind, was not there.

        `cascade` is the propagation policy: `Foreground` keeps the object until its dependents
        are gone.
        """
        try:
            resource = await self.resources.find(ref.api_version, ref.kind)
            await self.client.request(
                "DELETE",
                resource.path(ref),
                body=orjson.dumps({"propagationPolicy": cascade}),
                subject=str(ref),
            )
        except (ObjectNotFound, NamespaceMissing, KindUnknown):
            return False
        return True

    async def touch(self, ref: Ref) -> None:
        """Changes an object and changes it back, so that the cluster's controllers see it again."""
        resource = await self.resources.find(ref.api_version, ref.kind)
        for value in ("1", None):
            await self.client.request(
                "PATCH",
                resource.path(ref),
                query={"fieldManager": FIELD_MANAGER},
                body=orjson.dumps({"metadata": {"annotations": {_TOUCHED: value}}}),
                content_type=MERGE_PATCH,
                subject=str(ref),
            )

    async def _patch(self, ref: Ref, body: bytes, *, force: bool) -> Applied:
        try:
            return await self._patch_known(ref, body, force=force)
        except KindUnknown:
            # What we know of the cluster's kinds may be old: ask it once more.
            await self.resources.refresh()
            return await self._patch_known(ref, body, force=force)

    async def _patch_known(self, ref: Ref, body: bytes, *, force: bool) -> Applied:
        resource = await self.resources.find(ref.api_version, ref.kind)
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        answer = await self.client.request(
            "PATCH",
            resource.path(ref),
            query=query,
            body=body,
            content_type=APPLY_PATCH,
            subject=str(ref),
        )
        return Applied(ref, answer.json(), created=answer.code == 201)


def managed_fields(obj: KubeObject) -> list[dict[str, Any]]:
    """The entries of `metadata.managedFields`; never None."""
    return (obj.get("metadata") or {}).get("managedFields") or []


def own_entry(obj: KubeObject) -> dict[str, Any] | None:
    """The entry of Meshbus' own server-side applies."""
    return next((entry for entry in managed_fields(obj) if is_own(entry)), None)


def is_own(entry: dict[str, Any]) -> bool:
    return (
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    )
