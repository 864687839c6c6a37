"""Cutting a test into shards, so that the numbers of requests add up exactly.

Counts lead and rates follow: a stage is so many requests, shared among targets by weight and among
shards evenly, always in whole requests. Cutting the rate instead and letting each generator round
its own count was rejected: the total would then depend on how many workers happened to be free.

fortio makes at least two calls, and no more threads than half the calls. Loads are cut to that
measure, because a generator that quietly does something else would bend the figures. And every
shard has a load in every stage: a worker begins a stage when its own part of the one before has
ended, so one without a part would run ahead of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.errors import LoadTestMalformed
from services.perf.definitions.loads import LEAST_REQUESTS, Load, LoadTest, Shard, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class _Portion:
    """The share of one target in one stage."""

    index: int
    requests: int
    """0 where the stage has no rate."""
    connections: int

    @property
    def most_loads(self) -> int:
        """Each load needs a connection, and two requests where the stage has a rate."""
        if not self.requests:
            return self.connections
        return min(self.connections, max(1, self.requests // LEAST_REQUESTS))


def shards(test: LoadTest, workers: int, *, stages: Sequence[Stage] | None = None) -> list[Shard]:
    """At most `workers` shards, numbered from 1; each has a load in every stage.

    Raises `LoadTestMalformed` when there is nothing to send.
    """
    planned = list(test.stages if stages is None else stages)
    if not planned:
        raise LoadTestMalformed("the test has no stages")
    portions = [_portions(test, stage) for stage in planned]
    most = min(sum(portion.most_loads for portion in stage) for stage in portions)
    if not most:
        number = 1 + next(i for i, stage in enumerate(portions) if not stage)
        raise LoadTestMalformed(
            f"stage {number}: its rate and its duration come to no request",
            remedy="raise the rate or the duration",
        )
    count = max(1, min(workers, most))
    cut = [_cut(test, stage, parts, count) for stage, parts in zip(planned, portions, strict=True)]
    return [
        Shard(number=number + 1, stages=[stage[number] for stage in cut]) for number in range(count)
    ]


def apportioned(total: int, weights: Sequence[float], *, least: int = 0) -> list[int]:
    """`total` in whole numbers, by weight with the largest remainder, none below `least`.

    With a `total` that is too small for that, all get `least`.
    """
    whole = math.fsum(weights)
    quotas = [total * weight / whole for weight in weights]
    counts = [max(least, math.floor(quota)) for quota in quotas]
    excess = sum(counts) - total
    for _ in range(abs(excess)):
        if excess < 0:
            counts[max(range(len(counts)), key=lambda i: quotas[i] - counts[i])] += 1
            continue
        able = [i for i, number in enumerate(counts) if number > least]
        if not able:
            break
        counts[max(able, key=lambda i: counts[i] - quotas[i])] -= 1
    return counts


def _portions(test: LoadTest, stage: Stage) -> list[_Portion]:
    """Those of the targets that get something of the stage."""
    weights = [target.weight for target in test.targets]
    requests = [0] * len(weights)
    indexes = list(range(len(weights)))
    if stage.rate:
        requests = apportioned(stage.requests, weights)
        indexes = [index for index in indexes if requests[index]]
        if not indexes:
            return []
    connections = apportioned(test.connections, [weights[index] for index in indexes], least=1)
    return [
        _Portion(index=index, requests=requests[index], connections=number)
        for index, number in zip(indexes, connections, strict=True)
    ]


def _cut(
    test: LoadTest, stage: Stage, portions: Sequence[_Portion], count: int
) -> list[list[Load]]:
    """The loads of each of `count` shards.

    A target goes on with the shard after the last one that the former target got, so that those
    with few loads do not all meet in the first shards, and none is left without a load.
    """
    dealt: list[list[Load]] = [[] for _ in range(count)]
    place = 0
    for portion in portions:
        number = min(count, portion.most_loads)
        requests = _evenly(portion.requests, number)
        connections = _evenly(portion.connections, number)
        for share, most in zip(requests, connections, strict=True):
            threads = min(most, max(1, share // LEAST_REQUESTS)) if stage.rate else most
            load = Load(
                target=test.targets[portion.index],
                index=portion.index,
                rate=share / stage.duration_s,
                duration_s=stage.duration_s,
                requests=share,
                connections=threads,
            )
            dealt[place % count].append(load)
            place += 1
    return dealt


def _evenly(total: int, number: int) -> list[int]:
    share, more = divmod(total, number)
    return [share + (index < more) for index in range(number)]
