"""Estimates by a block bootstrap over intervals how far a run's figures vary by its own events.

Requests that follow each other share a queue, a garbage collection, a noisy neighbour. So what is
drawn again are blocks of consecutive intervals, with all requests in them; their histograms are
added, and the figures are read from the sum. A p99 that rests on a single stall comes out of this
with a large error, because a third of the draws miss the stall.

It says nothing about other runs: how far those differ is taken from the runs' own figures, in
`differences`, where what is found here is the least that runs are taken to differ by.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.perf.comparison.metrics import LEAST, QUANTILES, Metric, span
from services.perf.measurements.histograms import HistogramMessage, slot_range
from services.perf.measurements.tallies import IntervalMessage, TallyMessage

Floats = npt.NDArray[np.float64]

RESAMPLES = 200
"""Draws: they tell an error to five in a hundred, which is more than a few runs can use."""
_MOST_ROWS = 120
_LEAST_INNER_ROWS = 3


def scaled(metric: Metric, value: Floats) -> Floats:
    """Logarithms, in which a tenth more and a tenth less are the same distance; of the share of
    failures the share itself, because it may be 0."""
    return value if metric is Metric.FAILED else np.log(np.maximum(value, LEAST))


@dataclass(frozen=True, slots=True)
class Stretch:
    """The consecutive rows of one stage: blocks are drawn within it only."""

    first: int
    rows: int

    @property
    def block(self) -> int:
        """Rows of a block: the cube root of their number, as theory has it for a variance, and
        half as much again, because short blocks make the error too small."""
        return min(math.ceil(1.5 * math.pow(self.rows, 1 / 3)), self.rows - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The intervals of a run as rows. Long runs have several intervals in a row."""

    values_us: Floats
    """Of each slot that holds something, ascending."""
    cumulative: Floats
    """Requests up to each slot, by slot and row."""
    requests: Floats
    total_us: Floats
    failed: Floats
    inner_s: Floats
    """Time of each row; 0 at the ends of a stage, where the rate rises and falls."""
    stretches: Sequence[Stretch]

    @property
    def has_rate(self) -> bool:
        return int(np.count_nonzero(self.inner_s)) >= _LEAST_INNER_ROWS

    def figures(self) -> dict[Metric, float]:
        """Of the run; times in microseconds."""
        ones = np.ones((1, len(self.requests)))
        return {metric: float(value[0]) for metric, value in self._figures(ones).items()}

    def variances(self) -> dict[Metric, float]:
        """Of the scaled figures, from run to run if only the drawn blocks differed."""
        drawn = self._figures(self._draw())
        found = {metric: float(np.var(scaled(metric, values))) for metric, values in drawn.items()}
        # No failure in any block is no proof that there could not have been one.
        count = float(self.requests.sum())
        share = (float(self.failed.sum()) + 1) / (count + 2)
        found[Metric.FAILED] = max(found[Metric.FAILED], share * (1 - share) / count)
        return found

    def _draw(self) -> Floats:
        """How often each row is in each resample: blocks that wrap around the stage's end."""
        generator = np.random.default_rng(self._seed())
        weights = np.zeros((RESAMPLES, len(self.requests)))
        offsets = np.arange(RESAMPLES)[:, np.newaxis]
        for stretch in self.stretches:
            n, length = stretch.rows, stretch.block
            starts = generator.integers(0, n, size=(RESAMPLES, math.ceil(n / length), 1))
            chosen = ((starts + np.arange(length)) % n).reshape(RESAMPLES, -1)[:, :n]
            counted = np.bincount((chosen + offsets * n).ravel(), minlength=RESAMPLES * n)
            weights[:, stretch.first : stretch.first + n] = counted.reshape(RESAMPLES, n)
        return weights

    def _seed(self) -> int:
        """The same runs give the same answer."""
        digest = hashlib.sha256()
        for array in (self.values_us, self.requests, self.total_us, self.failed):
            digest.update(array.tobytes())
        return int.from_bytes(digest.digest()[:8], "big")

    def _figures(self, weights: Floats) -> dict[Metric, Floats]:
        requests = np.maximum(weights @ self.requests, 1)
        seconds = weights @ self.inner_s
        counted = weights @ np.where(self.inner_s > 0, self.requests, 0)
        found = {metric: self._quantile(weights, q) for metric, q in QUANTILES.items()}
        found[Metric.MEAN] = weights @ self.total_us / requests
        found[Metric.FAILED] = weights @ self.failed / requests
        found[Metric.RATE] = counted / np.where(seconds > 0, seconds, 1)
        return found

    def _quantile(self, weights: Floats, share: float) -> Floats:
        """Searched for in all resamples at once, by halves: adding up whole histograms for each
        resample would cost a hundred times as much."""
        wanted = np.maximum(1, np.ceil(weights @ self.requests * share - 1e-9))
        low = np.zeros(len(weights), dtype=np.intp)
        high = np.full(len(weights), len(self.values_us) - 1, dtype=np.intp)
        while (low < high).any():
            middle = (low + high) // 2
            upto = np.einsum("ij,ij->i", weights, self.cumulative[middle])
            high = np.where(upto >= wanted, middle, high)
            low = np.where(upto >= wanted, low, np.minimum(middle + 1, high))
        return self.values_us[low]


def table(stages: Sequence[TallyMessage]) -> Table:
    """Of a run, as the tallies of its stages. Every stage must have `LEAST_ROWS` rows."""
    rows: list[Sequence[IntervalMessage]] = []
    inner_s: list[float] = []
    stretches: list[Stretch] = []
    together = math.ceil(sum(map(span, stages)) / _MOST_ROWS)
    for stage in stages:
        found = _rows(stage, together=together)
        stretches.append(Stretch(len(rows), len(found)))
        rows += found
        inner_s += [0.0, *[stage.interval_s * together] * (len(found) - 2), 0.0]
    return Table(
        **_counts(rows),
        requests=_sums(sum(i.requests for i in row) for row in rows),
        total_us=_sums(sum(_times(i).total_us for i in row) for row in rows),
        failed=_sums(sum(i.failed for i in row) for row in rows),
        inner_s=np.array(inner_s),
        stretches=stretches,
    )


def _rows(tally: TallyMessage, *, together: int) -> list[list[IntervalMessage]]:
    first = min(interval.index for interval in tally.intervals)
    rows: list[list[IntervalMessage]] = [[] for _ in range(math.ceil(span(tally) / together))]
    for interval in tally.intervals:
        rows[(interval.index - first) // together].append(interval)
    return rows


def _counts(rows: Sequence[Sequence[IntervalMessage]]) -> dict[str, Floats]:
    places = [
        (row, _times(interval)) for row, intervals in enumerate(rows) for interval in intervals
    ]
    slots, where = np.unique(
        np.concatenate([np.array(times.slots, dtype=np.int64) for _, times in places]),
        return_inverse=True,
    )
    counts = np.concatenate([np.array(times.counts, dtype=np.int64) for _, times in places])
    owners = np.repeat([row for row, _ in places], [len(times.slots) for _, times in places])
    table = np.zeros((len(slots), len(rows)))
    np.add.at(table, (where, owners), counts)
    values = [sum(slot_range(int(slot))) / 2 for slot in slots]
    return {"values_us": np.array(values), "cumulative": np.cumsum(table, axis=0)}


def _sums(values: Iterable[int]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _times(interval: IntervalMessage) -> HistogramMessage:
    """Response times, in which a stall is seen; durations where nothing else was kept."""
    return interval.responses if interval.responses.slots else interval.durations
