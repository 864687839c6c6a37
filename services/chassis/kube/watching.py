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
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from services.chassis.errors import (
    AnswerTooLarge,
    AnswerUnusable,
    ClusterFailed,
    ClusterForbidden,
    ClusterOverloaded,
    ClusterUnreachable,
    MeshbusError,
    ObjectInvalid,
    TooManyValues,
    WatchExpired,
)
from services.chassis.kube.client import JSON, KubeClient
from services.chassis.kube.objects import KubeObject
from services.chassis.kube.refusals import error_of
from services.chassis.reading.jsons import read_json

_PAGE = 500
_LEAST_PAGE = 1
_SERVER_TIMEOUT_S = 290
_INACTIVITY_S = 310.0
_INITIAL_SILENCE_S = 30.0
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 5.0
_EVENT_TYPES = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"})
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
    version: str = ""
    """The resource version up to which the collection is known with it."""


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
    size, read_bytes = _PAGE, 0
    page = dict(query)
    while True:
        page["limit"] = str(size)
        try:
            body = await client.request("GET", path, query=page, accept=accept)
            answer = body.decoded()
        except AnswerTooLarge:
            # Objects may have a MiB each; pages of such are made of fewer.
            if size <= _LEAST_PAGE:
                raise
            size = max(_LEAST_PAGE, size // 5)
            continue
        read_bytes += len(body.body)
        _refuse_endless(client, path, read_bytes)
        metadata, found = _page_of(answer, path)
        following = metadata.get("continue") or ""
        if following and streaming and client.serves_watch_list:
            try:
                return await _streamed(client, path, query, read)
            except (ObjectInvalid, ClusterUnreachable, ClusterFailed, ClusterOverloaded) as error:
                # Kubernetes 1.33 refuses it, and an old server takes it for a plain watch.
                if isinstance(error, ObjectInvalid):
                    client.serves_watch_list = False
        # Items of a list do not say what they are.
        kind = str(answer.get("kind", "")).removesuffix("List")
        for item in found:
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", answer.get("apiVersion"))
            items.append(read(item))
        if not following:
            return Listing(items, str(metadata.get("resourceVersion", "")))
        # The token says which version the list is of, and the server wants to hear it once.
        page.pop("resourceVersion", None)
        page["continue"] = following


def _refuse_endless(client: KubeClient, path: str, read_bytes: int) -> None:
    """A server may name a next page, or send a first object, for ever."""
    if read_bytes > client.bounds.list_bytes:
        raise AnswerTooLarge(
            f"{path}: the list has more than {client.bounds.list_bytes} bytes", subject=path
        )


def _page_of(answer: dict[str, Any], path: str) -> tuple[dict[str, Any], list[KubeObject]]:
    """The metadata and the items of a list; raises for what is no list."""
    metadata, items = answer.get("metadata") or {}, answer.get("items") or []
    is_list = isinstance(metadata, dict) and isinstance(items, list)
    if not is_list or not all(isinstance(item, dict) for item in items):
        raise AnswerUnusable(f"{path}: the answer is not a list of Kubernetes", subject=path)
    return metadata, items


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
        read_bytes = 0

        async def counted() -> AsyncGenerator[bytes, None]:
            nonlocal read_bytes
            async for chunk in content:
                read_bytes += len(chunk)
                _refuse_endless(client, path, read_bytes)
                yield chunk

        async for event in _events(counted(), path, client.bounds.line_bytes):
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
            yield Change(ChangeType.LISTED, {}, tuple(listing.items), listing.version)
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
        async for event in _events(content, path, client.bounds.line_bytes):
            obj = event["object"]
            version = str((obj.get("metadata") or {}).get("resourceVersion") or "")
            if event["type"] == "BOOKMARK":
                yield None, version
            else:
                yield Change(ChangeType(event["type"]), read(obj), version=version), version


async def _events(
    content: AsyncIterable[bytes], path: str, longest: int
) -> AsyncGenerator[dict[str, Any], None]:
    """Decoded lines of a watch, `longest` bytes at most; raises the error of an ERROR line."""
    pending: list[bytes] = []
    length = 0
    async for chunk in content:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            length += len(line)
            if length > longest:
                raise ClusterFailed(f"{path}: a watch line of more than {longest} bytes")
            text = b"".join([*pending, line]) if pending else line
            pending, length = [], 0
            if text.strip():
                yield _decoded(text, path)
        # Joined once, at its end: a line of megabytes comes in hundreds of pieces.
        pending.append(rest)
        length += len(rest)
        if length > longest:
            raise ClusterFailed(f"{path}: a watch line of more than {longest} bytes")


def _decoded(line: bytes, path: str) -> dict[str, Any]:
    try:
        event = read_json(line)
    except TooManyValues as error:
        raise ClusterFailed(f"{path}: a watch line: {error.summary}") from None
    except ValueError:
        raise ClusterFailed(f"{path}: a watch line that is not JSON") from None
    obj = event.setdefault("object", {}) if isinstance(event, dict) else None
    if not isinstance(obj, dict) or event.get("type") not in _EVENT_TYPES:
        raise ClusterFailed(f"{path}: a watch line that is not an event")
    if event["type"] == "ERROR":
        code = obj.get("code")
        known = code if isinstance(code, int) and code >= 400 else 500
        raise error_of(method="GET", code=known, headers={}, body=orjson.dumps(obj), subject=path)
    return {**event}
