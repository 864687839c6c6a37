"""Indices over labels, hosts and marks: which objects have them, and which select by them.

Matching every selector with every workload is quadratic; here a question costs as much as there are
answers to it, but for labels that all have in common.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.topology.cluster.hosts import patterns
from services.topology.cluster.objects import Labels
from services.topology.cluster.state import matches

T = TypeVar("T", bound=Hashable)
K = TypeVar("K", bound=Hashable)
Pair = tuple[str, str]
EVERYWHERE = "*"


@dataclass(slots=True)
class Labelled:
    """Names by the labels that they have, per namespace."""

    _names: dict[str, dict[str, Labels]] = field(default_factory=dict)
    _pairs: dict[str, dict[Pair, set[str]]] = field(default_factory=dict)

    def put(self, namespace: str, name: str, labels: Labels | None) -> None:
        """Sets the labels of a name; None forgets it."""
        names = self._names.setdefault(namespace, {})
        pairs = self._pairs.setdefault(namespace, {})
        for pair in names.pop(name, _NONE).items():
            found = pairs[pair]
            found.discard(name)
            if not found:
                del pairs[pair]
        if labels is not None:
            names[name] = labels
            for pair in labels.items():
                pairs.setdefault(pair, set()).add(name)
        if not names:
            del self._names[namespace], self._pairs[namespace]

    def find(self, namespace: str, selector: Labels) -> Iterator[tuple[str, str]]:
        """Namespace and name of those that a selector matches; an empty one matches all."""
        if namespace == EVERYWHERE:
            for space in self._names:
                yield from self.find(space, selector)
            return
        names = self._names.get(namespace, {})
        if not selector:
            yield from ((namespace, name) for name in names)
            return
        pairs = self._pairs.get(namespace, {})
        fewest = min((pairs.get(pair, _NOBODY) for pair in selector.items()), key=len)
        yield from ((namespace, name) for name in fewest if matches(selector, names[name]))


@dataclass(slots=True)
class Selectors(Generic[T]):
    """Selectors by one of their labels, per namespace or for all of them."""

    _buckets: dict[str, dict[Pair, dict[T, Labels]]] = field(default_factory=dict)
    _places: dict[tuple[str, T], list[Pair]] = field(default_factory=dict)

    def put(self, namespace: str, item: T, selectors: tuple[Labels, ...]) -> None:
        """Sets the selectors of an item, any of which may match; without any, forgets it."""
        buckets = self._buckets.setdefault(namespace, {})
        for pair in self._places.pop((namespace, item), ()):
            bucket = buckets.get(pair, {})
            bucket.pop(item, None)
            if not bucket:
                buckets.pop(pair, None)
        places = []
        for selector in selectors:
            # A label that few others select by; the order makes a tie fall always the same way.
            pair = min(sorted(selector.items()), key=lambda pair: len(buckets.get(pair, _NOBODY)))
            buckets.setdefault(pair, {})[item] = selector
            places.append(pair)
        if places:
            self._places[(namespace, item)] = places
        if not buckets:
            del self._buckets[namespace]

    def find(self, namespace: str, labels: Labels) -> Iterator[T]:
        """Items that select something with these labels."""
        buckets = self._buckets.get(namespace)
        if not buckets:
            return
        for pair in labels.items():
            for item, selector in buckets.get(pair, {}).items():
                if matches(selector, labels):
                    yield item


@dataclass(slots=True)
class TwoWay(Generic[T, K]):
    """Items by the keys that they have, and the keys of each item."""

    _keys: dict[T, tuple[K, ...]] = field(default_factory=dict)
    """Mostly a few each, of which a set would take four times the memory."""
    _items: dict[K, set[T]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Items that have any."""
        return len(self._keys)

    def put(self, item: T, keys: frozenset[K]) -> frozenset[K]:
        """Sets the keys of an item; returns the keys before."""
        before = frozenset(self._keys.pop(item, ()))
        for key in before - keys:
            items = self._items[key]
            items.discard(item)
            if not items:
                del self._items[key]
        for key in keys - before:
            self._items.setdefault(key, set()).add(item)
        if keys:
            self._keys[item] = tuple(keys)
        return before

    def having(self, key: K) -> Set[T]:
        """Items that have a key."""
        return self._items.get(key, frozenset())


class Named(TwoWay[T, str]):
    """Items by the hosts that they name, wildcards included."""

    __slots__ = ()

    def find(self, host: str) -> Iterator[T]:
        """Items that name a host, by its own name first, then by ever wider wildcards."""
        for pattern in patterns(host):
            yield from self.having(pattern)


_NONE: Mapping[str, str] = {}
_NOBODY: set[str] = set()
