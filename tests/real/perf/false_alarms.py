"""How often identical services raise an alarm, and how often a slower one is caught, by real runs.

Start it with `python -m tests.real.perf.false_alarms`.

A server of its own answers after a random delay; fortio drives it through the perf worker's own
adapter. Each comparison has runs of its own, in the order in which a gate makes them: three pairs
that alternate. Comparisons go in two lanes: a load of a hundred requests per second leaves a small
machine idle, and a delay is a timer, so that the lanes hardly disturb each other.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone

from services.perf.adapters.generators import FortioGenerator
from services.perf.comparison.comparing import LEAST_PAIRS, Comparison, Outcome, compare
from services.perf.definitions.loads import GeneratorName, Load, Protocol, Target
from services.perf.measurements.measurements import Measurement, StageResult
from services.perf.measurements.tallies import Tally
from services.perf.operations.alternating import Side, looks, turns
from tests.testbed.building import binary
from tests.testbed.loopback import HOST, take_port

_MEDIAN_S = 0.02
_SPREAD = 0.5
"""Standard deviation of the delay's logarithm: its p99 is three times its median."""
_CONNECTIONS = 8
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SLOWER = (1.3, 1.1)
_FURTHER = 3
_COLUMNS = (Outcome.REGRESSION, Outcome.IMPROVEMENT, Outcome.INCONCLUSIVE, Outcome.SAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    duration_s: float
    rate: float
    identical: int
    slower: int
    lanes: int


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers `GET /1.3` after a delay that is 30 % longer than that of `GET /1`."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            factor = float(head.split(b" ", 2)[1].lstrip(b"/"))
            await asyncio.sleep(random.lognormvariate(math.log(_MEDIAN_S), _SPREAD) * factor)
            writer.write(_ANSWER)
    writer.close()


async def measured(plan: Plan, *, port: int, factor: float, number: int) -> Measurement:
    """One run, as a worker would have measured it."""
    load = Load(
        target=Target(url=f"http://{HOST}:{port}/{factor:g}", protocol=Protocol.HTTP1),
        rate=plan.rate,
        duration_s=plan.duration_s,
        requests=round(plan.rate * plan.duration_s),
        connections=_CONNECTIONS,
    )
    tally, started = Tally(), datetime.now(timezone.utc)
    await FortioGenerator(str(binary("fortio"))).run(load, tally)
    seconds = (datetime.now(timezone.utc) - started).total_seconds()
    counts = tally.message()
    stage = StageResult(
        rate=plan.rate,
        duration_s=plan.duration_s,
        actual_rate=tally.requests / seconds,
        tally=counts,
    )
    return Measurement(
        run=f"{factor:g}-{number}",
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        started=started,
        duration_s=seconds,
        requested_duration_s=plan.duration_s,
        requested_rate=plan.rate,
        connections=_CONNECTIONS,
        workers=1,
        stages=[stage],
        tally=counts,
    )


async def compared(plan: Plan, *, port: int, factor: float, number: int) -> Comparison:
    """One comparison, as a gate makes it: with further pairs while it cannot tell."""
    runs: dict[Side, list[Measurement]] = {side: [] for side in Side}
    done = 0
    for pairs in looks(LEAST_PAIRS, _FURTHER):
        for turn in turns(done + 1, pairs, alternates=True):
            slower = factor if turn.side is Side.AFTER else 1.0
            runs[turn.side].append(
                await measured(plan, port=port, factor=slower, number=100 * number + turn.number)
            )
        done = pairs
        found = compare(
            runs[Side.BEFORE],
            runs[Side.AFTER],
            is_paired=True,
            looks=looks(LEAST_PAIRS, _FURTHER),
        )
        if found.verdict is not Outcome.INCONCLUSIVE:
            break
    print(f"{factor:g}, {number}: {found.headline}", file=sys.stderr, flush=True)
    return found


async def all_compared(plan: Plan) -> dict[float, list[Comparison]]:
    """Comparisons by how much slower the server is after the change."""
    port = take_port()
    lanes = asyncio.Semaphore(plan.lanes)

    async def one(factor: float, number: int) -> Comparison:
        async with lanes:
            return await compared(plan, port=port, factor=factor, number=number)

    wanted = {1.0: plan.identical} | dict.fromkeys(_SLOWER, plan.slower)
    async with await asyncio.start_server(serve, HOST, port), asyncio.TaskGroup() as group:
        tasks = {
            factor: [group.create_task(one(factor, number)) for number in range(count)]
            for factor, count in wanted.items()
        }
    return {factor: [task.result() for task in each] for factor, each in tasks.items()}


def table(plan: Plan, by: dict[float, list[Comparison]]) -> tuple[list[str], bool]:
    """Lines of a Markdown table, and whether no identical service raised an alarm."""
    lines = [
        f"{plan.duration_s:g} s at {plan.rate:g}/s, three pairs or more, in {plan.lanes} lanes",
        "",
        "| server | comparisons | regression | improvement | inconclusive | same | p50 |",
        "|---|---|---|---|---|---|---|",
    ]
    for factor, comparisons in by.items():
        if comparisons:
            verdicts = Counter(each.verdict for each in comparisons)
            counts = " | ".join(str(verdicts[one]) for one in _COLUMNS)
            name = "the same" if factor == 1 else f"{factor - 1:.0%} slower"
            lines.append(f"| {name} | {len(comparisons)} | {counts} | {_range(comparisons)} |")
    return lines, not any(each.verdict is Outcome.REGRESSION for each in by[1.0])


def _range(comparisons: Sequence[Comparison]) -> str:
    found = [change.change for each in comparisons for change in each.changes[:1]]
    return f"{min(found):+.1%} to {max(found):+.1%}" if found else "none"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.real.perf.false_alarms")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of each run")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second")
    parser.add_argument("--identical", type=int, default=20, help="comparisons of identical runs")
    parser.add_argument("--slower", type=int, default=5, help="comparisons with each slower server")
    parser.add_argument("--lanes", type=int, default=2, help="comparisons side by side")
    given = parser.parse_args(words)
    plan = Plan(
        duration_s=given.duration,
        rate=given.rate,
        identical=given.identical,
        slower=given.slower,
        lanes=given.lanes,
    )
    lines, is_quiet = table(plan, asyncio.run(all_compared(plan)))
    print("\n".join(lines))
    if not is_quiet:
        print("An identical service raised an alarm.")
    return 0 if is_quiet else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
