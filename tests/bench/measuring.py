"""Samples, medians and the table of a benchmark run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tests.testbed.stack import ROOT

_SHORT_S = 0.01
"""Below it a tenth of a millisecond counts."""


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(samples)
    rank = max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered) + 0.5) - 1))
    return ordered[rank]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same work by two tools, measured in turns; seconds."""

    name: str
    ours: Sequence[float]
    theirs: Sequence[float]
    their_name: str
    bar: float
    """Highest ratio of medians that counts as reached."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def row(self) -> str:
        verdict = "reached" if self.ratio <= self.bar else "**not reached**"
        return (
            f"| {self.name} | {spread(self.ours)} "
            f"| {self.their_name}: {spread(self.theirs)} "
            f"| {self.ratio:.2f} | ≤ {self.bar} | {verdict} |"
        )


def spread(samples: Sequence[float]) -> str:
    """The median of seconds, with the lowest and the highest."""
    least, most = min(samples), max(samples)
    digits = 3 if least >= _SHORT_S else 4
    middle = statistics.median(samples)
    return f"{middle:.{digits}f} s ({least:.{digits}f} to {most:.{digits}f})"


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Many samples of one thing; seconds."""

    name: str
    samples: Sequence[float]
    bar_p50_ms: float
    bar_p99_ms: float | None = None

    def row(self) -> str:
        p50 = percentile(self.samples, 50) * 1000
        p99 = percentile(self.samples, 99) * 1000
        reached = p50 <= self.bar_p50_ms and (self.bar_p99_ms is None or p99 <= self.bar_p99_ms)
        bar = f"p50 ≤ {self.bar_p50_ms} ms"
        if self.bar_p99_ms is not None:
            bar += f", p99 ≤ {self.bar_p99_ms} ms"
        verdict = "reached" if reached else "**not reached**"
        count = len(self.samples)
        return f"| {self.name} | {p50:.2f} ms | {p99:.2f} ms | {count} | {bar} | {verdict} |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak resident memory of a process; MiB."""

    name: str
    peak_mib: float
    bar_mib: float | None = None

    def row(self) -> str:
        if self.bar_mib is None:
            return f"| {self.name} | {self.peak_mib:.0f} MiB | | |"
        verdict = "reached" if self.peak_mib <= self.bar_mib else "**not reached**"
        return f"| {self.name} | {self.peak_mib:.0f} MiB | ≤ {self.bar_mib:.0f} MiB | {verdict} |"


def peak_memory_mib(pid: int | str) -> float:
    """VmHWM of a process; "self" is this one."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} tells no peak memory")


def circumstances() -> str:
    """When, of what and on what a page was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    today = datetime.now(timezone.utc).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[2]:.0f}"
    return f"{today}, commit {commit or 'unknown'}, {machine}"
