"""Counts requests by the interval in which each began.

Two times are kept for each request. Its *duration* is what the generator measured, from sending to
the answer. Its *response time* begins when the constant rate wanted it sent: where a stalled target
holds up the requests behind it, the wait is in there too, and that is what makes the figure free of
coordinated omission.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from services.chassis.messages.models import Piece
from services.perf.measurements.histograms import Histogram, HistogramMessage, summed


class IntervalMessage(Piece):
    """One interval as it travels."""

    index: int
    durations: HistogramMessage
    responses: HistogramMessage = Field(default_factory=HistogramMessage)
    """Empty in counts of before 0.2."""
    codes: dict[str, int]
    failed: int

    @property
    def requests(self) -> int:
        return sum(self.durations.counts)


class TallyMessage(Piece):
    """A tally as it travels."""

    interval_s: float
    durations: HistogramMessage
    responses: HistogramMessage
    failures: HistogramMessage
    codes: dict[str, int]
    intervals: list[IntervalMessage] = Field(default_factory=list)
    """By ascending index. The steps of a search follow each other, as in time."""
    began_s: float | None = None
    ended_s: float = 0.0
    sockets: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    @property
    def requests(self) -> int:
        return sum(self.durations.counts)

    @property
    def failed(self) -> int:
        return sum(self.failures.counts)


@dataclass(slots=True)
class Interval:
    """The requests that began in one interval."""

    durations: Histogram = field(default_factory=Histogram)
    responses: Histogram = field(default_factory=Histogram)
    codes: Counter[str] = field(default_factory=Counter)
    """Answers by status code; what got none is "-1", as fortio has it."""
    failed: int = 0

    @classmethod
    def of(cls, messages: Sequence[IntervalMessage]) -> Interval:
        """The same interval of several tallies."""
        codes: Counter[str] = Counter()
        for message in messages:
            codes.update(message.codes)
        return cls(
            durations=summed([message.durations for message in messages]),
            responses=summed([message.responses for message in messages]),
            codes=codes,
            failed=sum(message.failed for message in messages),
        )


@dataclass(slots=True)
class Tally:
    """All requests of a generator, a shard or a run."""

    interval_s: float = 1.0
    durations: Histogram = field(default_factory=Histogram)
    responses: Histogram = field(default_factory=Histogram)
    failures: Histogram = field(default_factory=Histogram)
    """Durations of the failed requests, which are in `durations` as well."""
    codes: Counter[str] = field(default_factory=Counter)
    intervals: dict[int, Interval] = field(default_factory=dict)
    """By index: 0 is the one that begins with the run."""
    began_s: float | None = None
    """When the first request was sent, in seconds after the run's start."""
    ended_s: float = 0.0
    """When the last answer came, in seconds after the run's start."""
    sockets: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    @property
    def requests(self) -> int:
        return self.durations.count

    @property
    def failed(self) -> int:
        return self.failures.count

    def request(
        self, *, at_s: float, duration_us: int, late_us: int, code: str, is_ok: bool
    ) -> None:
        """Counts one request that was sent `at_s` after the run's start, `late_us` behind time."""
        self.durations.record(duration_us)
        response_us = duration_us + max(0, late_us)
        self.responses.record(response_us)
        self.codes[code] += 1
        self.ended_s = max(self.ended_s, at_s + duration_us / 1e6)
        if self.began_s is None or at_s < self.began_s:
            self.began_s = at_s
        index = max(0, int(at_s / self.interval_s))
        interval = self.intervals.get(index)
        if interval is None:
            interval = self.intervals[index] = Interval()
        interval.durations.record(duration_us)
        interval.responses.record(response_us)
        interval.codes[code] += 1
        if not is_ok:
            self.failures.record(duration_us)
            interval.failed += 1

    def merge(self, other: Tally) -> None:
        """Adds another tally of the same run and interval length."""
        self.durations.merge(other.durations)
        self.responses.merge(other.responses)
        self.failures.merge(other.failures)
        for index, theirs in other.intervals.items():
            mine = self.intervals.setdefault(index, Interval())
            mine.durations.merge(theirs.durations)
            mine.responses.merge(theirs.responses)
            mine.codes.update(theirs.codes)
            mine.failed += theirs.failed
        self._add_counts(other)

    def _add_counts(self, other: Tally | TallyMessage) -> None:
        """Adds all of a tally but its histograms and intervals."""
        self.codes.update(other.codes)
        if other.began_s is not None:
            began_s = other.began_s
            self.began_s = began_s if self.began_s is None else min(self.began_s, began_s)
        self.ended_s = max(self.ended_s, other.ended_s)
        self.sockets += other.sockets
        self.bytes_received += other.bytes_received
        self.bytes_sent += other.bytes_sent

    def interval_messages(self, *, since: int = 0) -> list[IntervalMessage]:
        """The intervals from index `since` on, in order."""
        return [
            IntervalMessage(
                index=index,
                durations=interval.durations.message(),
                responses=interval.responses.message(),
                codes=dict(interval.codes),
                failed=interval.failed,
            )
            for index, interval in sorted(self.intervals.items())
            if index >= since
        ]

    def message(self) -> TallyMessage:
        return TallyMessage(
            interval_s=self.interval_s,
            durations=self.durations.message(),
            responses=self.responses.message(),
            failures=self.failures.message(),
            codes=dict(self.codes),
            intervals=self.interval_messages(),
            began_s=self.began_s,
            ended_s=self.ended_s,
            sockets=self.sockets,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
        )

    def add_interval(self, message: IntervalMessage) -> None:
        """Takes an interval in place of what was there for it."""
        self.intervals[message.index] = Interval.of([message])


def merged(tallies: Iterable[TallyMessage], *, interval_s: float) -> Tally:
    """One tally of all; each must have intervals of this length."""
    messages = list(tallies)
    total = Tally(
        interval_s=interval_s,
        durations=summed([message.durations for message in messages]),
        responses=summed([message.responses for message in messages]),
        failures=summed([message.failures for message in messages]),
    )
    by_index: defaultdict[int, list[IntervalMessage]] = defaultdict(list)
    for message in messages:
        total._add_counts(message)
        for interval in message.intervals:
            by_index[interval.index].append(interval)
    total.intervals = {index: Interval.of(same) for index, same in by_index.items()}
    return total
