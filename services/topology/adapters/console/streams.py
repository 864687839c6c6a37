"""Server-Sent Events: what waits for each browser, of all topics that it looks at, in one stream.

Everything that came in one turn of the event loop goes out in one write. A client that does not
read for half a minute is cut off; its browser comes back with the position that it had: of the
graph `EPOCH.NUMBER`, of operations `~SEQUENCE`, or both after each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set
from dataclasses import dataclass, field

from aiohttp import web

from services.chassis.errors import MalformedRequest, TooManyStreams, shortened
from services.topology.feed.deltas import View
from services.topology.feed.followers import Listener, Numbered
from services.topology.feed.following import Follower, Following, parsed_position
from services.topology.feed.totals import Fleet
from services.topology.feed.troubles import Troubles

_LONGEST_WRITE_S = 30.0
_RETRY = b"retry: 1000\n\n"
"""A browser tries again after so many milliseconds."""
FLEET, OPERATIONS, TROUBLES = "fleet", "operations", "troubles"
EVERY_CLUSTER = "*"
"""In the place of a cluster: the graphs of all, each with its own events. Such a stream begins anew
when it is opened again; its graph has no one position."""
TOPICS = frozenset({FLEET, OPERATIONS, TROUBLES})
"""What a client may follow beside the graph of one cluster."""


def topics_of(text: str) -> frozenset[str]:
    """The topics of a comma-separated list; raises `MalformedRequest`."""
    named = frozenset(filter(None, text.split(",")))
    if named - TOPICS:
        unknown = shortened(min(named - TOPICS))
        raise MalformedRequest(
            f"there is no topic {unknown!r}", remedy=f"ask for {', '.join(sorted(TOPICS))}"
        )
    return named


@dataclass(slots=True, kw_only=True)
class Streams:
    """All open streams of this process."""

    following: Following
    fleet: Fleet
    operations: Numbered
    troubles: Troubles
    most: int
    ping_every_s: float
    _open: set[asyncio.Transport] = field(default_factory=set)

    async def answer(
        self, request: web.Request, cluster: str, view: View, topics: Set[str] = frozenset()
    ) -> web.StreamResponse:
        """Sends until the client goes or the service ends."""
        transport = request.transport
        if transport is None:
            return web.Response()
        # What went away without a word still counts until its next ping; here it must not.
        if sum(not one.is_closing() for one in self._open) >= self.most:
            raise TooManyStreams(f"{self.most} clients follow the graph already")
        last = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        self._open.add(transport)
        share = _Share.of(self, cluster, view, topics=topics, last=last)
        try:
            await response.prepare(request)
            await response.write(_RETRY)
            await self._send(response, share)
        except (ConnectionError, TimeoutError):
            transport.abort()
        finally:
            share.leave()
            self._open.discard(transport)
        return response

    async def _send(self, response: web.StreamResponse, share: _Share) -> None:
        while not share.follower.is_closed:
            try:
                async with asyncio.timeout(self.ping_every_s):
                    await share.bell.wait()
                text = share.take()
            except TimeoutError:
                text = self.following.ping(share.follower)
            if text:
                async with asyncio.timeout(_LONGEST_WRITE_S):
                    await response.write(text)


@dataclass(slots=True)
class _Share:
    """One client's part of every topic that it follows, behind one bell."""

    streams: Streams
    follower: Follower
    listener: Listener | None = None
    has_fleet: bool = False
    troubles: Listener | None = None
    others: dict[str, Follower] | None = None
    """One for each cluster, where all are followed."""
    _first: list[bytes] = field(default_factory=list)

    @classmethod
    def of(
        cls, streams: Streams, cluster: str, view: View, *, topics: Set[str], last: str
    ) -> _Share:
        graph, _, number = last.partition("~")
        is_all = cluster == EVERY_CLUSTER
        after = None if is_all else parsed_position(graph)
        share = cls(streams, streams.following.follow("" if is_all else cluster, view, after=after))
        share.others = {} if is_all else None
        if OPERATIONS in topics:
            share._follow_operations(parsed_sequence(number))
        if FLEET in topics:
            share.has_fleet = True
            streams.fleet.listen(share.bell)
            share._first.append(streams.fleet.whole())
        if TROUBLES in topics:
            share.troubles = streams.troubles.topic.listen(share.bell)
            share._first.append(streams.troubles.whole())
        return share

    def _follow_operations(self, after: int | None) -> None:
        self.listener = self.streams.operations.listen(self.bell, after=after)
        if after is None:
            # Whoever has nothing yet asks for the state after this, and goes on here.
            begin = b'event: begin\nid: ~%d\ndata: {"topic":"operations"}\n\n'
            self._first.append(begin % self.listener.position)

    @property
    def bell(self) -> asyncio.Event:
        return self.follower.there_is_something

    def take(self) -> bytes:
        """All that waits; rings no more until something comes."""
        texts, self._first = self._first, []
        texts.append(self.streams.following.take(self.follower))
        if self.others is not None:
            texts += self._graphs(self.others)
        if self.listener is not None:
            texts.append(self.streams.operations.take(self.listener))
        if self.has_fleet:
            texts.append(self.streams.fleet.take(self.bell))
        if self.troubles is not None:
            texts.append(self._troubles(self.troubles))
        text = b"".join(texts)
        if self.listener is not None and text:
            # A frame's own id is of its topic alone, and a browser that comes back says the last.
            follower = self.follower
            graph = b"%d.%d" % follower.position if follower.cluster else b""
            text += b"id: %b~%d\n\n" % (graph, self.listener.position)
        return text

    def _graphs(self, others: dict[str, Follower]) -> list[bytes]:
        following, known = self.streams.following, self.streams.following.views.clusters
        for cluster in known.keys() - others.keys():
            others[cluster] = following.follow(cluster, self.follower.view, bell=self.bell)
        texts = [following.take(other) for other in others.values()]
        for cluster in others.keys() - known.keys():
            following.unfollow(others.pop(cluster))
        return texts

    def _troubles(self, listener: Listener) -> bytes:
        if not listener.has_missed:
            return self.streams.troubles.topic.take(listener)
        # More came than a slow browser may have waiting: all of it once more is shorter.
        listener.has_missed = False
        self.streams.troubles.topic.take(listener)
        return self.streams.troubles.whole()

    def leave(self) -> None:
        self.streams.following.unfollow(self.follower)
        for other in (self.others or {}).values():
            self.streams.following.unfollow(other)
        if self.listener is not None:
            self.streams.operations.leave(self.listener)
        self.streams.fleet.leave(self.bell)
        if self.troubles is not None:
            self.streams.troubles.topic.leave(self.troubles)


def parsed_sequence(text: str) -> int | None:
    """A place in a stream as a client says it; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
