"""Followers of a cluster's graph, and the Server-Sent Events that wait for each of them.

A follower is at a position of the feed (epoch and number). A delta that continues it is queued; for
any other (a new epoch, a gap, a queue grown too long) the follower gets a snapshot when it next
takes something. Items are absolute, so a snapshot is never wrong, only larger, and a slow client
costs no more than its bound. The last deltas of each cluster are kept as texts, so that a client
that was away for a moment goes on where it was; more of them than a snapshot has are not, since a
snapshot is shorter then. A task per client that copies deltas was rejected: all clients of one view
share the same bytes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson

from services.topology.feed import rendering
from services.topology.feed.deltas import INFO_PART, Delta, View
from services.topology.feed.views import Views, dumped

Position: TypeAlias = tuple[int, int]
"""Epoch and number of the last delta that somebody has."""

_MOST_KEPT_BYTES = 4 << 20
_LEAST_KEPT_BYTES = 128 << 10
"""Of a cluster with hardly anything in it, whose deltas have more around than in them."""
_KEPT_DELTAS = 2_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One delta, ready to be sent."""

    position: Position
    time: str
    parts: dict[str, bytes]
    """Part → the JSON of its changed items by id."""

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))


@dataclass(slots=True)
class Ring:
    """The last deltas of one cluster, without a gap."""

    entries: deque[Entry] = field(default_factory=deque)
    size: int = 0

    def append(self, entry: Entry, *, snapshot_bytes: int = _MOST_KEPT_BYTES) -> None:
        """Keeps the next delta, and no more of them than a snapshot of so many bytes is worth."""
        if not self.entries or not continues(entry.position, self.entries[-1].position):
            self.clear()
        self.entries.append(entry)
        self.size += entry.size
        most = min(max(snapshot_bytes, _LEAST_KEPT_BYTES), _MOST_KEPT_BYTES)
        while self.entries and (self.size > most or len(self.entries) > _KEPT_DELTAS):
            self.size -= self.entries.popleft().size

    def clear(self) -> None:
        self.entries.clear()
        self.size = 0

    def after(self, position: Position) -> list[Entry] | None:
        """The deltas that follow a position; None when some of them are not kept."""
        if not self.entries or position[0] != self.entries[-1].position[0]:
            return None
        if not self.entries[0].position[1] - 1 <= position[1] <= self.entries[-1].position[1]:
            return None
        return [entry for entry in self.entries if entry.position > position]


def continues(later: Position, earlier: Position) -> bool:
    """Whether one is the next after the other."""
    return later == (earlier[0], earlier[1] + 1)


def parsed_position(text: str) -> Position | None:
    """`7.120` as a client says it; None for anything else."""
    epoch, _, number = text.partition(".")
    if not (epoch.isascii() and epoch.isdigit() and number.isascii() and number.isdigit()):
        return None
    return (int(epoch), int(number)) if len(text) <= 40 else None


_NOWHERE: Position = (0, 0)
_WAITING_BYTES = 1 << 20


@dataclass(slots=True, eq=False, kw_only=True)
class Follower:
    """One client. The sender waits for `there_is_something` and takes."""

    cluster: str
    """"" follows no cluster, only the list of them."""
    view: View
    position: Position = _NOWHERE
    there_is_something: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed: bool = False
    needs_snapshot: bool = False
    needs_clusters: bool = True
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0

    def put(self, position: Position, frame: bytes) -> None:
        """Queues the frame of a delta ("" when it has nothing for this view) where it fits."""
        if self.needs_snapshot:
            self.there_is_something.set()
            return
        if self.position[0] == position[0] and position <= self.position:
            return
        too_much = self.waiting_bytes + len(frame) > _WAITING_BYTES
        if too_much or not continues(position, self.position):
            self.resync()
            return
        self.position = position
        if frame:
            self.waiting.append(frame)
            self.waiting_bytes += len(frame)
            self.there_is_something.set()

    def resync(self) -> None:
        """Drops the waiting frames: a snapshot takes their place."""
        self.waiting.clear()
        self.waiting_bytes = 0
        self.needs_snapshot = True
        self.there_is_something.set()

    def drain(self) -> list[bytes]:
        frames, self.waiting, self.waiting_bytes = self.waiting, [], 0
        return frames


@dataclass(slots=True)
class Following:
    """All followers of all clusters."""

    views: Views
    _rings: dict[str, Ring] = field(default_factory=dict)
    _positions: dict[str, Position] = field(default_factory=dict)
    """What was told last. A view's own number runs ahead of that while its owner publishes."""
    _followers: set[Follower] = field(default_factory=set)
    _clusters: dict[str, tuple[object, object]] = field(default_factory=dict)
    """Name and state of each cluster as the followers know them."""
    _stop: Callable[[], None] | None = None

    def start(self) -> None:
        for cluster, view in self.views.clusters.items():
            self._positions[cluster] = (view.epoch, view.number)
        self._stop = self.views.listen(self._heard)

    def close(self) -> None:
        """Ends all followers."""
        if self._stop is not None:
            self._stop()
        for follower in self._followers:
            follower.is_closed = True
            follower.there_is_something.set()

    # --- following ------------------------------------------------------------------------------

    def follow(
        self,
        cluster: str,
        view: View,
        *,
        after: Position | None = None,
        bell: asyncio.Event | None = None,
    ) -> Follower:
        """A new follower, with all that it lacks since `after`. With `bell` it rings that one, and
        tells of its own cluster alone."""
        follower = Follower(cluster=cluster, view=view)
        if bell is not None:
            follower.there_is_something, follower.needs_clusters = bell, False
        self._followers.add(follower)
        follower.there_is_something.set()
        if not cluster:
            return follower
        missed = None if after is None else self._missed(cluster, after)
        if after is None or missed is None:
            follower.resync()
            return follower
        follower.position = after
        for entry in missed:
            follower.put(entry.position, _delta_frame(cluster, view, entry))
        return follower

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    def take(self, follower: Follower) -> bytes:
        """The waiting frames of a follower as one text; b"" without any."""
        follower.there_is_something.clear()
        frames = follower.drain()
        if follower.needs_snapshot:
            frames = [self._snapshot(follower)]
        if follower.needs_clusters:
            follower.needs_clusters = False
            frames.insert(0, b"event: clusters\ndata: %b\n\n" % rendering.clusters(self.views))
        return b"".join(frames)

    def ping(self, follower: Follower) -> bytes:
        """Keeps the connection, and says the position: deltas of other views moved it. A browser's
        script does not see comments, so there is an event for it to know that the line lives."""
        if not follower.cluster or follower.needs_snapshot:
            return b": ping\nevent: ping\ndata: {}\n\n"
        return b": ping\nevent: ping\nid: %d.%d\ndata: {}\n\n" % follower.position

    # --- the feed -------------------------------------------------------------------------------

    def _heard(self, delta: Delta) -> None:
        # `Views` says by an empty delta that a view was replaced.
        if delta.parts:
            self._pass_on(delta)
        else:
            self._begin(delta)
        if INFO_PART in delta.parts or not delta.parts:
            self._announce_clusters()

    def _begin(self, delta: Delta) -> None:
        """The whole view is another one, or gone."""
        cluster = delta.cluster
        self._rings.pop(cluster, None)
        self._positions.pop(cluster, None)
        view = self.views.view(cluster)
        if view is not None:
            self._positions[cluster] = (view.epoch, view.number)
        for follower in self._of(cluster):
            follower.resync()

    def _pass_on(self, delta: Delta) -> None:
        entry = Entry(
            (delta.epoch, delta.number),
            delta.time.isoformat(timespec="milliseconds"),
            {part: dumped(items) for part, items in delta.parts.items() if items},
        )
        self._positions[delta.cluster] = entry.position
        view = self.views.view(delta.cluster)
        self._rings.setdefault(delta.cluster, Ring()).append(
            entry, snapshot_bytes=view.size if view is not None else 0
        )
        frames: dict[View, bytes] = {}
        for follower in self._of(delta.cluster):
            if follower.view not in frames:
                frames[follower.view] = _delta_frame(delta.cluster, follower.view, entry)
            follower.put(entry.position, frames[follower.view])

    def _announce_clusters(self) -> None:
        """The list goes to everybody, but only when a name or a state in it changed."""
        known = {
            cluster: (info.get("name"), info.get("state"))
            for cluster, view in self.views.clusters.items()
            for info in [rendering.info(view)]
        }
        if known == self._clusters:
            return
        self._clusters = known
        for follower in self._followers:
            follower.needs_clusters = True
            follower.there_is_something.set()

    def _of(self, cluster: str) -> Iterator[Follower]:
        return (follower for follower in self._followers if follower.cluster == cluster)

    def _missed(self, cluster: str, after: Position) -> list[Entry] | None:
        if after == self._positions.get(cluster):
            return []
        ring = self._rings.get(cluster)
        return ring.after(after) if ring is not None else None

    def _snapshot(self, follower: Follower) -> bytes:
        view = self.views.view(follower.cluster)
        if view is None:
            # Still to be sent, should the cluster come back.
            name = orjson.dumps({"cluster": follower.cluster})
            return b"event: gone\ndata: %b\n\n" % name
        follower.needs_snapshot = False
        follower.position = self._positions.get(view.cluster, (view.epoch, view.number))
        text = rendering.snapshot(view, follower.view, position=follower.position)
        return b"event: snapshot\nid: %d.%d\ndata: %b\n\n" % (*follower.position, text)


def _delta_frame(cluster: str, view: View, entry: Entry) -> bytes:
    wanted = rendering.parts_of(view)
    found = [
        b'"%b":%b' % (name.encode(), entry.parts[part])
        for name, part in wanted.items()
        if part in entry.parts
    ]
    if not found:
        return b""
    head = rendering.head(cluster, view, position=entry.position)
    body = b",".join([head, b'"time":"%b"' % entry.time.encode(), *found])
    return b"event: delta\nid: %d.%d\ndata: {%b}\n\n" % (*entry.position, body)
