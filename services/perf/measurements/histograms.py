"""Latency histograms that merge slot by slot, so that percentiles are never averaged.

The layout is HdrHistogram's for 3 significant digits and microseconds: a slot is at most 0.1 %
wide, and the same value falls into the same slot in every worker. Counts are kept sparse, because
most of a run's thousands of histograms (one for each second of each shard) hold a few dozen values.
The library `hdrhistogram` keeps every slot of its range, 190 KB each; it is used for export only.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, PlainSerializer

from services.chassis.messages.models import Piece

_BITS = 11
_HALF = 1 << (_BITS - 1)
LONGEST_US = 3_600_000_000
"""One hour: longer values count as this."""


def slot_of(value_us: int) -> int:
    """Index of the slot that holds `value_us`."""
    shift = value_us.bit_length() - _BITS
    return value_us if shift <= 0 else shift * _HALF + (value_us >> shift)


def slot_range(slot: int) -> tuple[int, int]:
    """Lowest and highest value of a slot, in microseconds."""
    if slot < 2 * _HALF:
        return slot, slot
    shift = slot // _HALF - 1
    low = (slot - shift * _HALF) << shift
    return low, low + (1 << shift) - 1


class HistogramMessage(Piece):
    """A histogram as it travels: parallel lists of slots, ascending, and their counts."""

    slots: list[int] = Field(default_factory=list)
    counts: list[int] = Field(default_factory=list)
    total_us: int = 0
    squares: Annotated[int, PlainSerializer(str, when_used="json")] = 0
    """As text in JSON and msgpack: of long timeouts the sum outgrows 64 bits."""
    least_us: int = 0
    most_us: int = 0


@dataclass(slots=True)
class Histogram:
    """Counts by slot; sums are exact."""

    counts: dict[int, int] = field(default_factory=dict)
    count: int = 0
    total_us: int = 0
    squares: int = 0
    """Sum of the squared values."""
    least_us: int = 0
    most_us: int = 0

    def record(self, value_us: int, times: int = 1) -> None:
        """Counts a value of at least 0 microseconds."""
        value_us = min(value_us, LONGEST_US)
        shift = value_us.bit_length() - _BITS
        slot = value_us if shift <= 0 else shift * _HALF + (value_us >> shift)
        self.counts[slot] = self.counts.get(slot, 0) + times
        if value_us < self.least_us or not self.count:
            self.least_us = value_us
        if value_us > self.most_us:
            self.most_us = value_us
        self.count += times
        self.total_us += value_us * times
        self.squares += value_us * value_us * times

    def merge(self, other: Histogram) -> None:
        """Adds the counts of `other`."""
        self._add(other.counts.items(), other.count, other)

    def merge_message(self, message: HistogramMessage) -> None:
        """Adds the counts of a message; half the time of a histogram made of it and merged."""
        counts = zip(message.slots, message.counts, strict=True)
        self._add(counts, sum(message.counts), message)

    def _add(
        self,
        counts: Iterable[tuple[int, int]],
        count: int,
        other: Histogram | HistogramMessage,
    ) -> None:
        if not count:
            return
        mine = self.counts
        if mine:
            for slot, times in counts:
                mine[slot] = mine.get(slot, 0) + times
        else:
            mine.update(counts)
        self.least_us = min(self.least_us, other.least_us) if self.count else other.least_us
        self.most_us = max(self.most_us, other.most_us)
        self.count += count
        self.total_us += other.total_us
        self.squares += other.squares

    def ascending(self) -> Iterator[tuple[int, int]]:
        """Slots that hold something, with their counts."""
        return iter(sorted(self.counts.items()))

    def percentile_us(self, percentile: float) -> int:
        """The value that `percentile` (0 to 100) of the requests did not exceed; 0 when empty."""
        wanted = max(1, math.ceil(self.count * percentile / 100 - 1e-9))
        seen = 0
        for slot, count in self.ascending():
            seen += count
            if seen >= wanted:
                low, high = slot_range(slot)
                return max(self.least_us, min((low + high + 1) // 2, self.most_us))
        return self.most_us

    @property
    def mean_us(self) -> float:
        return self.total_us / self.count if self.count else 0.0

    @property
    def deviation_us(self) -> float:
        """Standard deviation of all requests."""
        if not self.count:
            return 0.0
        # In whole numbers, because the difference of two large floats would be mostly noise.
        return math.sqrt(self.count * self.squares - self.total_us**2) / self.count

    def message(self) -> HistogramMessage:
        ascending = list(self.ascending())
        return HistogramMessage(
            slots=[slot for slot, _ in ascending],
            counts=[count for _, count in ascending],
            total_us=self.total_us,
            squares=self.squares,
            least_us=self.least_us,
            most_us=self.most_us,
        )

    @classmethod
    def of(cls, message: HistogramMessage) -> Histogram:
        histogram = cls()
        histogram.merge_message(message)
        return histogram


_WORTH_ARRAYS = 8
"""From so many histograms on, adding them as arrays is faster than one after the other."""


def _joined(lists: Iterable[list[int]]) -> array[int]:
    """Numbers of many lists in one array; raises `OverflowError` for negative ones.

    numpy asks each number what it is; an array without a sign takes an eighth of that time, list by
    list, and a third of what one with a sign takes.
    """
    joined = array("Q")
    for numbers in lists:
        joined.fromlist(numbers)
    return joined


def summed(messages: Sequence[HistogramMessage]) -> Histogram:
    """One histogram of all: slot by slot, exactly."""
    total = Histogram()
    if len(messages) < _WORTH_ARRAYS:
        for message in messages:
            total.merge_message(message)
        return total
    # Only who merges a run needs it, and it is a tenth of a start.
    import numpy as np

    slots = np.frombuffer(_joined(m.slots for m in messages), dtype=np.int64)
    counts = np.frombuffer(_joined(m.counts for m in messages), dtype=np.int64)
    if slots.size:
        # Sums of whole numbers below 2^53: exact as floats.
        sums = np.bincount(slots, weights=counts)
        filled = np.flatnonzero(sums)
        whole = sums[filled].astype(np.int64)
        total.counts = dict(zip(filled.tolist(), whole.tolist(), strict=True))
        total.count = int(whole.sum())
    held = [message for message in messages if message.slots]
    total.total_us = sum(message.total_us for message in held)
    total.squares = sum(message.squares for message in held)
    total.least_us = min((message.least_us for message in held), default=0)
    total.most_us = max((message.most_us for message in held), default=0)
    return total
