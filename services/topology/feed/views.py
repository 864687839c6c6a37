"""The views of all clusters in this process, ready for answers: each item as its JSON text.

Texts take a third of the memory of decoded items, and an answer is a concatenation. The worker that
owns a cluster fills its own view; all others follow the feed on the bus (`adapters/feeds.py`), so
that every replica answers for every cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.topology.feed.deltas import Delta, Item, Parts


@dataclass(slots=True)
class ClusterView:
    """The parts of one cluster at one moment of its feed."""

    cluster: str
    epoch: int = 0
    number: int = 0
    parts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Part → id → the item's JSON."""
    size: int = 0
    """Bytes of all items."""

    def put(self, part: str, ident: str, item: Item | None) -> None:
        """Stores one item."""
        self.fill({part: {ident: item}})

    def fill(self, parts: Parts) -> None:
        """Stores items. Those of several views that are the same are kept once."""
        texts: dict[bytes, bytes] = {}
        for part, changed in parts.items():
            items = self.parts.setdefault(part, {})
            for ident, item in changed.items():
                before = items.get(ident, b"")
                if item is None:
                    items.pop(ident, None)
                    self.size -= len(before)
                    continue
                text = dumped(item)
                if text != before:
                    items[ident] = texts.setdefault(text, text)
                    self.size += len(text) - len(before)

    def apply(self, delta: Delta) -> None:
        """Takes over a delta of the feed."""
        self.epoch, self.number = delta.epoch, delta.number
        self.fill(delta.parts)

    def items(self, part: str) -> Mapping[str, bytes]:
        return self.parts.get(part, {})

    def item(self, part: str, ident: str) -> Item | None:
        """One item, decoded; None when it is not there."""
        text = self.items(part).get(ident)
        return None if text is None else dict(orjson.loads(text))

    def decoded(self, part: str) -> Iterator[Item]:
        for text in self.items(part).values():
            yield orjson.loads(text)


def dumped(value: Any) -> bytes:
    """JSON to keep: a copy, since orjson's own buffer was larger, and the allocator does not get
    the rest back."""
    return bytes(memoryview(orjson.dumps(value)))


Listener = Callable[[Delta], None]
"""Gets each delta after the view has it."""


@dataclass(slots=True)
class Views:
    """The views of all clusters, and the listeners to their deltas."""

    clusters: dict[str, ClusterView] = field(default_factory=dict)
    labels: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What each cluster's registration says that it is like; known also of one that nobody can
    reach."""
    _listeners: set[Listener] = field(default_factory=set)

    def labels_of(self, cluster: str) -> Mapping[str, str]:
        return self.labels.get(cluster, {})

    def view(self, cluster: str) -> ClusterView | None:
        return self.clusters.get(cluster)

    def replace(self, view: ClusterView) -> None:
        """A cluster's view is another one from now on; listeners take it anew."""
        self.clusters[view.cluster] = view
        self.notify(Delta(cluster=view.cluster, epoch=view.epoch, number=1, parts={}))

    def forget(self, cluster: str) -> None:
        """The cluster is not registered any more."""
        self.labels.pop(cluster, None)
        view = self.clusters.pop(cluster, None)
        if view is not None:
            self.notify(Delta(cluster=cluster, epoch=view.epoch, number=1, parts={}))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` for each delta from now on; returns the function that ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def notify(self, delta: Delta) -> None:
        for listener in list(self._listeners):
            listener(delta)
