"""What a process has used: its own processor time and its peak of memory, as the kernel counts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Weighing:
    """One process from a moment on, at which its peak of memory begins anew."""

    pid: int
    cpu_before_s: float
    memory_before_mib: float

    @classmethod
    def of(cls, pid: int) -> Weighing:
        # 5 resets the high-water mark: proc_pid_clear_refs(5).
        (Path("/proc") / str(pid) / "clear_refs").write_text("5")
        return cls(pid, _cpu_s(pid), _memory_mib(pid, "VmRSS"))

    def cpu_s(self) -> float:
        """Processor time since then."""
        return _cpu_s(self.pid) - self.cpu_before_s

    def peak_mib(self) -> float:
        """Most memory since then, above what there was."""
        return _memory_mib(self.pid, "VmHWM") - self.memory_before_mib


def _cpu_s(pid: int) -> float:
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_mib(pid: int, name: str) -> float:
    for line in (Path("/proc") / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)
