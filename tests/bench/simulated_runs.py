"""Runs of a simulated service whose truth is known, as the perf service would have measured them.

Durations are lognormal around a level that wanders within the run (an autoregression from second
to second). A stall freezes the service: what is due meanwhile is sent late and waits, as fortio
does it with its few connections, so that it shows in the response times and hardly in the
durations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.histograms import LONGEST_US, HistogramMessage
from services.perf.measurements.measurements import Measurement, StageResult
from services.perf.measurements.tallies import IntervalMessage, TallyMessage

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SPREAD = 0.5
"""Standard deviation of a duration's logarithm: the p99 is three times the median."""
_WANDER = 0.05
"""Standard deviation of the level within a run."""
_BITS = 11
_STARTED = datetime(2026, 9, 1, 12, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What runs are made of."""

    median_ms: float = 20.0
    memory: float = 0.5
    """Correlation of the level from one second to the next."""
    stall_every_s: float = 0.0
    """The service freezes for a second this often; 0 never does."""
    has_random_stalls: bool = False
    """They come by chance (Poisson), instead of on time."""
    rate: int = 100
    seconds: int = 30
    connections: int = 8


def simulated(service: Service, rng: np.random.Generator, *, name: str = "run") -> Measurement:
    """One run."""
    due = np.arange(service.seconds * service.rate) / service.rate
    level = _wandering(service, rng)[due.astype(np.int64)]
    noise = rng.normal(0, _SPREAD, len(due))
    durations = service.median_ms * 1000 * np.exp(level + noise)
    sent, responses = due.copy(), durations.copy()
    for begins in _stalls(service, rng):
        held = np.flatnonzero((due >= begins) & (due < begins + 1.0))
        wait_s = begins + 1.0 - due[held]
        responses[held] += wait_s * 1e6
        on_the_wire, behind = held[: service.connections], held[service.connections :]
        durations[on_the_wire] += wait_s[: service.connections] * 1e6
        sent[behind] = begins + 1.0
    return _measurement(service, sent, (durations, responses), name=name)


def _wandering(service: Service, rng: np.random.Generator) -> Floats:
    level = np.empty(service.seconds)
    here = rng.normal(0, _WANDER)
    fresh = rng.normal(0, _WANDER * np.sqrt(1 - service.memory**2), service.seconds)
    for index in range(service.seconds):
        here = service.memory * here + fresh[index]
        level[index] = here
    return level


def _stalls(service: Service, rng: np.random.Generator) -> Sequence[float]:
    """When each begins."""
    every = service.stall_every_s
    if not every:
        return []
    last = service.seconds - 1.0
    if service.has_random_stalls:
        return list(rng.uniform(0, last, rng.poisson(service.seconds / every)))
    return [at for at in np.arange(rng.uniform(0, every), service.seconds, every) if at <= last]


def _measurement(
    service: Service, sent: Floats, times: tuple[Floats, Floats], *, name: str
) -> Measurement:
    durations, responses = (np.rint(each).astype(np.int64) for each in times)
    second = np.minimum(sent.astype(np.int64), service.seconds - 1)
    intervals = [
        IntervalMessage(
            index=index,
            durations=_histogram(durations[second == index]),
            responses=_histogram(responses[second == index]),
            codes={"200": int((second == index).sum())},
            failed=0,
        )
        for index in np.unique(second).tolist()
    ]
    counts = TallyMessage(
        interval_s=1.0,
        durations=_histogram(durations),
        responses=_histogram(responses),
        failures=HistogramMessage(),
        codes={"200": len(durations)},
        intervals=intervals,
    )
    seconds, rate = float(service.seconds), float(service.rate)
    return Measurement(
        run=name,
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        started=_STARTED,
        duration_s=seconds,
        requested_duration_s=seconds,
        requested_rate=rate,
        connections=service.connections,
        workers=1,
        stages=[StageResult(rate=rate, duration_s=seconds, actual_rate=rate, tally=counts)],
        tally=counts,
    )


def _histogram(values: Ints) -> HistogramMessage:
    """As `Histogram.record` counts, for many values at once."""
    if not len(values):
        return HistogramMessage()
    values = np.minimum(values, LONGEST_US)
    shift = np.maximum(0, np.frexp(values.astype(np.float64))[1] - _BITS)
    slots, counts = np.unique(shift * (1 << (_BITS - 1)) + (values >> shift), return_counts=True)
    return HistogramMessage(
        slots=slots.tolist(),
        counts=counts.tolist(),
        total_us=int(values.sum()),
        squares=int((values.astype(object) ** 2).sum()),
        least_us=int(values.min()),
        most_us=int(values.max()),
    )
