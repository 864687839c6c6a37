"""Which replica should watch which cluster: evenly, with few moves when replicas come and go.

Every replica computes it for itself from nothing but the clusters and the replicas that there are,
and the same comes out. It is rendezvous hashing with a bound on each load: of all pairs of a
cluster and a *seat* the one with the highest score goes first, and a seat that has its part gets no
more. Seats are numbers that replicas take when they start and leave to their successors: one that
restarts gets the clusters back that it had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b

_MOST_SCORES = 1 << 17


def shared(
    clusters: Iterable[str], *, rooms: Mapping[str, int], vacant: Collection[str] = ()
) -> dict[str, str]:
    """The seat of each cluster; a cluster for which there is no room is missing.

    `rooms` says how many clusters each seat may have. Where no room is short, no two seats differ
    by more than one. `vacant` are seats whose next replica is about to come: what will be theirs is
    lent to the others meanwhile, and nothing else moves.
    """
    wanted = sorted(set(clusters))
    homeless = wanted
    found: dict[str, str] = {}
    if vacant and rooms:
        hosts = {**dict.fromkeys(vacant, max(rooms.values())), **rooms}
        homes = _assigned(wanted, _parts(len(wanted), hosts))
        homeless = [cluster for cluster in wanted if homes.get(cluster) not in rooms]
        found = {cluster: seat for cluster, seat in homes.items() if seat in rooms}
    parts = _parts(len(wanted), rooms)
    for seat in found.values():
        parts[seat] -= 1
    return found | _assigned(homeless, parts)


def _assigned(clusters: Iterable[str], parts: Mapping[str, int]) -> dict[str, str]:
    """Clusters to seats by the score of the pair, the highest first, and no more than its part to
    each seat."""
    left = dict(parts)
    pairs = [(-_score(seat, cluster), cluster, seat) for cluster in clusters for seat in parts]
    found: dict[str, str] = {}
    for _, cluster, seat in sorted(pairs):
        if left[seat] > 0 and cluster not in found:
            found[cluster] = seat
            left[seat] -= 1
    return found


def _parts(count: int, rooms: Mapping[str, int]) -> dict[str, int]:
    """How many clusters each seat gets: the same for all that have the room, or one more."""
    parts = dict.fromkeys(sorted(rooms), 0)
    while count > 0:
        free = [seat for seat in parts if parts[seat] < rooms[seat]]
        if not free:
            break
        if count < len(free):
            for seat in free[:count]:
                parts[seat] += 1
            break
        each = min(count // len(free), min(rooms[seat] - parts[seat] for seat in free))
        for seat in free:
            parts[seat] += each
        count -= each * len(free)
    return parts


@lru_cache(maxsize=_MOST_SCORES)
def _score(seat: str, cluster: str) -> int:
    """How much a seat is the one for a cluster."""
    digest = blake2b(f"{seat}\0{cluster}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
