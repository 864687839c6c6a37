"""Memory, files and threads of the services over the hours of a soak, and how they grow."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed.processes import Process

_EVERY_S = 10.0
_WARM_UP = 0.25
"""Share of the samples that are left out: caches fill and pools grow to their size."""
_HOUR_S = 3600.0
_EIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at one process."""

    at_s: float
    memory_mib: float
    files: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How a process developed after its warm-up."""

    name: str
    memory_mib: tuple[float, ...]
    """The median of each eighth of the whole time: a step is no slope."""
    memory_percent_per_hour: float
    files: tuple[int, int]
    """The median of the first and of the last quarter."""
    threads: tuple[int, int]


@dataclass(slots=True)
class Vitals:
    """Watches processes that live as long as the soak."""

    processes: Sequence[Process]
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    async def run(self, until: asyncio.Event) -> None:
        """Looks every ten seconds until told to end."""
        began = time.monotonic()
        while not until.is_set():
            for process in self.processes:
                found = _sample(process.pid, at_s=time.monotonic() - began)
                self.samples.setdefault(process.name, []).append(found)
            try:
                async with asyncio.timeout(_EVERY_S):
                    await until.wait()
            except TimeoutError:
                continue

    def growths(self) -> list[Growth]:
        """One for each process; raises `StatisticsError` when there was no time to see any."""
        return [_growth(name, samples) for name, samples in self.samples.items()]


def _sample(pid: int, *, at_s: float) -> Sample:
    folder = Path("/proc") / str(pid)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return Sample(
        at_s=at_s,
        memory_mib=int(status["VmRSS"].split()[0]) / 1024,
        files=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


def _growth(name: str, samples: Sequence[Sample]) -> Growth:
    warm = samples[int(len(samples) * _WARM_UP) :]
    line = statistics.linear_regression(
        [sample.at_s for sample in warm], [sample.memory_mib for sample in warm]
    )
    median = statistics.median(sample.memory_mib for sample in warm)
    quarter = max(1, len(warm) // 4)
    first, last = warm[:quarter], warm[-quarter:]
    return Growth(
        name=name,
        memory_mib=_eighths([sample.memory_mib for sample in samples]),
        memory_percent_per_hour=100 * line.slope * _HOUR_S / median,
        files=(_median(s.files for s in first), _median(s.files for s in last)),
        threads=(_median(s.threads for s in first), _median(s.threads for s in last)),
    )


def _eighths(values: Sequence[float]) -> tuple[float, ...]:
    size = max(1, len(values) // _EIGHT)
    pieces = [values[at : at + size] for at in range(0, len(values), size)]
    return tuple(statistics.median(piece) for piece in pieces[:_EIGHT])


def _median(values: Iterable[int]) -> int:
    return round(statistics.median(values))
