"""How often the gate's comparison raises a false alarm, and how often it catches what is there.

Start it with `make gate-simulation`, or `python -m tests.bench.gate`. Runs are simulated and read
by the comparison's own code; what happens between runs (their spread, a slow drift of the machine,
a service that is slower) makes all times of a run longer by a factor. So a pool of runs serves
thousands of comparisons, in the order in which the gate makes its runs.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.perf.comparison.comparing import Comparison, Outcome, judged
from services.perf.comparison.differences import TIMES, Sides
from services.perf.comparison.observations import Observation, observed
from services.perf.operations.alternating import looks
from tests.bench.simulated_runs import Floats, Service, simulated

LEVEL = 0.01
DRIFTS = (0.0, 0.02, 0.05, 0.1)
"""Standard deviations from run to run."""
MEMORIES = (0.5, 0.7, 0.9)
_PAIRS, _FURTHER = 3, 3
STALLS = {
    "none": Service(),
    "1 s in every 20": Service(stall_every_s=20.0),
    "by chance": Service(stall_every_s=20.0, has_random_stalls=True),
}
SLOWER = (1.05, 1.1, 1.3)

Pool = Sequence[Observation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What happens between the runs of a comparison."""

    drift: float
    is_slow: bool
    """The machine wanders, each run from where the one before it was; else each run is apart from
    the others by chance."""
    slower: float = 1.0
    """The service after the change."""

    def shifts(self, pairs: int, rng: np.random.Generator) -> Floats:
        """Of the logarithms, by pair and side."""
        steps = rng.normal(0, self.drift, 2 * pairs)
        # A walk whose first and last run of three pairs are the drift apart.
        in_time = np.cumsum(steps) / math.sqrt(2 * _PAIRS - 1) if self.is_slow else steps
        by_pair: Floats = in_time.reshape(pairs, 2)
        by_pair[1::2] = by_pair[1::2, ::-1]  # every second pair begins with the run after
        by_pair[:, 1] += math.log(self.slower)
        return by_pair


def shifted(run: Observation, shift: float) -> Observation:
    """The run with all times longer by a factor."""
    factor = math.exp(shift)
    times = {metric: run.figures[metric] * factor for metric in TIMES}
    return replace(run, figures={**run.figures, **times})


def comparisons(
    before: Pool, after: Pool, setting: Setting, rng: np.random.Generator
) -> Iterator[Comparison]:
    """One gate: what it finds at each of its looks, to the last one that it needs."""
    most = _PAIRS + _FURTHER
    shifts = setting.shifts(most, rng)
    sides = [
        [
            shifted(pool[index], shift)
            for index, shift in zip(rng.integers(len(pool), size=most), column, strict=True)
        ]
        for pool, column in ((before, shifts[:, 0]), (after, shifts[:, 1]))
    ]
    for pairs in looks(_PAIRS, _FURTHER):
        bare = Comparison(
            verdict=Outcome.INCONCLUSIVE, before=[], after=[], threshold=0.1, level=LEVEL
        )
        found = judged(
            bare,
            Sides(before=sides[0][:pairs], after=sides[1][:pairs], is_paired=True),
            looks=looks(_PAIRS, _FURTHER),
        )
        yield found
        if found.verdict is not Outcome.INCONCLUSIVE:
            return


@dataclass(slots=True)
class Rates:
    """Verdicts of some gates."""

    count: int = 0
    at_three: int = 0
    """Regressions at the first look."""
    regressions: int = 0
    improvements: int = 0
    inconclusive: int = 0
    pairs: int = 0

    def add(self, found: Sequence[Comparison]) -> None:
        self.count += 1
        self.at_three += found[0].verdict is Outcome.REGRESSION
        self.regressions += found[-1].verdict is Outcome.REGRESSION
        self.improvements += found[-1].verdict is Outcome.IMPROVEMENT
        self.inconclusive += found[-1].verdict is Outcome.INCONCLUSIVE
        self.pairs += _PAIRS + len(found) - 1

    def cells(self) -> str:
        shares = (self.at_three, self.regressions, self.improvements, self.inconclusive)
        told = " | ".join(f"{100 * share / self.count:.2f} %" for share in shares)
        return f"{told} | {self.pairs / self.count:.2f}"


def rates(before: Pool, after: Pool, setting: Setting, *, count: int, seed: int) -> Rates:
    found, rng = Rates(), np.random.default_rng(seed)
    for _ in range(count):
        found.add(list(comparisons(before, after, setting, rng)))
    return found


def pools(size: int) -> dict[tuple[float, str], Pool]:
    """Runs by the memory within them and their stalls."""
    found: dict[tuple[float, str], Pool] = {}
    for memory in MEMORIES:
        for name, stalls in STALLS.items():
            rng = np.random.default_rng(round(1000 * memory) + len(name))
            service = replace(stalls, memory=memory)
            found[memory, name] = [observed(simulated(service, rng)) for _ in range(size)]
            print(f"simulated {size} runs: memory {memory}, stalls {name}", file=sys.stderr)
    return found


_HEAD = "| at three pairs | in all | improvement | inconclusive | pairs |"


def told(by: dict[tuple[float, str], Pool], *, count: int) -> Iterator[str]:
    """The lines of the tables."""
    kinds = {False: "apart by", True: "wandering by"}
    yield f"Identical services, false alarms of {count} comparisons each:"
    yield ""
    yield f"| runs | memory | stalls {_HEAD}"
    yield "|---|---|---|---|---|---|---|---|"
    worst = 0.0
    for is_slow, kind in kinds.items():
        for drift in DRIFTS[is_slow:]:
            for (memory, stalls), pool in by.items():
                setting = Setting(drift=drift, is_slow=is_slow)
                found = rates(pool, pool, setting, count=count, seed=1)
                worst = max(worst, found.regressions / found.count)
                yield f"| {kind} {drift:.0%} | {memory} | {stalls} | {found.cells()} |"
    yield ""
    yield f"The highest rate of false alarms: {worst:.2%}."
    yield ""
    yield f"Services that did change, caught in {count} comparisons each:"
    yield ""
    yield f"| runs | memory | after the change {_HEAD}"
    yield "|---|---|---|---|---|---|---|---|"
    for is_slow, kind in kinds.items():
        for drift in DRIFTS[is_slow:]:
            for memory in (MEMORIES[0], MEMORIES[-1]):
                pool = by[memory, "none"]
                for slower in SLOWER:
                    setting = Setting(drift=drift, is_slow=is_slow, slower=slower)
                    found = rates(pool, pool, setting, count=count, seed=2)
                    name = f"{slower - 1:.0%} slower"
                    yield f"| {kind} {drift:.0%} | {memory} | {name} | {found.cells()} |"
                stalled = by[memory, "1 s in every 20"]
                setting = Setting(drift=drift, is_slow=is_slow)
                found = rates(pool, stalled, setting, count=count, seed=3)
                yield f"| {kind} {drift:.0%} | {memory} | stalls | {found.cells()} |"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.gate")
    parser.add_argument("--runs", type=int, default=500, help="simulated runs of each kind")
    parser.add_argument("--comparisons", type=int, default=2000, help="for each setting")
    given = parser.parse_args(words)
    for line in told(pools(given.runs), count=given.comparisons):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
