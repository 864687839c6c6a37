"""List and watch: the state of a collection, and then each change, for as long as it is read.

Three layers, each small: one connection (`_connection`), connections in a row from the last seen
version (`_continued`), and a new list whenever that version is gone (`watched`).
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

A collection of one page is listed. A larger one comes as a stream of objects where the server has
that (WatchList), else page by page; `read` makes of each object what the caller keeps of it, so
that never more than a page of decoded JSON is in memory.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from aiohttp import StreamReader

from services.chassis.errors import (
    ClusterFailed,
    ClusterForbidden,
    ClusterOverloaded,
    ClusterUnreachable,
    MeshbusError,
    ObjectInvalid,
    WatchExpired,
)
from services.chassis.kube.client import JSON, KubeClient, error_of
from services.chassis.kube.objects import KubeObject

_PAGE = 500
_SERVER_TIMEOUT_S = 290
_INACTIVITY_S = 310.0
_INITIAL_SILENCE_S = 30.0
_LONGEST_LINE_BYTES = 32 * 1024 * 1024
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 5.0
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"

Read = Callable[[KubeObject], Any]
Trouble = Callable[[MeshbusError | None], None]
"""Told what interrupts a watch, and None when it goes on."""


def _as_it_is(obj: KubeObject) -> Any:
    return obj


class ChangeType(StrEnum):
    LISTED = "LISTED"
    """The state at the beginning, or again after the cluster forgot our place."""
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One change. For LISTED `items` is the whole collection and replaces the state so far.

    `obj` and `items` are what `read` made of the objects; those of a DELETED one as well.
    """

    type: ChangeType
    obj: Any
    items: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """A collection at one resource version."""

    items: list[Any]
    version: str


async def listed(
    client: KubeClient,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    read: Read = _as_it_is,
    accept: str = JSON,
) -> Listing:
    """The whole collection, page by page; starts over when the snapshot expires on the way."""
    delay = _FIRST_DELAY_S
    while True:
        try:
            return await _pages(client, path, query or {}, read, accept=accept)
        except WatchExpired:
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_DELAY_S)


async def _pages(
    client: KubeClient,
    path: str,
    query: Mapping[str, str],
    read: Read,
    *,
    streaming: bool = False,
    accept: str = JSON,
) -> Listing:
    items: list[Any] = []
    page = {**query, "limit": str(_PAGE)}
    while True:
        answer = await client.get(path, query=page, accept=accept)
        following = (answer.get("metadata") or {}).get("continue") or ""
        if following and streaming and client.serves_watch_list:
            try:
                return await _streamed(client, path, query, read)
            except (ObjectInvalid, ClusterUnreachable, ClusterFailed, ClusterOverloaded) as error:
                # Kubernetes 1.33 refuses it, and an old server takes it for a plain watch.
                if isinstance(error, ObjectInvalid):
                    client.serves_watch_list = False
        # Items of a list do not say what they are.
        kind = str(answer.get("kind", "")).removesuffix("List")
        for item in answer.get("items") or []:
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", answer.get("apiVersion"))
            items.append(read(item))
        if not following:
            return Listing(items, str(answer["metadata"].get("resourceVersion", "")))
        # The token says which version the list is of, and the server wants to hear it once.
        page.pop("resourceVersion", None)
        page["continue"] = following


async def _streamed(client: KubeClient, path: str, query: Mapping[str, str], read: Read) -> Listing:
    """The collection by a WatchList request, object by object."""
    asked = {
        **query,
        "watch": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(_SERVER_TIMEOUT_S),
    }
    items: dict[str, Any] = {}
    async with client.stream(path, query=asked, read_timeout_s=_INITIAL_SILENCE_S) as content:
        async for event in _events(content, path):
            metadata = event["object"].get("metadata") or {}
            if event["type"] == "BOOKMARK":
                if _INITIAL_EVENTS_END in (metadata.get("annotations") or {}):
                    return Listing(list(items.values()), str(metadata["resourceVersion"]))
            elif event["type"] == ChangeType.DELETED:
                items.pop(metadata.get("uid", ""), None)
            else:
                items[metadata.get("uid", "")] = read(event["object"])
    raise ClusterFailed(f"{path}: the initial events have no end")


async def watched(
    client: KubeClient,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    read: Read = _as_it_is,
    trouble: Trouble | None = None,
) -> AsyncGenerator[Change, None]:
    """The collection, then its changes, without end; over disconnects, bookmarks and 410."""
    delay = _FIRST_DELAY_S
    while True:
        try:
            listing = await _pages(client, path, query or {}, read, streaming=True)
            yield Change(ChangeType.LISTED, {}, tuple(listing.items))
            async for change in _continued(
                client, path, query or {}, listing.version, read, trouble
            ):
                delay = _FIRST_DELAY_S
                yield change
        except WatchExpired:
            # A server that expires everything at once must not be listed without end.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_DELAY_S)


async def _continued(
    client: KubeClient,
    path: str,
    query: Mapping[str, str],
    version: str,
    read: Read,
    trouble: Trouble | None,
) -> AsyncGenerator[Change, None]:
    """Changes after `version`, over as many connections as it takes; raises `WatchExpired`."""
    delay, refused = _FIRST_DELAY_S, False
    while True:
        try:
            async for change, seen in _connection(client, path, query, version, read, trouble):
                version = seen
                delay = _FIRST_DELAY_S
                if change is not None:
                    yield change
        except (ClusterUnreachable, ClusterFailed, ClusterOverloaded) as error:
            if trouble is not None:
                trouble(error)
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
    client: KubeClient,
    path: str,
    query: Mapping[str, str],
    version: str,
    read: Read = _as_it_is,
    trouble: Trouble | None = None,
) -> AsyncGenerator[tuple[Change | None, str], None]:
    """The changes of one connection, each with the resource version after it."""
    asked = {
        **query,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(int(_SERVER_TIMEOUT_S * random.uniform(0.7, 1.0))),
    }
    async with client.stream(path, query=asked, read_timeout_s=_INACTIVITY_S) as content:
        if trouble is not None:
            trouble(None)
        async for event in _events(content, path):
            obj = event["object"]
            version = str((obj.get("metadata") or {}).get("resourceVersion") or "")
            if event["type"] == "BOOKMARK":
                yield None, version
            else:
                yield Change(ChangeType(event["type"]), read(obj)), version


async def _events(content: StreamReader, path: str) -> AsyncGenerator[dict[str, Any], None]:
    """Decoded lines of a watch; raises the error of an ERROR line."""
    pending = b""
    async for chunk in content.iter_any():
        lines = (pending + chunk).split(b"\n")
        pending = lines.pop()
        if len(pending) > _LONGEST_LINE_BYTES:
            raise ClusterFailed(f"{path}: a watch line without an end")
        for line in lines:
            if line.strip():
                yield _decoded(line, path)


def _decoded(line: bytes, path: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ClusterFailed(f"{path}: a watch line that is not JSON") from None
    obj = event.setdefault("object", {})
    if event["type"] == "ERROR":
        code = int(obj.get("code") or 500)
        raise error_of(method="GET", code=code, headers={}, body=orjson.dumps(obj), subject=path)
    return event
