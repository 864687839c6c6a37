"""Child processes of the bed: leashed ones die with the test run, detached ones outlive it.

* **leashed** (the default): as the launcher has them (`deploy/local/processes.py`).
* **detached** (`make bed`): a session of its own; a record with pid and start time is written at
  once, so that `make bed-down` ends exactly this process and never one that got its pid later.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.processes import LaunchError, Process, tail, wait_until, wheel_binary

__all__ = [
    "BedError",
    "DetachedProcess",
    "Identity",
    "Process",
    "tail",
    "wait_until",
    "wheel_binary",
]

BedError = LaunchError
"""The bed could not do what was asked; the message says what, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process for certain: the kernel gives pids again, but not with the same start time."""

    name: str
    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int, *, name: str) -> Identity:
        """Identity of the process that runs under `pid` now."""
        status = _stat_of(pid)
        if status is None:
            raise BedError(f"{name} (pid {pid}) ended before it could be recorded")
        return cls(name=name, pid=pid, started_ticks=status[1])

    @classmethod
    def read(cls, record: Path) -> Identity:
        """Identity from the record that `write` left."""
        return cls(**json.loads(record.read_text()))

    def write(self, record: Path) -> None:
        """Leaves a record, whole or not at all."""
        record.parent.mkdir(parents=True, exist_ok=True)
        temporary = record.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(record)

    @property
    def is_running(self) -> bool:
        """Whether this very process still runs; a zombie that nobody reaped does not."""
        status = _stat_of(self.pid)
        return status is not None and status[0] not in "ZX" and status[1] == self.started_ticks

    def end(self, *, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after the grace. Does nothing when the process is gone already."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Checked after the pidfd is open: from here on, signals can only reach this process.
            if self.is_running:
                _end(descriptor, grace_s=grace_s)
        finally:
            os.close(descriptor)


def _stat_of(pid: int) -> tuple[str, int] | None:
    """State letter and start time in clock ticks since boot, or None when there is no process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _end(descriptor: int, *, grace_s: float) -> None:
    # A paused process gets SIGTERM only once it is continued.
    for number in (signal.SIGTERM, signal.SIGCONT):
        _signal(descriptor, number)
    if not select.select([descriptor], [], [], grace_s)[0]:
        _signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 10.0)


def _signal(descriptor: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


class DetachedProcess(Process):
    """One program that outlives its starter; `record` names the file that tells it later."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        record: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, command, log=log, environment=environment)
        self._record = record

    def start(self) -> None:
        super().start()
        Identity.of(self.pid, name=self.name).write(self._record)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return self._opened(self._command, new_session=True)
