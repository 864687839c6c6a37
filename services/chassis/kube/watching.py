"""List and watch: the state of a collection, and then each change, for as long as it is read.

Three layers, each small: one connection (`_connection`), connections in a row from the last seen
version (`_continued`), and a new list whenever that version is gone (`watched`).
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from services.chassis.errors import (
    ClusterFailed,
    ClusterForbidden,
    ClusterOverloaded,
    ClusterUnreachable,
    WatchExpired,
)
from services.chassis.kube.client import KubeClient, error_of
from services.chassis.kube.objects import KubeObject

_PAGE = 500
_SERVER_TIMEOUT_S = 290
_INACTIVITY_S = 310.0
_LONGEST_LINE_BYTES = 32 * 1024 * 1024
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 5.0


class ChangeType(StrEnum):
    LISTED = "LISTED"
    """The state at the beginning, or again after the cluster forgot our place."""
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. For LISTED `items` is the whole collection and replaces what was known."""

    type: ChangeType
    obj: KubeObject
    items: tuple[KubeObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A collection at one resource version."""

    items: list[KubeObject]
    version: str


async def listed(
    client: KubeClient, path: str, *, query: Mapping[str, str] | None = None
) -> Listing:
    """The whole collection, page by page; starts over when the snapshot expires on the way."""
    while True:
        try:
            return await _pages(client, path, query or {})
        except WatchExpired:
            continue


async def _pages(client: KubeClient, path: str, query: Mapping[str, str]) -> Listing:
    items: list[KubeObject] = []
    following = ""
    while True:
        page = {**query, "limit": str(_PAGE)} | ({"continue": following} if following else {})
        answer = await client.get(path, query=page)
        # Items of a list do not say what they are.
        kind = str(answer.get("kind", "")).removesuffix("List")
        for item in answer.get("items") or []:
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", answer.get("apiVersion"))
            items.append(item)
        following = (answer.get("metadata") or {}).get("continue") or ""
        if not following:
            return Listing(items, str(answer["metadata"].get("resourceVersion", "")))


async def watched(
    client: KubeClient, path: str, *, query: Mapping[str, str] | None = None
) -> AsyncGenerator[Change, None]:
    """The collection, then its changes, without end; over disconnects, bookmarks and 410."""
    while True:
        listing = await listed(client, path, query=query)
        yield Change(ChangeType.LISTED, {}, tuple(listing.items))
        try:
            async for change in _continued(client, path, query or {}, listing.version):
                yield change
        except WatchExpired:
            await asyncio.sleep(random.uniform(0.0, _FIRST_DELAY_S))


async def _continued(
    client: KubeClient, path: str, query: Mapping[str, str], version: str
) -> AsyncGenerator[Change, None]:
    """Changes after `version`, over as many connections as it takes; raises `WatchExpired`."""
    delay, refused = _FIRST_DELAY_S, False
    while True:
        try:
            async for change, seen in _connection(client, path, query, version):
                version = seen
                delay = _FIRST_DELAY_S
                if change is not None:
                    yield change
        except (ClusterUnreachable, ClusterFailed, ClusterOverloaded):
            pass
        except ClusterForbidden:
            if refused:
                raise
            # A server that has just started has not read the roles yet: a plain request waits.
            refused = True
            await client.get(path, query={**query, "limit": "1"})
            continue
        refused = False
        # Also after an orderly end, when there was nothing: who asks on and on gets nothing more.
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, _LONGEST_DELAY_S)


async def _connection(
    client: KubeClient, path: str, query: Mapping[str, str], version: str
) -> AsyncGenerator[tuple[Change | None, str], None]:
    """What one connection brings, each with the version that it leads to."""
    asked = {
        **query,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(int(_SERVER_TIMEOUT_S * random.uniform(0.7, 1.0))),
    }
    async with client.stream(path, query=asked, read_timeout_s=_INACTIVITY_S) as content:
        pending = b""
        async for chunk in content.iter_any():
            lines = (pending + chunk).split(b"\n")
            pending = lines.pop()
            if len(pending) > _LONGEST_LINE_BYTES:
                raise ClusterFailed(f"{path}: a watch line without an end")
            for line in lines:
                if line.strip():
                    yield _read(line, path)


def _read(line: bytes, path: str) -> tuple[Change | None, str]:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ClusterFailed(f"{path}: a watch line that is not JSON") from None
    obj = event.get("object") or {}
    if event["type"] == "ERROR":
        code = int(obj.get("code") or 500)
        raise error_of(method="GET", code=code, headers={}, body=orjson.dumps(obj), subject=path)
    version = str((obj.get("metadata") or {}).get("resourceVersion") or "")
    if event["type"] == "BOOKMARK":
        return None, version
    return Change(ChangeType(event["type"]), obj), version
