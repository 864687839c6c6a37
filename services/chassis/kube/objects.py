"""Kubernetes objects as raw mappings, and how they are named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

KubeObject: TypeAlias = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label of what Meshbus made out of something else; only such objects does it replace."""
MANAGER = "meshbus"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Which object: its type, namespace ("" for cluster-scoped) and name."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: KubeObject) -> Ref:
        metadata = obj.get("metadata") or {}
        return cls(
            api_version=str(obj.get("apiVersion", "")),
            kind=str(obj.get("kind", "")),
            namespace=str(metadata.get("namespace") or ""),
            name=str(metadata.get("name") or ""),
        )

    @property
    def group(self) -> str:
        """API group; "" for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def group_kind(self) -> tuple[str, str]:
        return (self.group, self.kind)

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}"


def labels_of(obj: KubeObject) -> dict[str, str]:
    """The object's labels; never None."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: KubeObject) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
