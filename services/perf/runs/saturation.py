"""Finding the highest rate that a target holds: which rate is tried next, and whether one held.

The search doubles the rate until one does not hold, then halves the gap. It takes for granted that
what does not hold at some rate does not hold at a higher one either. A single step can fail by
chance (a collector's pause, a busy machine), and a wrong failure would end the search far too low;
so a rate counts as failed only when it fails twice. A step that holds is believed: a target does
not become fast by chance. A rate at the very edge, which holds every other time, therefore counts
as held.

Stepping up by a fixed amount was rejected: between 10 and 10,000 requests per second it needs
either hundreds of steps or gives a coarse answer. Each step costs its whole duration.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.perf.definitions.loads import LEAST_PRECISION, Objective, Saturation, Stage
from services.perf.measurements.tallies import Tally


@dataclass(slots=True)
class Search:
    """One search. Ask for `next_rate`, try it, `record` how it went, until there is none."""

    saturation: Saturation
    _held: float = 0.0
    _failed: float | None = None
    _rate: float | None = None
    _is_doubted: bool = False
    """The rate has failed once and is tried again."""

    def __post_init__(self) -> None:
        self._rate = min(self.saturation.lowest, self.saturation.highest)

    def next_rate(self) -> float | None:
        """The rate to try now; None when the search has ended. It stays until `record`."""
        return self._rate

    def record(self, rate: float, holds: bool) -> None:
        """Takes the outcome of the rate that was asked for."""
        if self._rate is None or rate != self._rate:
            raise ValueError(f"the search did not ask for {rate:g} requests/s")
        if not holds and not self._is_doubted:
            self._is_doubted = True
            return
        self._is_doubted = False
        if holds:
            self._held = rate
        else:
            self._failed = rate
        self._rate = self._following()

    @property
    def result(self) -> float:
        """The highest rate that held so far; 0 when not even the lowest did."""
        return self._held

    def _following(self) -> float | None:
        held, failed = self._held, self._failed
        if failed is None:
            highest = self.saturation.highest
            return min(2 * held, highest) if held < highest else None
        if not held:
            return None
        precision = max(LEAST_PRECISION, self.saturation.precision)
        return (held + failed) / 2 if failed - held > precision * failed else None


def judge(
    stage: Stage, tally: Tally, *, duration_s: float, objective: Objective
) -> tuple[bool, str]:
    """Whether the stage held the objective, and if not, why.

    Response times count and not durations: a saturated target keeps requests waiting that were due
    long ago, and the durations do not show it. `duration_s` is how long the stage really took.
    """
    if not tally.requests:
        return False, "not one request was made"
    reasons = [*_slow(tally, objective), *_failed(tally, objective)]
    reasons += _behind(stage, tally.requests, duration_s=duration_s, objective=objective)
    return not reasons, "; ".join(reasons)


def _slow(tally: Tally, objective: Objective) -> list[str]:
    limits = {50: objective.p50_ms, 90: objective.p90_ms, 99: objective.p99_ms}
    reasons = []
    for percentile, limit_ms in limits.items():
        found_ms = tally.responses.percentile_us(percentile) / 1000
        if limit_ms is not None and found_ms > limit_ms:
            told = f"the p{percentile} response time is {found_ms:.4g} ms"
            reasons.append(f"{told}, the limit is {limit_ms:g} ms")
    return reasons


def _failed(tally: Tally, objective: Objective) -> list[str]:
    limit = objective.error_ratio
    share = tally.failed / tally.requests
    if limit is None or share <= limit:
        return []
    told = f"{tally.failed} of {tally.requests} requests failed ({100 * share:.3g} %)"
    return [f"{told}, the limit is {100 * limit:.3g} %"]


def _behind(stage: Stage, requests: int, *, duration_s: float, objective: Objective) -> list[str]:
    if not stage.rate:
        return []
    # Generators end a little early, with the last request.
    reached = requests / max(duration_s, stage.duration_s)
    share = reached / stage.rate
    if share >= objective.rate_ratio:
        return []
    told = f"{reached:.4g} of {stage.rate:g} requests/s were reached ({100 * share:.3g} %)"
    return [f"{told}, at least {100 * objective.rate_ratio:.3g} % are wanted"]
