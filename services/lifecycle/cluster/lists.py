"""Lists of objects, page by page."""

from __future__ import annotations

from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject

_PAGE = 500
# A current list waits until the server's cache has seen the newest write of any kind, up to 100 ms.
FROM_CACHE = {"resourceVersion": "0"}
"""For what may be as old as the server's cache."""


def stripped(obj: KubeObject, api_version: str, kind: str) -> KubeObject:
    """The object with its type, which lists leave out, and without managed fields and status."""
    obj["apiVersion"], obj["kind"] = api_version, kind
    obj["metadata"].pop("managedFields", None)
    obj.pop("status", None)
    return obj


async def list_all(
    client: KubeClient, path: str, *, selector: str = "", cached: bool = False
) -> list[KubeObject]:
    """All pages of a list."""
    query = FROM_CACHE if cached else {"limit": str(_PAGE)}
    query = {**query, **({"labelSelector": selector} if selector else {})}
    items: list[KubeObject] = []
    while True:
        answer = await client.get(path, query=query, subject=path)
        items += answer.get("items") or []
        token = (answer.get("metadata") or {}).get("continue")
        if not token:
            return items
        query["continue"] = token
