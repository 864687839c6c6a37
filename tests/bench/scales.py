"""How much a run of the benchmarks measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Repeats, samples and sizes of one run."""

    turns: int
    """Of each pair; the least that a published page may stand on is 5."""
    quick_turns: int
    """Of pairs that take less than a second."""
    samples: int
    """Of each latency."""
    streams: int
    """Open event streams while the gateway's memory is read."""
    load_s: int
    """Length of a load beside the generator alone."""
    load_turns: int
    scaling_s: int
    """Length of a run to which workers come and from which they go."""
    rate_s: int
    """Length of each run that is as fast as possible."""
    services: tuple[int, ...]
    """Sizes of the watched cluster, ascending."""
    changes: int
    """Of a watched cluster, at each size."""
    drifts: int
    """Edits of applied objects."""
    clusters: int
    """Of the fleet that three replicas share."""
    fleet_services: int
    """In each of them."""
    fleet_changes: int
    """That happen in each of them."""
    cleans: bool = True
    """Whether Istio is removed where a measurement needs a cluster without it."""


def published(turns: int) -> Scale:
    """What the pages of docs/reference stand on."""
    return Scale(
        turns=turns,
        quick_turns=max(turns, 5),
        samples=300,
        streams=100,
        load_s=60,
        load_turns=2,
        scaling_s=10,
        rate_s=5,
        services=(100, 1000, 5000),
        changes=1000,
        drifts=20,
        clusters=100,
        fleet_services=100,
        fleet_changes=60,
    )


SMOKE = Scale(
    turns=1,
    quick_turns=1,
    samples=5,
    streams=5,
    load_s=1,
    load_turns=1,
    scaling_s=4,
    rate_s=1,
    services=(20,),
    changes=50,
    drifts=2,
    clusters=4,
    fleet_services=4,
    fleet_changes=5,
    cleans=False,
)
"""Only shows that every measurement can be made."""

SHORT = Scale(
    turns=1,
    quick_turns=5,
    samples=300,
    streams=100,
    load_s=4,
    load_turns=1,
    scaling_s=10,
    rate_s=5,
    services=(20,),
    changes=50,
    drifts=20,
    clusters=6,
    fleet_services=10,
    fleet_changes=20,
)
"""Everything once, as a person who changes something would look at it first."""
