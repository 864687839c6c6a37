"""The report of a soak: what ran, what happened to it, what held."""

from __future__ import annotations

import platform
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.soak.load import Ledger
from tests.faults.soak.vitals import Growth

_MOST_GROWTH_PERCENT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished soak."""

    day: str
    hours: float
    seed: int
    cores: int
    ledger: Ledger
    faults: Counter[str]
    growths: Sequence[Growth]
    violations: Sequence[str]

    def markdown(self) -> str:
        """The page."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        accepted = self.ledger.accepted
        yield "# Soak"
        yield ""
        yield (
            "Written by `make soak`: a steady load of all kinds of operations on two clusters, "
            "under the faults of rows 1 to 7 of [the fault matrix](../explanation/faults.md) in a "
            "seeded order. What must hold is read from the streams."
        )
        yield ""
        yield (
            f"{self.day}, {self.hours:.2f} hours, seed {self.seed}, {self.cores} cores, "
            f"Python {platform.python_version()}."
        )
        yield ""
        yield "## What held"
        yield ""
        if self.violations:
            yield from (f"* **Violated:** {violation}" for violation in self.violations)
        else:
            yield f"* Accepted operations: {len(accepted)}; each ended exactly once."
            yield "* CMD holds no command, no record says running, DLQ holds the poison alone."
            yield "* No secret stands in a log or in NATS' files."
            yield "* Every route that was made of a TrafficSplit belongs to one that is there."
        yield ""
        yield "## Load"
        yield ""
        yield "| kind | accepted |"
        yield "|---|---|"
        for kind, count in sorted(Counter(a.kind for a in accepted).items()):
            yield f"| {kind} | {count} |"
        yield ""
        refused = ", ".join(
            f"{count} of {code}" for code, count in sorted(self.ledger.refused.items())
        )
        yield f"Refused, as they had to be (a busy mesh, a wrong request): {refused or 'none'}."
        if len(accepted) > 1:
            cuts = statistics.quantiles([a.seconds for a in accepted], n=100)
            yield (
                "From the first call to its answer, faults included: "
                f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98]:.1f} s."
            )
        yield ""
        yield "## Faults"
        yield ""
        yield "| fault | times |"
        yield "|---|---|"
        yield from (f"| {name} | {count} |" for name, count in sorted(self.faults.items()))
        yield ""
        yield "## Growth"
        yield ""
        yield (
            "Of the processes that were never killed, after the first quarter of the time; at most "
            f"{_MOST_GROWTH_PERCENT:g} % of memory an hour is the aim."
        )
        yield ""
        yield "| process | memory, MiB, by eighths | growth, % per hour | files | threads |"
        yield "|---|---|---|---|---|"
        for growth in self.growths:
            files = f"{growth.files[0]} → {growth.files[1]}"
            memory = ", ".join(f"{mib:.0f}" for mib in growth.memory_mib)
            threads = f"{growth.threads[0]} → {growth.threads[1]}"
            yield (
                f"| {growth.name} | {memory} "
                f"| {growth.memory_percent_per_hour:+.1f} | {files} | {threads} |"
            )
