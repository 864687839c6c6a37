"""Who holds which fields of an object: what the API server writes into `metadata.managedFields`.

https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from typing import Any

from services.chassis.kube.applying import FIELD_MANAGER
from services.chassis.kube.objects import KubeObject


def entries(obj: KubeObject) -> list[dict[str, Any]]:
    """All entries; never None."""
    return (obj.get("metadata") or {}).get("managedFields") or []


def own_entry(obj: KubeObject) -> dict[str, Any] | None:
    """The entry of Meshbus' own server-side applies."""
    return next((entry for entry in entries(obj) if is_own(entry)), None)


def is_own(entry: dict[str, Any]) -> bool:
    return (
        entry.get("manager") == FIELD_MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    )
